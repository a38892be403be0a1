"""The substeps of one step: movement, fire, healing, walls, deaths and collisions.

The six first unit types behave as in jaxmarl's ``SMAX._world_step``; splash, healing, flight and
ridges are ours and leave no trace in the program of a map that has none.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.smax.battle import NUM_MOVES, Battle, Column, State, figure
from seca_jax.envs.smax.scenarios import MAP_SIZE, Ridge
from seca_jax.envs.smax.units import (
    ENERGY_MAX,
    ENERGY_PER_SECOND,
    ENERGY_TO_BEGIN,
    HEALED_PER_ENERGY,
    SPLASH_ACROSS,
    SPLASH_ALONG,
)

FAR = 1e6  # cells, beyond every range


class Body(NamedTuple):
    """What changes from substep to substep, each ``[U, B]``."""

    x: jax.Array
    y: jax.Array
    health: jax.Array
    cooldown: jax.Array
    energy: jax.Array | None


def heading(action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Direction of a move (0 north, 1 east, 2 south, 3 west), zero for every other action."""
    x = jnp.where(action == 1, 1.0, jnp.where(action == 3, -1.0, 0.0))
    y = jnp.where(action == 0, 1.0, jnp.where(action == 2, -1.0, 0.0))
    return x, y


def targets(battle: Battle, action: jax.Array) -> jax.Array:
    """Unit that each unit's action points at, ``[U, B]``, or -1.

    Allies number the enemies upwards, enemies number the allies downwards (the order in which each
    side observes the other). A healer numbers its own side in the same direction, itself left out.
    """
    num_allies, num_units = battle.num_allies, battle.num_units
    ally = np.arange(num_units)[:, None] < num_allies
    slot = action - NUM_MOVES
    target = jnp.where(ally, slot + num_allies, num_allies - 1 - slot)
    valid = (slot >= 0) & jnp.where(ally, target < num_units, target >= 0)
    if battle.heals.any():
        own = np.arange(num_units)[:, None]
        up, down = slot + (slot >= own), num_units - 1 - slot
        down = down - (down <= own)
        friend = jnp.where(ally, up, down)
        befriended = (slot >= 0) & jnp.where(ally, friend < num_allies, friend >= num_allies)
        target = jnp.where(battle.heals[:, None], friend, target)
        valid = jnp.where(battle.heals[:, None], befriended, valid)
        for index in np.flatnonzero(battle.flies):  # a weapon that does not reach the air stays silent
            silent = ~battle.may_hit[:, index] & ~battle.heals
            valid &= ~((target == index) & silent[:, None])
    return jnp.where(valid, target, -1)


