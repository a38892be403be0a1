"""What allies and critic see of a battle: observations, availability masks and the world state.

Features and their order are jaxmarl's (``get_obs_unit_list``, ``get_obs_conic``,
``get_avail_actions``, ``get_world_state``). They are computed with ``B`` last, as the state is
laid out, and turned round at the very end: written with ``B`` first, the same numbers take five
times as long.
"""

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.smax.battle import NUM_MOVES, STOP, Battle, State, figure
from seca_jax.envs.smax.physics import heading
from seca_jax.envs.smax.scenarios import MAP_SIZE
from seca_jax.envs.smax.units import ENERGY_MAX

SECTIONS = 32  # of the circle around a unit, conic observations only
PER_SECTION = 2  # units seen in one section at most
SHOWN = 7  # features a unit shows of itself, besides its type code
OWN = 4  # features a unit knows of itself, besides its type code


def sizes(battle: Battle, observation: str) -> tuple[int, int]:
    """Lengths ``O`` and ``S``."""
    shown, own = SHOWN + battle.num_types, OWN + battle.num_types
    blocks = SECTIONS * PER_SECTION if observation == "conic" else battle.num_units - 1
    return shown * blocks + own, (own + 2) * battle.num_units


def _types(battle: Battle, state: State) -> jax.Array:
    """``[U, B]``."""
    unit_type = battle.types[:, None] if state.unit_type is None else state.unit_type
    return jnp.broadcast_to(unit_type, state.x.shape)


def _type_code(battle: Battle, state: State) -> list[jax.Array]:
    """One-hot type, a plane ``[U, B]`` per type."""
    unit_type = _types(battle, state)
    return [(unit_type == index).astype(jnp.float32) for index in range(battle.num_types)]


def health_share(battle: Battle, state: State) -> jax.Array:
    """``[U, B]`` in [0, 1]."""
    return state.health / figure(battle, state.unit_type, "health")


def cooldown_share(battle: Battle, state: State) -> jax.Array:
    """What is left of each weapon's cooldown, ``[U, B]`` in [0, 1]; a healer shows its energy instead."""
    share = jnp.clip(state.cooldown / figure(battle, state.unit_type, "cooldown"), 0.0, 1.0)
    if state.energy is None:
        return share
    return jnp.where(battle.heals[:, None], state.energy / ENERGY_MAX, share)


def _own_features(battle: Battle, state: State, x: jax.Array, y: jax.Array, cooldown: jax.Array) -> jax.Array:
    """What a unit knows of itself, ``[U, OWN + types, B]``: zeros when dead."""
    features = [health_share(battle, state), x, y, cooldown, *_type_code(battle, state)]
    return jnp.stack([jnp.where(state.health > 0, plane, 0.0) for plane in features], axis=1)


def _ally_features(battle: Battle, state: State) -> jax.Array:
    """Each ally's own block of its observation, ``[N, OWN + types, B]``."""
    cooldown = cooldown_share(battle, state)
    return _own_features(battle, state, state.x / MAP_SIZE, state.y / MAP_SIZE, cooldown)[: battle.num_allies]


def _shown_features(battle: Battle, state: State) -> jax.Array:
    """What a unit shows of itself to anybody, ``[U, SHOWN + types, B]``; its position is absolute here."""
    attack = jnp.where(state.action > STOP, state.action, 0)
    most = np.array(
        [battle.num_actions - 1] * battle.num_allies + [battle.num_enemy_actions - 1] * battle.num_enemies,
        np.float32,
    )[:, None]
    east, north = heading(state.action)
    if not battle.rules.see_enemy_actions:
        ally = np.arange(battle.num_units)[:, None] < battle.num_allies
        east, north, attack = (jnp.where(ally, plane, 0) for plane in (east, north, attack))
    known = [health_share(battle, state), state.x, state.y, east, north, attack / most]
    return jnp.stack([*known, cooldown_share(battle, state), *_type_code(battle, state)], axis=1)


def _seen_from(battle: Battle, state: State, shown: jax.Array) -> jax.Array:
    """``shown [., K, F, B]``, positions as offsets from each ally in shares of sight: ``[N, K, F, B]``."""
    allies = slice(0, battle.num_allies)
    feature = np.arange(SHOWN + battle.num_types)[:, None]
    is_x, is_y = feature == 1, feature == 2
    zero = jnp.where(is_x, state.x[allies, None], jnp.where(is_y, state.y[allies, None], 0.0))  # [N, F, B]
    sight = figure(battle, state.unit_type, "sight")[allies, None]
    unit = jnp.where(is_x | is_y, sight, 1.0)
    return (shown - zero[:, None]) / unit[:, None]


def _offsets(battle: Battle, state: State) -> tuple[jax.Array, jax.Array]:
    """Every unit as seen from every ally, ``[N, U, B]`` each, in map cells."""
    allies = slice(0, battle.num_allies)
    return state.x[None] - state.x[allies, None], state.y[None] - state.y[allies, None]


def unit_list(battle: Battle, state: State) -> jax.Array:
    """One block of features per other unit in sight, in order of number, then one's own: ``[B, N, O]``."""
    num_allies = battle.num_allies
    # Everybody but oneself: the unit with the same number, or the next one from one's own on.
    after = np.arange(battle.num_units - 1) >= np.arange(num_allies)[:, None]  # [N, U - 1]
    dx, dy = _offsets(battle, state)
    alive = state.health > 0
    sight = figure(battle, state.unit_type, "sight")[:num_allies, None]
    visible = (jnp.sqrt(dx * dx + dy * dy) < sight) & alive[None] & alive[:num_allies, None]
    visible = jnp.where(after[..., None], visible[:, 1:], visible[:, :-1]).astype(jnp.float32)
    # Small tables first: the large array below is then one plain loop over reads of them.
    shown, visible = jax.lax.optimization_barrier((_shown_features(battle, state), visible))
    others = jnp.where(after[..., None, None], shown[None, 1:], shown[None, :-1])
    others = _seen_from(battle, state, others) * visible[:, :, None]
    others = others.reshape(num_allies, -1, state.x.shape[1])
    return jnp.concatenate([others, _ally_features(battle, state)], axis=1).transpose(2, 0, 1)


