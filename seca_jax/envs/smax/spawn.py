"""How battles begin: positions, unit types and the first push (jaxmarl's ``SMAX.reset``)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.base import draw, split
from seca_jax.envs.smax.battle import STOP, Battle, State, figure
from seca_jax.envs.smax.physics import Body, push, stay_off
from seca_jax.envs.smax.scenarios import MAP_SIZE
from seca_jax.envs.smax.units import ENERGY_START

CORNERS = np.array([[0.0, 0.0], [0.0, MAP_SIZE], [MAP_SIZE, 0.0], [MAP_SIZE, MAP_SIZE]], np.float32)


def _spread(battle: Battle, key: jax.Array, num_envs: int) -> jax.Array:
    """Everybody's distance from the middle of its group, ``[2, U, B]`` cells."""
    most = battle.scenario.start.spread
    uniform = functools.partial(jax.random.uniform, minval=-most, maxval=most)
    return draw(uniform, key, (2, battle.num_units), num_envs)


def _lines(battle: Battle, key: jax.Array, num_envs: int) -> jax.Array:
    """Teams face each other across the map, ``[2, U, B]``: SMAC's maps."""
    start = battle.scenario.start
    places = [start.ally] * battle.num_allies + [start.enemy] * battle.num_enemies
    spread = _spread(battle, key, num_envs)
    return jnp.asarray(np.array(places, np.float32).T[:, :, None] + spread)


def _coin(key: jax.Array, num_envs: int) -> jax.Array:
    """True for one battle in two, ``[B]``."""
    return draw(lambda own, shape: jax.random.bernoulli(own, shape=shape), key, (), num_envs)


def _surrounded(battle: Battle, key: jax.Array, num_envs: int) -> jax.Array:
    """One team (by the toss of a coin) in the centre, the other in up to four groups on the diagonals."""
    coin_key, group_key, depth_key, spread_key = split(key, 4)
    spread = _spread(battle, spread_key, num_envs)
    groups = functools.partial(jax.random.randint, minval=0, maxval=4)
    group = draw(groups, group_key, (battle.num_units,), num_envs)
    depth = draw(jax.random.uniform, depth_key, (4,), num_envs)  # 0 in the corner, 1 in the centre
    corner = CORNERS.T[:, :, None]
    places = depth * (MAP_SIZE / 2) + (1 - depth) * corner  # [2, 4, B]
    place = sum(jnp.where(group == index, places[:, index : index + 1], 0.0) for index in range(4))
    ally = np.arange(battle.num_units)[:, None] < battle.num_allies
    inside = ally == _coin(coin_key, num_envs)
    return jnp.where(inside, MAP_SIZE / 2, place) + spread


def _reflected(battle: Battle, key: jax.Array, num_envs: int) -> jax.Array:
    """Allies anywhere in the left half, enemies their mirror image; surplus enemies anywhere in theirs."""
    num_allies, num_enemies = battle.num_allies, battle.num_enemies
    scale = np.array([MAP_SIZE / 2, MAP_SIZE], np.float32)[:, None, None]
    drawn = draw(jax.random.uniform, key, (2, max(num_allies, num_enemies)), num_envs) * scale
    flip = np.array([-1.0, 1.0], np.float32)[:, None, None]
    offset = np.array([MAP_SIZE, 0.0], np.float32)[:, None, None]
    return jnp.concatenate([drawn[:, :num_allies], offset + flip * drawn[:, :num_enemies]], axis=1)


def _types(battle: Battle, key: jax.Array, num_envs: int) -> jax.Array:
    """SMACv2's types ``[U, B]``: enemies copy the allies; upstream's surplus enemies stay marines."""
    num_allies, num_enemies = battle.num_allies, battle.num_enemies
    types = functools.partial(jax.random.randint, minval=0, maxval=battle.num_types, dtype=jnp.int32)
    allies = draw(types, key, (num_allies,), num_envs)
    surplus = jnp.zeros((max(num_enemies - num_allies, 0), num_envs), jnp.int32)
    return jnp.concatenate([allies, allies[:num_enemies], surplus])


def fresh(battle: Battle, key: jax.Array, num_envs: int) -> State:
    """``num_envs`` battles at their start, from one key or from [B] of them."""
    if battle.random_positions:
        coin_key, surrounded_key, reflected_key, type_key = split(key, 4)
        position = jnp.where(
            _coin(coin_key, num_envs),
            _surrounded(battle, surrounded_key, num_envs),
            _reflected(battle, reflected_key, num_envs),
        )
    elif battle.random_types:
        line_key, type_key = split(key)
        position = _lines(battle, line_key, num_envs)
    else:
        position, type_key = _lines(battle, key, num_envs), key
    unit_type = _types(battle, type_key, num_envs) if battle.random_types else None
    shape = (battle.num_units, num_envs)
    health = jnp.broadcast_to(figure(battle, unit_type, "health"), shape)
    x, y = push(position[0], position[1], health, figure(battle, unit_type, "radius"), battle.flies)
    if battle.scenario.ridge is not None:
        old = Body(position[0], position[1], health, health, None)
        x, y = stay_off(battle.scenario.ridge, battle.climbs, old, x, y)
    enemies = (battle.num_enemies, num_envs)
    return State(
        x=x,
        y=y,
        health=health,
        cooldown=jnp.zeros(shape),
        action=jnp.full(shape, STOP, jnp.int32),
        goal_x=jnp.zeros(enemies),
        goal_y=jnp.zeros(enemies),
        victim=jnp.full(enemies, -1, jnp.int32),
        step=jnp.zeros(num_envs, jnp.int32),
        unit_type=unit_type,
        energy=jnp.full(shape, ENERGY_START) if battle.heals.any() else None,
    )
