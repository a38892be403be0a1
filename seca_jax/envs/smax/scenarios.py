"""The maps: who fights whom, where they start, and how long a battle may last."""

from typing import Any, NamedTuple

from seca_jax.envs.smax.units import (
    COLOSSUS,
    HYDRALISK,
    MARAUDER,
    MARINE,
    MEDIVAC,
    STALKER,
    TABLE,
    UPSTREAM_TYPES,
    ZEALOT,
    ZERGLING,
)

MAP_SIZE = 32.0  # cells, both ways

UPSTREAM_MAX_STEPS = 101
"""jaxmarl tests its limit of 100 before it counts the step, so the 101st transition is the last."""

SMAC_STEP = 8 / 22.4 / 0.5
"""One SMAC step (8 game loops of 1/22.4 s) in SMAX steps (8 substeps of 1/16 s)."""


class Ridge(NamedTuple):
    """A band across the map that only climbers cross; a ramp leads everybody else over it. Cells."""

    south: float
    north: float
    ramp_west: float
    ramp_east: float


class Start(NamedTuple):
    """Where the teams stand at first: the middle of each, and the spread in each direction, in cells."""

    ally: tuple[float, float] = (8.0, 16.0)
    enemy: tuple[float, float] = (24.0, 16.0)
    spread: float = 2.0


class Rules(NamedTuple):
    """What jaxmarl lets vary beside the map, with its values."""

    see_enemy_actions: bool = True  # whether agents see what enemies did last
    walls_cause_death: bool = True  # whether who touches the map's edge dies, or only stops there
    enemy_shoots: bool = True
    won_battle_bonus: float = 1.0  # reward of a win, before scaling
    world_steps: int = 8  # physics steps in one environment step
    step_seconds: float = 1 / 16  # of one physics step
    sight_range: float = 0.0  # cells, everybody's; 0: every type's own
    random_start: str = "map"  # what is drawn for every battle as in SMACv2, one of RANDOM_STARTS


UPSTREAM_RULES = Rules()

RANDOM_STARTS = {
    "map": None,
    "none": (False, False),
    "positions": (True, False),
    "types": (False, True),
    "both": (True, True),
}
"""Whether positions are drawn, and whether types are; None: as the map has it."""


class Scenario(NamedTuple):
    """One map. ``allies`` and ``enemies`` are unit types in the order in which they are numbered."""

    name: str
    allies: tuple[int, ...]
    enemies: tuple[int, ...]
    smac_steps: int | None = None  # SMAC's (or SMACv2's) limit, in SMAC steps; None: max_steps is the limit
    max_steps: int = UPSTREAM_MAX_STEPS  # transitions, when the limit is not SMAC's
    random_start: bool = False  # SMACv2: positions drawn anew for every battle
    random_types: bool = False  # SMACv2: unit types, too
    start: Start = Start()
    ridge: Ridge | None = None
    upstream: bool = True  # whether jaxmarl has the map too

    @property
    def num_types(self) -> int:
        """Length of the one-hot type code: the types that jaxmarl knows, or all on maps that it lacks.

        Types that are drawn anew are of those that jaxmarl knows.
        """
        return UPSTREAM_TYPES if self.upstream or self.random_types else len(TABLE.names)


def _mirror(name: str, team: tuple[int, ...], smac_steps: int, **kwargs: Any) -> Scenario:
    return Scenario(name, team, team, smac_steps, **kwargs)


_M, _S, _Z, _H = (MARINE,), (STALKER,), (ZEALOT,), (HYDRALISK,)

# Teams: jaxmarl 0.2.0, smax_env.MAP_NAME_TO_SCENARIO. Limits: SMAC's and SMACv2's map registries.
_ALL = (
    _mirror("3m", 3 * _M, 60),
    _mirror("2s3z", 2 * _S + 3 * _Z, 120),
    _mirror("25m", 25 * _M, 150),
    _mirror("3s5z", 3 * _S + 5 * _Z, 150),
    _mirror("8m", 8 * _M, 120),
    Scenario("5m_vs_6m", 5 * _M, 6 * _M, 70),
    Scenario("10m_vs_11m", 10 * _M, 11 * _M, 150),
    Scenario("27m_vs_30m", 27 * _M, 30 * _M, 180),
    Scenario("3s5z_vs_3s6z", 3 * _S + 5 * _Z, 3 * _S + 6 * _Z, 170),
    Scenario("3s_vs_5z", 3 * _S, 5 * _Z, 250),
    Scenario("6h_vs_8z", 6 * _H, 8 * _Z, 150),
    _mirror("smacv2_5_units", 5 * _M, 200, random_start=True, random_types=True),
    _mirror("smacv2_10_units", 10 * _M, 200, random_start=True, random_types=True),
    _mirror("smacv2_20_units", 20 * _M, 200, random_start=True, random_types=True),
    # The three maps that jaxmarl lacks, teams as in SMAC's map registry, unit order as in its units
    # list; limits in SMAX steps of about SMAC's game time.
    _mirror("1c3s5z", (COLOSSUS,) + 3 * _S + 5 * _Z, 180, max_steps=130, upstream=False),
    Scenario(
        "2c_vs_64zg",
        2 * (COLOSSUS,),
        64 * (ZERGLING,),
        400,
        max_steps=290,
        start=Start(ally=(16.0, 16.0), enemy=(16.0, 9.0), spread=4.0),
        ridge=Ridge(south=13.0, north=15.0, ramp_west=24.0, ramp_east=28.0),
        upstream=False,
    ),
    Scenario(
        "MMM2",
        2 * (MARAUDER,) + 7 * _M + (MEDIVAC,),
        3 * (MARAUDER,) + 8 * _M + (MEDIVAC,),
        180,
        max_steps=130,
        upstream=False,
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}


def max_steps(scenario: Scenario, kind: str) -> int:
    """Transitions that a battle may last: ``kind`` is ``upstream`` or ``smac`` (equal game time)."""
    if kind == "smac" and scenario.smac_steps is not None:
        return round(scenario.smac_steps * SMAC_STEP)
    return scenario.max_steps
