"""The scripted opponent (jaxmarl's ``create_heuristic_policy``), driven from the state.

Shoot the same ally until it dies or leaves the range, then the closest (or a random) one in range;
with nobody in range walk towards a random ally in sight, else towards the point opposite to where
the unit stood first.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.smax.battle import NUM_MOVES, STOP, Battle, State, figure
from seca_jax.envs.smax.scenarios import MAP_SIZE, Ridge

FOLLOW = 1.5  # cells, a healer with nobody to heal keeps this close to the next friend


def _first(mask: list[jax.Array]) -> jax.Array:
    """Lowest slot whose plane ``[E, B]`` is true, else 0. Chains of selects fuse, reductions do not."""
    slot = jnp.zeros(mask[0].shape, jnp.int32)
    for index in reversed(range(len(mask))):
        slot = jnp.where(mask[index], index, slot)
    return slot


def _drawn(mask: jax.Array, uniform: jax.Array) -> list[jax.Array]:
    """One true slot of ``mask [E, N, B]``, drawn by ``uniform [E, B]``, as a plane ``[E, B]`` per slot.

    It is the first slot whose share of the true slots so far reaches ``1 - uniform``, which is how
    ``jax.random.choice`` inverts its cumulative sum. All false without a true slot.
    """
    planes = [mask[:, index] for index in range(mask.shape[1])]
    wanted = (1 - uniform) * sum(plane.astype(jnp.float32) for plane in planes)
    rank, drawn = jnp.zeros(uniform.shape), []
    for plane in planes:
        reached = rank + plane
        drawn.append(plane & (rank < wanted) & (reached >= wanted))
        rank = reached
    return drawn


def _at(planes: jax.Array, chosen: list[jax.Array]) -> jax.Array:
    """``planes [E, N, B]`` where ``chosen``, a plane per slot, is true -> ``[E, B]``."""
    return jnp.asarray(sum(jnp.where(plane, planes[:, index], 0.0) for index, plane in enumerate(chosen)))


def _towards(dx: jax.Array, dy: jax.Array) -> jax.Array:
    """The move most alike the way ``(dx, dy)``; ties go to the lower number."""
    most = jnp.maximum(jnp.abs(dx), jnp.abs(dy))
    return jnp.where(dy == most, 0, jnp.where(dx == most, 1, jnp.where(-dy == most, 2, 3)))


def _over_ridge(
    ridge: Ridge, x: jax.Array, y: jax.Array, dx: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The way ``(dx, dy)`` from ``(x, y)``, by the ramp if the ridge is between here and there."""
    middle, ramp = (ridge.south + ridge.north) / 2, (ridge.ramp_west + ridge.ramp_east) / 2
    north = y + dy > middle
    on_band = (y > ridge.south) & (y < ridge.north)
    across = on_band | ((y > middle) != north)
    at_ramp = (x > ridge.ramp_west) & (x < ridge.ramp_east)
    ahead = jnp.where(north, MAP_SIZE, -MAP_SIZE)
    to_x = jnp.where(across, jnp.where(at_ramp, 0.0, ramp - x), dx)
    return to_x, jnp.where(across, jnp.where(at_ramp, ahead, 0.0), dy)


def _heal(battle: Battle, state: State, index: int, goal_x: jax.Array, goal_y: jax.Array) -> jax.Array:
    """Action ``[B]`` of enemy unit ``index``, a healer.

    It heals the friend in sight with the lowest share of its health, walking up to it first; while
    all are well it keeps near the closest friend; alone it walks like the others.
    """
    full = figure(battle, state.unit_type, "health")
    sight, reach = battle.table.sight[battle.types[index]], battle.table.attack_range[battle.types[index]]
    x, y = state.x[index], state.y[index]
    hurt_share = jnp.ones(x.shape)
    closest = jnp.full(x.shape, sight)
    slot = jnp.full(x.shape, -1, jnp.int32)
    to_x, to_y, by_x, by_y = goal_x - x, goal_y - y, goal_x - x, goal_y - y
    friends = [unit for unit in reversed(range(battle.num_allies, battle.num_units)) if unit != index]
    for number, friend in enumerate(friends):
        if battle.heals[friend]:
            continue
        dx, dy = state.x[friend] - x, state.y[friend] - y
        distance = jnp.sqrt(dx * dx + dy * dy)
        seen = (state.health[friend] > 0) & (distance < sight)
        share = state.health[friend] / full[friend]
        worse = seen & (share < hurt_share)
        hurt_share, slot = jnp.where(worse, share, hurt_share), jnp.where(worse, number, slot)
        to_x, to_y = jnp.where(worse, dx, to_x), jnp.where(worse, dy, to_y)
        nearer = seen & (distance < closest)
        closest = jnp.where(nearer, distance, closest)
        by_x, by_y = jnp.where(nearer, dx, by_x), jnp.where(nearer, dy, by_y)
    hurt = slot >= 0
    in_range = hurt & (to_x * to_x + to_y * to_y < reach * reach)
    walk = jnp.where(hurt, _towards(to_x, to_y), _towards(by_x, by_y))
    walk = jnp.where(~hurt & (closest < FOLLOW), STOP, walk)
    return jnp.where(state.health[index] > 0, jnp.where(in_range, slot + NUM_MOVES, walk), STOP)


