"""Colours and numbers as all pictures have them: one palette for curves, one for agents, one for battles.

Palettes are told apart by readers with colour-vision deficiencies too, as far as their length allows,
and nothing is said by colour alone: curves have a dash pattern from the eleventh on, agents a number.
"""

import colorsys
from collections.abc import Iterable

RGB = tuple[int, int, int]

INK, GREY, FAINT, PAPER = (34, 34, 34), (120, 120, 120), (222, 222, 218), (255, 255, 255)

# Okabe and Ito's palette, its yellow left out, which is too pale for a line on white; then three more
CURVES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#4d4d4d",
    "#7b3294",
    "#8c510a",
    "#808000",
)
# The same curves on a dark page: hue for hue, lighter
CURVES_ON_DARK = (
    "#4aa3df",
    "#ff8a3d",
    "#2fc79a",
    "#e39ac4",
    "#f2b93b",
    "#9ad7ff",
    "#c8ccd0",
    "#bd8fe0",
    "#cd9556",
    "#b9b94f",
)
DASHES = ((), (7, 3), (2, 3))  # every time the colours start again; on and off, in line widths
LOOKS = len(CURVES) * len(DASHES)  # that differ

# Petroff's ten colours
_TEN = "3f90da ffa90e bd1f01 94a4a2 832db6 a96b59 e76300 b9ac70 717581 92dadd"

# Battles: Okabe and Ito's again
ALLY, ENEMY, HEAL, GOLD = (0, 114, 178), (213, 94, 0), (0, 158, 115), (240, 200, 60)
FIELD, GRID, EDGE, ROCK = (246, 246, 242), (228, 228, 222), (190, 190, 184), (214, 206, 192)


def look(index: int) -> tuple[str, tuple[int, ...]]:
    """Colour and dash pattern of the curve with this index."""
    return CURVES[index % len(CURVES)], DASHES[index // len(CURVES) % len(DASHES)]


def agents(count: int) -> list[RGB]:
    """As many distinguishable colours as there are agents, 0 to 255."""
    if count <= 10:
        return [_rgb(bytes.fromhex(colour)) for colour in _TEN.split()[:count]]
    spread = [colorsys.hsv_to_rgb(0.92 * i / count, 0.9, (0.9, 0.6)[i % 2]) for i in range(count)]
    return [_rgb(255 * part for part in colour) for colour in spread]


def mixed(colour: RGB, share: float, ground: RGB = PAPER) -> RGB:
    """``share`` of a colour on a ground: what is faded."""
    return _rgb(share * part + (1 - share) * under for part, under in zip(colour, ground))


def _rgb(parts: Iterable[float]) -> RGB:
    red, green, blue = map(round, parts)
    return red, green, blue


def short(value: float) -> str:
    """1234567 -> 1.23M; 0.8 -> 0.8; 5e16 -> 5e+16."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= size < 1e12:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"
