"""Unit types of SMAX battles: one row of figures per type.

The first six rows are jaxmarl 0.2.0's (``smax_env.SMAX.__init__``). They relate to StarCraft II
(patch 4.10 figures, sc2-techtree) as follows: velocity and cooldown at "faster" game speed, one
hit's damage without bonus or armour, ranges measured centre to centre, health = hit points plus
shields. Upstream's marauder velocity and stalker cooldown are at normal speed, a slip kept here.
"""

from typing import NamedTuple

import numpy as np

UPSTREAM_TYPES = 6
"""Types that jaxmarl knows, and the length of the one-hot type code on its maps."""

# The Colossus' beam burns along a line across the line of fire (sc2-techtree, "ThermalLancesE"):
SPLASH_ALONG = 0.15  # cells in the direction of fire, either way
SPLASH_ACROSS = 1.4  # cells to either side

# The Medivac's heal (sc2-techtree, "heal"; energy figures of Liquipedia's Medivac page):
ENERGY_START = 50.0
ENERGY_MAX = 200.0
ENERGY_TO_BEGIN = 5.0
ENERGY_PER_SECOND = 0.7875
HEALED_PER_ENERGY = 3.0


class UnitTable(NamedTuple):
    """Columns over unit types; index = type. Lengths in map cells, times in seconds."""

    names: tuple[str, ...]
    shorthands: tuple[str, ...]
    velocity: np.ndarray  # cells/s
    attack: np.ndarray  # damage of one hit
    attack_range: np.ndarray  # cells
    sight: np.ndarray  # cells
    radius: np.ndarray  # cells
    health: np.ndarray
    cooldown: np.ndarray  # s between hits, before the random deviation
    flies: np.ndarray  # bool: only weapons that reach the air hit it, and it brushes past ground units
    hits_air: np.ndarray  # bool
    heals: np.ndarray  # bool: what it does at its target is the opposite of damage
    climbs: np.ndarray  # bool: crosses ridges


def _table(rows: list[tuple]) -> UnitTable:
    columns = list(zip(*rows))
    figures = (np.array(column, np.float32) for column in columns[2:])
    traits = zip(*(_TRAITS[name] for name in columns[0]))
    return UnitTable(columns[0], columns[1], *figures, *(np.array(trait) for trait in traits))


# flies, hits air, heals, climbs. Weapons' targets: Liquipedia's unit pages (Legacy of the Void).
_TRAITS = {
    "marine": (False, True, False, False),
    "marauder": (False, False, False, False),
    "stalker": (False, True, False, False),
    "zealot": (False, False, False, False),
    "zergling": (False, False, False, False),
    "hydralisk": (False, True, False, False),
    # In StarCraft weapons against the air hit a Colossus too; every type here that hits only the
    # ground hits it as a ground unit, so "ground" is all that matters.
    "colossus": (False, False, False, True),
    "medivac": (True, False, True, True),
}


TABLE = _table(
    [
        # name, shorthand, velocity, attack, range, sight, radius, health, cooldown
        ("marine", "m", 3.15, 9.0, 5.0, 9.0, 0.375, 45.0, 0.61),
        ("marauder", "M", 2.25, 10.0, 6.0, 10.0, 0.5625, 125.0, 1.07),
        ("stalker", "s", 4.13, 13.0, 6.0, 10.0, 0.625, 160.0, 1.87),
        ("zealot", "Z", 3.15, 8.0, 2.0, 9.0, 0.5, 150.0, 0.86),
        ("zergling", "z", 4.13, 5.0, 2.0, 8.0, 0.375, 35.0, 0.5),
        ("hydralisk", "h", 3.15, 12.0, 5.0, 9.0, 0.625, 80.0, 0.59),
        # Ours, from sc2-techtree's unit data (4.10): speed 2.25 and cooldown 1.5 at normal speed
        # (x 1.4, / 1.4), thermal lances 10 x 2 without the bonus against light units, range 7,
        # sight 10, radius 1, hit points 200 + shields 150.
        ("colossus", "C", 3.15, 20.0, 7.0, 10.0, 1.0, 350.0, 1.07),
        # Speed 2.5 at normal speed, heal 9 points/s at normal speed (12.6 at faster) in beats of
        # 0.5 s, range 4, sight 11, radius 0.75, hit points 150. "attack" is one beat of healing.
        ("medivac", "V", 3.5, 6.3, 4.0, 11.0, 0.75, 150.0, 0.5),
    ]
)

MARINE, MARAUDER, STALKER, ZEALOT, ZERGLING, HYDRALISK, COLOSSUS, MEDIVAC = range(8)