def act(battle: Battle, state: State, chase: jax.Array, aim: jax.Array | None) -> tuple[jax.Array, State]:
    """Actions of the enemies ``[E, B]`` and the state with their memory updated.

    ``chase`` and ``aim`` ``[E, B]`` are uniform in [0, 1); ``aim`` is None for the opponent that
    shoots the closest. A unit meets its targets in the order in which it observes them: last ally
    first.
    """
    num_allies = battle.num_allies
    sight, attack_range = (
        figure(battle, state.unit_type, name)[num_allies:, None] for name in ("sight", "attack_range")
    )
    alive = state.health > 0
    alive_self, alive_other = alive[num_allies:], alive[:num_allies][::-1]
    # A dead unit observes zeros, its own position included.
    x = jnp.where(alive_self, state.x[num_allies:], 0.0)
    y = jnp.where(alive_self, state.y[num_allies:], 0.0)
    dx = state.x[:num_allies][::-1][None] - x[:, None]  # [E, N, B]
    dy = state.y[:num_allies][::-1][None] - y[:, None]
    visible = (jnp.sqrt(dx * dx + dy * dy) < sight) & alive_self[:, None] & alive_other[None]
    # Positions reach upstream's policy as shares of the sight range.
    dx, dy = dx / sight * sight, dy / sight * sight
    distance = jnp.sqrt(dx * dx + dy * dy)
    in_range = visible & (distance < attack_range)
    if battle.flies.any():  # what it cannot hit it neither shoots at nor runs after
        reachable = battle.may_hit[num_allies:, :num_allies][:, ::-1, None]
        visible, in_range = visible & reachable, in_range & reachable

    # Written out once; the chains below would otherwise compute them anew for every slot.
    visible, in_range, distance = jax.lax.optimization_barrier((visible, in_range, distance))
    slots = range(num_allies)
    if aim is None:
        fresh, best = jnp.zeros(x.shape, jnp.int32), jnp.full(x.shape, 2 * MAP_SIZE)
        for index in slots:
            closer = in_range[:, index] & (distance[:, index] < best)
            fresh, best = jnp.where(closer, index, fresh), jnp.where(closer, distance[:, index], best)
    else:
        fresh = _first(_drawn(in_range, aim))
    keep = can_shoot = jnp.zeros(x.shape, bool)
    for index in slots:
        keep |= in_range[:, index] & (state.victim == index)
        can_shoot |= in_range[:, index]
    slot = jnp.where(keep, state.victim, fresh)

    first = (state.goal_x == 0) & (state.goal_y == 0) & (state.victim == -1)
    goal_x = jnp.where(first, MAP_SIZE - x, state.goal_x)
    goal_y = jnp.where(first, MAP_SIZE - y, state.goal_y)
    chased = _drawn(visible, chase)
    sees = functools.reduce(jnp.logical_or, (visible[:, index] for index in slots))
    to_x = jnp.where(sees, _at(dx, chased), goal_x - x)
    to_y = jnp.where(sees, _at(dy, chased), goal_y - y)
    if battle.scenario.ridge is not None:
        by_ramp = _over_ridge(battle.scenario.ridge, x, y, to_x, to_y)
        climbs = battle.climbs[num_allies:, None]
        to_x, to_y = jnp.where(climbs, to_x, by_ramp[0]), jnp.where(climbs, to_y, by_ramp[1])
    move = _towards(to_x, to_y)

    shoots = can_shoot & battle.rules.enemy_shoots
    action = jnp.where(shoots, slot + NUM_MOVES, move).astype(jnp.int32)
    victim = jnp.where(can_shoot, slot, -1).astype(jnp.int32)
    for row in np.flatnonzero(battle.heals[num_allies:]):
        healing = _heal(battle, state, num_allies + int(row), goal_x[row], goal_y[row])
        action = action.at[row].set(healing.astype(jnp.int32))
    return action, dataclasses.replace(state, goal_x=goal_x, goal_y=goal_y, victim=victim)