def push(
    x: jax.Array, y: jax.Array, health: jax.Array, radius: Column, flies: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """Move living units that overlap apart by half the overlap each; planes ``[U, B]``, ``flies [U]``.

    One unit pushes everybody at a time: no ``[U, U, B]`` array is ever written, and the program is
    as small for 66 units as for 6. Air and ground do not touch.
    """
    reach = jnp.where(health > 0, radius, -MAP_SIZE)  # a dead unit overlaps nobody
    level = np.where(flies, 1.0, -1.0).astype(np.float32)[:, None]

    def by_one(
        moved: tuple[jax.Array, jax.Array], other: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        other_x, other_y, other_reach, other_level = other
        dx, dy = x - other_x, y - other_y
        distance = jnp.sqrt(dx * dx + dy * dy) + 1e-6
        share = jax.nn.relu((reach + other_reach) / distance - 1) / 2
        if flies.any():
            share = jnp.where(level == other_level, share, 0.0)
        return (moved[0] + dx * share, moved[1] + dy * share), None

    return jax.lax.scan(by_one, (x, y), (x, y, reach, jnp.asarray(level)))[0]


def stay_off(
    ridge: Ridge, climbs: np.ndarray, old: Body, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Positions ``[U, B]`` with everybody who may not be on the ridge put back to its edge.

    Who is on the ramp stays within its sides, who is beside the ridge stays on that side of it.
    """
    on_band = (y > ridge.south) & (y < ridge.north)
    off_ramp = (x < ridge.ramp_west) | (x > ridge.ramp_east)
    strayed = on_band & off_ramp & ~climbs[:, None]
    from_ramp = (old.y > ridge.south) & (old.y < ridge.north)
    edge = jnp.where(old.y <= ridge.south, ridge.south, ridge.north)
    new_x = jnp.where(strayed & from_ramp, jnp.clip(x, ridge.ramp_west, ridge.ramp_east), x)
    return new_x, jnp.where(strayed & ~from_ramp, edge, y)


def _position(target: jax.Array, others: Body) -> tuple[jax.Array, jax.Array]:
    """Where each ``target [S, B]`` (a number among ``others``) stands; far away if dead or no number.

    A chain of selects instead of a gather: it fuses with what follows into one loop over battles.
    """
    alive_x = jnp.where(others.health > 0, others.x, FAR)
    at_x = at_y = jnp.full(target.shape, FAR)
    for index in range(others.x.shape[0]):
        at_x = jnp.where(target == index, alive_x[index], at_x)
        at_y = jnp.where(target == index, others.y[index], at_y)
    return at_x, at_y


def _line(
    origin: tuple[jax.Array, jax.Array],
    at: tuple[jax.Array, jax.Array],
    victims: Body,
    radius: Column,
    grounded: np.ndarray,
) -> jax.Array:
    """Victims ``[V, B]`` whom a beam from ``origin [B]`` touches ``at [B]``: a bar across its line."""
    (at_x, at_y), (shooter_x, shooter_y) = at, origin
    aim_x, aim_y = at_x - shooter_x, at_y - shooter_y
    length = jnp.sqrt(aim_x * aim_x + aim_y * aim_y)
    close = length < 1e-6  # no direction to speak of: the bar lies north-south
    aim_x = jnp.where(close, 1.0, aim_x / jnp.maximum(length, 1e-6))
    aim_y = jnp.where(close, 0.0, aim_y / jnp.maximum(length, 1e-6))
    dx, dy = victims.x - at_x, victims.y - at_y
    along = jax.nn.relu(jnp.abs(dx * aim_x + dy * aim_y) - SPLASH_ALONG)
    across = jax.nn.relu(jnp.abs(dx * aim_y - dy * aim_x) - SPLASH_ACROSS)
    return (along * along + across * across <= radius * radius) & (victims.health > 0) & grounded


def _volley(
    shooters: Body,
    victims: Body,
    target: jax.Array,
    attack: Column,
    attack_range: Column,
    splashes: np.ndarray,
    radius: Column,
    flies: np.ndarray,
) -> tuple[jax.Array, jax.Array]:
    """Who fires and what it costs the other side, for ``S`` shooters at ``V`` victims.

    ``target`` ``[S, B]`` numbers the victims, anything else is no target; ``splashes [S]``; ``radius``
    and ``flies`` are the victims'. Returns ``fires [S, B]`` and ``damage [V, B]``.
    """
    at_x, at_y = _position(target, victims)
    dx, dy = shooters.x - at_x, shooters.y - at_y
    in_range = jnp.sqrt(dx * dx + dy * dy) < attack_range
    fires = in_range & (shooters.health > 0) & (shooters.cooldown <= 0)
    hit = jnp.where(fires, target, -1)
    numbers = jnp.arange(victims.x.shape[0], dtype=target.dtype)[:, None]
    damage = jnp.zeros(victims.x.shape)
    for index in range(shooters.x.shape[0]):
        if splashes[index]:
            origin, at = (shooters.x[index], shooters.y[index]), (at_x[index], at_y[index])
            struck = fires[index] & _line(origin, at, victims, radius, ~flies[:, None])
        else:
            struck = hit[index] == numbers
        damage = damage + jnp.where(struck, attack[index], 0.0)
    return fires, damage


def _heal(
    battle: Battle,
    body: Body,
    energy: jax.Array,
    target: jax.Array,
    full: Column,
    beat: Column,
    reach: Column,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Healing of one substep: who heals ``[U, B]``, points received ``[U, B]``, energy spent ``[U, B]``.

    A beat that follows on the last one needs any energy; after a pause (the cooldown has run past
    zero) a healer begins with ``ENERGY_TO_BEGIN`` only. It heals at most what is missing.
    """
    at_x, at_y = _position(target, body)
    dx, dy = body.x - at_x, body.y - at_y
    missing = jnp.zeros(target.shape)
    for index in np.flatnonzero(~battle.heals):
        missing = jnp.where(target == index, full[index] - body.health[index], missing)
    needed = jnp.where(body.cooldown < 0, ENERGY_TO_BEGIN, 0.0)
    points = jnp.minimum(jnp.minimum(beat, missing), HEALED_PER_ENERGY * energy)
    able = (body.health > 0) & battle.heals[:, None] & (body.cooldown <= 0) & (energy >= needed)
    able &= (jnp.sqrt(dx * dx + dy * dy) < reach) & (points > 0)
    points = jnp.where(able, points, 0.0)
    received = jnp.zeros(body.x.shape)
    numbers = np.arange(battle.num_units)[:, None]
    for index in np.flatnonzero(battle.heals):
        received = received + jnp.where(target[index] == numbers, points[index], 0.0)
    return able, received, points / HEALED_PER_ENERGY


def advance(battle: Battle, state: State, action: jax.Array, deviation: jax.Array) -> State:
    """One environment step: ``action [U, B]`` in each unit's own numbering.

    ``deviation`` ``[D, U, B]`` seconds is added to the cooldown of a weapon that fires. A unit fires
    at most once per step (every cooldown is longer than six substeps plus the deviation), so
    ``D = 1`` draw is enough; one draw a substep gives each its own, as upstream draws them.
    """
    rules, dt = battle.rules, battle.rules.step_seconds
    allies, enemies = slice(0, battle.num_allies), slice(battle.num_allies, None)
    names = ("velocity", "attack", "attack_range", "radius", "cooldown", "health")
    column = {name: figure(battle, state.unit_type, name) for name in names}
    radius = column["radius"]
    east, north = heading(action)
    step_x, step_y = east * (column["velocity"] * dt), north * (column["velocity"] * dt)
    target = targets(battle, action)

    def fire(body: Body, shooters: slice, victims: slice) -> tuple[jax.Array, jax.Array]:
        def part(team: slice) -> Body:
            return jax.tree.map(lambda plane: plane[team], body)

        return _volley(
            part(shooters),
            part(victims),
            target[shooters] - (victims.start or 0),
            column["attack"][shooters],
            column["attack_range"][shooters],
            battle.splashes[shooters],
            radius[victims],
            battle.flies[victims],
        )

    def substep(body: Body, deviation: jax.Array) -> tuple[Body, None]:
        alive = body.health > 0
        x = jnp.where(alive, jnp.clip(body.x + step_x, 0.0, MAP_SIZE), body.x)
        y = jnp.where(alive, jnp.clip(body.y + step_y, 0.0, MAP_SIZE), body.y)

        ours_fire, hurt_theirs = fire(body, allies, enemies)
        theirs_fire, hurt_ours = fire(body, enemies, allies)
        fires = jnp.concatenate([ours_fire, theirs_fire])
        health = jnp.maximum(body.health - jnp.concatenate([hurt_ours, hurt_theirs]), 0.0)
        reload, energy = column["cooldown"] + deviation, body.energy
        if energy is not None:
            healed, received, spent = _heal(
                battle, body, energy, target, column["health"], column["attack"], column["attack_range"]
            )
            # Nobody comes back to life, nobody gets better than well; a beat is a beat, without luck.
            health = jnp.where(health > 0, jnp.minimum(health + received, column["health"]), 0.0)
            fires = fires | healed
            reload = jnp.where(battle.heals[:, None], column["cooldown"] - dt, reload)
            rested = jnp.minimum(energy - spent + ENERGY_PER_SECOND * dt, ENERGY_MAX)
            energy = jnp.where(alive, rested, energy)
        cooldown = jnp.where(fires, reload, body.cooldown - dt)

        if rules.walls_cause_death:
            at_wall = (jnp.minimum(x, y) <= 0) | (jnp.maximum(x, y) >= MAP_SIZE)
            health = jnp.where(at_wall, 0.0, health)
        x, y = push(x, y, health, radius, battle.flies)
        if battle.scenario.ridge is not None:
            x, y = stay_off(battle.scenario.ridge, battle.climbs, body, x, y)
        return Body(x, y, health, cooldown, energy), None

    body = Body(state.x, state.y, state.health, state.cooldown, state.energy)
    deviations = jnp.broadcast_to(deviation, (rules.world_steps, *deviation.shape[1:]))
    body, _ = jax.lax.scan(substep, body, deviations)
    return dataclasses.replace(state, **body._asdict(), action=action, step=state.step + 1)
