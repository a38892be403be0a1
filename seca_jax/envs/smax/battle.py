"""What a battle is made of: the constants of a map and the state of ``B`` battles at once.

The environment axis comes *last* in here (planes ``[U, B]``, pairs ``[U, U, B]``, x and y apart),
so that the innermost loop of every kernel runs over battles and fills vector registers. Units are
numbered allies first; ``N`` allies, ``E`` enemies, ``U = N + E``.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seca_jax.envs.smax.scenarios import RANDOM_STARTS, UPSTREAM_RULES, Rules, Scenario
from seca_jax.envs.smax.units import COLOSSUS, TABLE, UnitTable

Column = jax.Array | np.ndarray  # [U, 1] of a fixed line-up, [U, B] where types are drawn
NUM_MOVES = 5  # north, east, south, west, stop; attacks are numbered from here
STOP = 4


@struct.dataclass
class State:
    """``B`` battles. Positions in map cells, times in seconds."""

    x: jax.Array  # [U, B] float32
    y: jax.Array  # [U, B] float32
    health: jax.Array  # [U, B] float32; a unit lives while it is above 0
    cooldown: jax.Array  # [U, B] float32, may be negative: ready since that long
    action: jax.Array  # [U, B] int32, what each unit did last, in its own numbering
    goal_x: jax.Array  # [E, B] float32, where an enemy walks while it sees nobody
    goal_y: jax.Array  # [E, B] float32
    victim: jax.Array  # [E, B] int32, slot of the ally an enemy keeps shooting at, or -1
    step: jax.Array  # [B] int32, transitions so far
    unit_type: jax.Array | None  # [U, B] int32 on maps that draw types, else None
    energy: jax.Array | None  # [U, B] float32 on maps with healers, else None


@struct.dataclass
class Noise:
    """Every random number of one environment step."""

    cooldown: jax.Array  # [D, U, B] s, deviation of a weapon's cooldown; D = 1, or one a substep
    chase: jax.Array  # [E, B] in [0, 1), which visible ally an enemy walks to
    aim: jax.Array | None  # [E, B] in [0, 1), which ally a randomly aiming enemy picks, else None


@dataclass(frozen=True, eq=False)
class Battle:
    """The constants of a map, hashed by identity. Traits are of the fixed line-up; drawn types have none."""

    scenario: Scenario
    rules: Rules
    table: UnitTable
    random_positions: bool
    random_types: bool
    num_allies: int
    num_enemies: int
    num_units: int
    num_actions: int  # of an ally
    num_enemy_actions: int
    num_types: int  # length of the one-hot type code
    max_steps: int
    types: np.ndarray  # [U] of the fixed line-up
    flies: np.ndarray  # [U] bool
    heals: np.ndarray  # [U] bool
    climbs: np.ndarray  # [U] bool
    splashes: np.ndarray  # [U] bool, hits everything along a line
    may_hit: np.ndarray  # [U, U] bool, whether the first may shoot at the second
    deviations: int  # D, how often a step's luck with cooldowns is drawn


def make_battle(
    scenario: Scenario, max_steps: int, rules: Rules = UPSTREAM_RULES, table: UnitTable = TABLE
) -> Battle:
    """Constants of ``scenario``.

    Raises:
        ValueError: rules that nobody could play by, or not on this map.
    """
    if rules.random_start not in RANDOM_STARTS:
        known = ", ".join(RANDOM_STARTS)
        raise ValueError(f"env.random_start={rules.random_start!r}: expected one of {known}")
    drawn = RANDOM_STARTS[rules.random_start] or (scenario.random_start, scenario.random_types)
    if rules.random_start != UPSTREAM_RULES.random_start and any(drawn) and not scenario.upstream:
        raise ValueError(f"env.random_start={rules.random_start}: {scenario.name} has a start of its own")
    if rules.sight_range:
        table = table._replace(sight=np.full_like(table.sight, rules.sight_range))
    num_allies, num_enemies = len(scenario.allies), len(scenario.enemies)
    types = np.array(scenario.allies + scenario.enemies, np.int32)
    flies, heals = table.flies[types], table.heals[types]
    enemy = np.arange(len(types)) >= num_allies
    reaches = table.hits_air[types][:, None] | ~flies
    # A healer's actions address its own side; without one they address the other side only.
    # A weapon that is never ready again within the step fires once in it at most: one draw will do.
    reloads = table.cooldown[np.unique(types) if not drawn[1] else np.arange(scenario.num_types)]
    once = reloads.min() > (rules.world_steps - 1) * rules.step_seconds
    ally_slots = max(num_enemies, num_allies - 1) if heals[:num_allies].any() else num_enemies
    enemy_slots = max(num_allies, num_enemies - 1) if heals[num_allies:].any() else num_allies
    return Battle(
        scenario=scenario,
        rules=rules,
        table=table,
        random_positions=drawn[0],
        random_types=drawn[1],
        num_allies=num_allies,
        num_enemies=num_enemies,
        num_units=len(types),
        num_actions=NUM_MOVES + ally_slots,
        num_enemy_actions=NUM_MOVES + enemy_slots,
        num_types=scenario.num_types,
        max_steps=max_steps,
        types=types,
        flies=flies,
        heals=heals,
        climbs=table.climbs[types],
        splashes=types == COLOSSUS,
        may_hit=(enemy[:, None] != enemy) & reaches & ~heals[:, None],
        deviations=1 if once else rules.world_steps,
    )


def figure(battle: Battle, unit_type: jax.Array | None, name: str) -> Column:
    """Column ``name`` of the unit table for every unit: ``[U, 1]``, or ``[U, B]`` where types are drawn."""
    column = getattr(battle.table, name)
    if unit_type is None:
        return column[battle.types][:, None]
    value = jnp.full(unit_type.shape, column[0])
    for index in range(1, battle.num_types):  # selects vectorise, a gather does not
        value = jnp.where(unit_type == index, column[index], value)
    return value
