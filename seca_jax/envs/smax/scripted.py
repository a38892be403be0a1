"""Scripted allies: yardsticks that show a map can be won, and by what kind of play.

A policy is ``(key, battle, state, avail [B, N, A]) -> action [B, N]``; it sees the whole battle.
"""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.smax.battle import NUM_MOVES, STOP, Battle, State, figure
from seca_jax.envs.smax.physics import FAR, heading
from seca_jax.envs.smax.scenarios import MAP_SIZE

LOOK_AHEAD = 3.5  # cells, how far a fleeing unit thinks a step in each direction through
MARGIN = 2.0  # cells from the map's edge where a fleeing unit does not go
DANGER = 2.0  # cells beyond an enemy's range at which a unit starts to flee
TOO_FAR = 40.0  # cells, no two points of the map are further apart by much


def _weakest(battle: Battle, state: State, attack: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each ally's target of lowest health: ``attack [N, A - 5, B]`` -> slot, and whether any, ``[N, B]``.

    Everybody breaks ties alike, so fire is focused. For a healer it is the friend in greatest need.
    """
    num_allies = battle.num_allies
    padding = ((0, attack.shape[1] - battle.num_enemies), (0, 0))
    health = jnp.broadcast_to(jnp.pad(state.health[num_allies:], padding), attack.shape)
    share = state.health / figure(battle, state.unit_type, "health")
    for index in np.flatnonzero(battle.heals[:num_allies]):
        friends = share[np.delete(np.arange(num_allies), index)]
        row = jnp.pad(friends, ((0, attack.shape[1] - friends.shape[0]), (0, 0)))
        health = health.at[index].set(row)
    return jnp.argmin(jnp.where(attack, health, FAR), axis=1), attack.any(axis=1)


def _way(battle: Battle, ax: jax.Array, ay: jax.Array, bx: jax.Array, by: jax.Array) -> jax.Array:
    """Length of the way between two points, by the ramp where a ridge lies between.

    Across the ridge claws still reach, so short straight lines count as they are.
    """
    straight = jnp.sqrt((ax - bx) ** 2 + (ay - by) ** 2)
    ridge = battle.scenario.ridge
    if ridge is None:
        return straight
    middle, ramp = (ridge.south + ridge.north) / 2, (ridge.ramp_west + ridge.ramp_east) / 2
    round_about = jnp.abs(ax - ramp) + jnp.abs(bx - ramp) + jnp.abs(ay - by)
    return jnp.where(((ay > middle) == (by > middle)) | (straight < 2.5), straight, round_about)


def _advance(battle: Battle, state: State) -> jax.Array:
    """Each ally's move towards the closest foe (a healer's: friend), ``[N, B]``."""
    num_allies = battle.num_allies
    dx = state.x[None] - state.x[:num_allies, None]
    dy = state.y[None] - state.y[:num_allies, None]
    wanted = battle.may_hit[:num_allies].copy()
    for index in np.flatnonzero(battle.heals[:num_allies]):
        wanted[index, :num_allies] = ~battle.heals[:num_allies]
    distance = jnp.where(wanted[..., None] & (state.health > 0)[None], jnp.sqrt(dx * dx + dy * dy), FAR)
    closest = jnp.argmin(distance, axis=1, keepdims=True)
    to_x = jnp.take_along_axis(dx, closest, axis=1)[:, 0]
    to_y = jnp.take_along_axis(dy, closest, axis=1)[:, 0]
    return jnp.argmax(jnp.stack([to_y, to_x, -to_y, -to_x]), axis=0)


def _flee(battle: Battle, state: State) -> tuple[jax.Array, jax.Array]:
    """The move of each ally that keeps its threats furthest away, and whether one is too close: ``[N, B]``.

    A threat is a living enemy that the ally outranges: from the others there is nothing to be gained.
    """
    num_allies = battle.num_allies
    east, north = heading(jnp.arange(NUM_MOVES))
    x = state.x[:num_allies] + LOOK_AHEAD * east[:, None, None]  # [moves, N, B]
    y = state.y[:num_allies] + LOOK_AHEAD * north[:, None, None]
    reach = battle.table.attack_range[battle.types]
    lead = np.where(reach[num_allies:] < reach[:num_allies, None], -reach[num_allies:], TOO_FAR)  # [N, E]
    foes = slice(num_allies, None)
    lead = lead[..., None] + jnp.where((state.health > 0)[foes], 0.0, TOO_FAR)
    room = jnp.min(_way(battle, x[:, :, None], y[:, :, None], state.x[foes], state.y[foes]) + lead, axis=2)
    inside = (jnp.minimum(x, y) > MARGIN) & (jnp.maximum(x, y) < MAP_SIZE - MARGIN)
    move = jnp.argmax(jnp.where(inside, room, -TOO_FAR), axis=0)
    return move, room[STOP] < DANGER


def focus_fire(key: jax.Array, battle: Battle, state: State, avail: jax.Array) -> jax.Array:
    """Shoot the weakest enemy in range, else walk up to the closest one; healers heal the neediest."""
    avail = avail.transpose(1, 2, 0)
    slot, any_target = _weakest(battle, state, avail[:, NUM_MOVES:])
    action = jnp.where(any_target, slot + NUM_MOVES, _advance(battle, state))
    return jnp.where(avail[:, 0], action, STOP).T.astype(jnp.int32)


def kite(key: jax.Array, battle: Battle, state: State, avail: jax.Array) -> jax.Array:
    """Focus fire, but between two shots step back from whoever comes too close. For fixed line-ups."""
    avail = avail.transpose(1, 2, 0)
    slot, any_target = _weakest(battle, state, avail[:, NUM_MOVES:])
    move, danger = _flee(battle, state)
    loaded = state.cooldown[: battle.num_allies] <= 0.1
    walk = jnp.where(danger, move, jnp.where(any_target, STOP, _advance(battle, state)))
    action = jnp.where(any_target & loaded, slot + NUM_MOVES, walk)
    return jnp.where(avail[:, 0], action, STOP).T.astype(jnp.int32)


def random(key: jax.Array, battle: Battle, state: State, avail: jax.Array) -> jax.Array:
    """An available action at random."""
    return jnp.argmax(jnp.where(avail, jax.random.uniform(key, avail.shape), -1.0), axis=-1).astype(jnp.int32)


POLICIES: dict[str, Callable[..., jax.Array]] = {"random": random, "focus_fire": focus_fire, "kite": kite}


class Tally(NamedTuple):
    """How each of ``B`` battles went."""

    won: jax.Array  # [B] bool
    reward: jax.Array  # [B] summed, as scaled by the environment
    length: jax.Array  # [B] int32, transitions


def play(act: Callable, step: Callable, state: Any, key: jax.Array, num_envs: int, max_steps: int) -> Tally:
    """Play ``num_envs`` battles to their end.

    ``act(key, state) -> action``; ``step(key, state, action) -> (state, reward, ended, won)``, each ``[B]``.
    """

    def body(carry: tuple[Any, Tally, jax.Array], key: jax.Array) -> tuple[Any, None]:
        state, tally, live = carry
        act_key, step_key = jax.random.split(key)
        state, reward, ended, won = step(step_key, state, act(act_key, state))
        tally = Tally(tally.won | (live & won), tally.reward + live * reward, tally.length + live)
        return (state, tally, live & ~ended), None

    none = jnp.zeros(num_envs, bool)
    start = Tally(none, jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32))
    (_, tally, _), _ = jax.lax.scan(body, (state, start, ~none), jax.random.split(key, max_steps))
    return tally