def conic(battle: Battle, state: State) -> jax.Array:
    """Up to two units for each of 32 sectors around an ally, then its own features: ``[B, N, O]``.

    Upstream's habits are kept: the unit numbered 0 is never seen, dead units are.
    """
    num_allies, num_units = battle.num_allies, battle.num_units
    dx, dy = _offsets(battle, state)
    sight = figure(battle, state.unit_type, "sight")[:num_allies, None]
    dx, dy = dx / sight, dy / sight
    angle = jnp.arctan(dy / (dx + 1e-8)) + (dx < 0) * (2.0 * (dy > 0) - 1) * np.pi
    section = np.arange(SECTIONS, dtype=np.float32)[:, None, None, None]
    low = 2 * np.pi * (section / SECTIONS) - np.pi
    high = 2 * np.pi * ((section + 1) / SECTIONS) - np.pi
    seen = (np.arange(num_units) > 0) & ~np.eye(num_allies, num_units, dtype=bool)
    inside = (angle > low) & (angle < high) & (jnp.sqrt(dx * dx + dy * dy) < 1) & seen[..., None]
    rank = jnp.cumsum(inside, axis=2) - 1  # [sections, N, U, B]
    number = np.arange(num_units)[:, None]
    unit = [jnp.max(jnp.where(inside & (rank == place), number, -1), axis=2) for place in range(PER_SECTION)]
    unit = jnp.stack(unit, axis=1).reshape(SECTIONS * PER_SECTION, num_allies, -1)  # [K, N, B]
    unit = unit.transpose(1, 0, 2)[:, :, None]
    shown = jnp.take_along_axis(_shown_features(battle, state)[None], jnp.maximum(unit, 0), axis=1)
    alive = (state.health > 0)[:num_allies, None, None]
    features = jnp.where((unit >= 0) & alive, _seen_from(battle, state, shown), 0.0)
    features = features.reshape(num_allies, -1, state.x.shape[1])
    return jnp.concatenate([features, _ally_features(battle, state)], axis=1).transpose(2, 0, 1)


def healable(battle: Battle, state: State) -> jax.Array:
    """Whom a healer could do any good, ``[U, B]`` bool: the living, hurt and not themselves healers."""
    full = figure(battle, state.unit_type, "health")
    return (state.health > 0) & (state.health < full) & ~battle.heals[:, None]


def available(battle: Battle, state: State) -> jax.Array:
    """Which actions each ally may take, ``[B, N, A]`` bool.

    Moves while alive, stop always, attacks on living enemies in range that the weapon reaches. A
    healer's targets are its hurt friends in range, numbered as it observes them.
    """
    num_allies, num_envs = battle.num_allies, state.x.shape[1]
    dx, dy = _offsets(battle, state)
    alive = state.health > 0
    attack_range = figure(battle, state.unit_type, "attack_range")[:num_allies, None]
    near = (jnp.sqrt(dx * dx + dy * dy) < attack_range) & alive[None] & alive[:num_allies, None]  # [N, U, B]
    attack = near[:, num_allies:]
    if battle.heals.any() or battle.flies.any():
        attack &= battle.may_hit[:num_allies, num_allies:, None]
    width = battle.num_actions - NUM_MOVES
    attack = jnp.concatenate(
        [attack, jnp.zeros((num_allies, width - battle.num_enemies, num_envs), bool)], axis=1
    )
    for index in np.flatnonzero(battle.heals[:num_allies]):
        friends = np.delete(np.arange(num_allies), index)
        helps = near[index, friends] & healable(battle, state)[friends]
        row = jnp.concatenate([helps, jnp.zeros((width - len(friends), num_envs), bool)])
        attack = attack.at[index].set(row)
    moves = alive[:num_allies, None] | (np.arange(NUM_MOVES) == STOP)[:, None]
    return jnp.concatenate([moves, attack], axis=1).transpose(2, 0, 1)


def world_state(battle: Battle, state: State, *, scaled: bool) -> jax.Array:
    """Features of every unit, then the teams, then the type numbers: ``[B, S]``.

    Raw is upstream's: map cells, seconds, type indices. ``scaled`` keeps the layout with every
    feature within about [-1, 1]: positions from the map's centre in half maps, cooldowns in shares
    of the weapon's, type numbers in shares of the last one. A dead unit's features are zeros.
    """
    x, y, cooldown, unit_type = state.x, state.y, state.cooldown, _types(battle, state).astype(jnp.float32)
    if scaled:
        half = MAP_SIZE / 2
        x, y, cooldown = x / half - 1, y / half - 1, cooldown_share(battle, state)
        unit_type = unit_type / (battle.num_types - 1)
    elif state.energy is not None:
        cooldown = jnp.where(battle.heals[:, None], state.energy, cooldown)
    features = _own_features(battle, state, x, y, cooldown).reshape(-1, x.shape[1])
    team = (np.arange(battle.num_units) >= battle.num_allies).astype(np.float32)[:, None]
    return jnp.concatenate([features, jnp.broadcast_to(team, x.shape), unit_type]).T
