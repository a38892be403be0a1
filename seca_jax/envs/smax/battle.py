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

from seca_jax.envs.smax.scenarios import Scenario
from seca_jax.envs.smax.units import COLOSSUS, TABLE

Column = jax.Array | np.ndarray  # [U, 1] of a fixed line-up, [U, B] where types are drawn
SUBSTEPS = 8  # physics steps in one environment step
DT = 1 / 16  # s, one physics step
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

    cooldown: jax.Array  # [D, U, B] s, deviation of a weapon's cooldown; D = 1, or SUBSTEPS to replay
    chase: jax.Array  # [E, B] in [0, 1), which visible ally an enemy walks to
    aim: jax.Array | None  # [E, B] in [0, 1), which ally a randomly aiming enemy picks, else None


@dataclass(frozen=True, eq=False)
class Battle:
    """The constants of a map, hashed by identity. Traits are of the fixed line-up; drawn types have none."""

    scenario: Scenario
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


def make_battle(scenario: Scenario, max_steps: int) -> Battle:
    """Constants of ``scenario``."""
    num_allies, num_enemies = len(scenario.allies), len(scenario.enemies)
    types = np.array(scenario.allies + scenario.enemies, np.int32)
    flies, heals = TABLE.flies[types], TABLE.heals[types]
    enemy = np.arange(len(types)) >= num_allies
    reaches = TABLE.hits_air[types][:, None] | ~flies
    # A healer's actions address its own side; without one they address the other side only.
    ally_slots = max(num_enemies, num_allies - 1) if heals[:num_allies].any() else num_enemies
    enemy_slots = max(num_allies, num_enemies - 1) if heals[num_allies:].any() else num_allies
    return Battle(
        scenario=scenario,
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
        climbs=TABLE.climbs[types],
        splashes=types == COLOSSUS,
        may_hit=(enemy[:, None] != enemy) & reaches & ~heals[:, None],
    )


def figure(battle: Battle, unit_type: jax.Array | None, name: str) -> Column:
    """Column ``name`` of the unit table for every unit: ``[U, 1]``, or ``[U, B]`` where types are drawn."""
    column = getattr(TABLE, name)
    if unit_type is None:
        return column[battle.types][:, None]
    value = jnp.full(unit_type.shape, column[0])
    for index in range(1, battle.num_types):  # selects vectorise, a gather does not
        value = jnp.where(unit_type == index, column[index], value)
    return value
