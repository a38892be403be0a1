"""The panel beside a battle's picture: contributions as they grow, and who is assessed when.

Plain Pillow, as the battle itself: matplotlib takes a second for what is drawn here a hundred times.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seca_jax.show import style
from seca_jax.show.battle import Font, badge

_SCALE = 2  # drawn this many times too large, halved at the end for smooth edges
_ROW = 24  # pixels of an agent's line, where there is room


def so_far(contribution: np.ndarray) -> np.ndarray:
    """[T + 1, N] what each agent contributed up to each moment, from ``contribution`` [T, N] of the steps."""
    return np.concatenate([np.zeros((1, contribution.shape[1])), np.cumsum(contribution, axis=0)])


SQUEEZED = 2.0  # how many times the others' span an agent's may be before it is cut off


def limits(total: np.ndarray) -> tuple[float, float]:
    """What the vertical axis of :func:`so_far` spans: 0 and all agents, but for those that dwarf the rest.

    An agent that loses, dying, many times what the others ever gain would make their curves one line; the
    axis leaves it out, for at most half of the agents, and never one of two.

    Args:
        total: [T + 1, N].
    """
    low, high = np.minimum(total.min(axis=0), 0.0), np.maximum(total.max(axis=0), 0.0)
    kept = list(range(total.shape[1]))

    def span(agents: list[int]) -> float:
        return float(high[agents].max() - low[agents].min())

    while len(kept) > max((total.shape[1] + 1) // 2, 2):
        rest = min(([a for a in kept if a != out] for out in kept), key=span)
        if not 0 < SQUEEZED * span(rest) < span(kept):
            break
        kept = rest
    bottom, top = float(low[kept].min()), float(high[kept].max())
    spare = 0.05 * (top - bottom or 1.0)
    return bottom - spare, top + spare


class Panel:
    """Draws the moments of one episode; what all of them share is drawn once."""

    def __init__(
        self,
        *,
        contribution: np.ndarray,
        order: np.ndarray,
        alive: np.ndarray,
        names: Sequence[str],
        size: tuple[int, int],
    ):
        """
        Args:
            contribution: [T, N] of the segment that starts at step t, Eq. 14.
            order: [T, N] agent indices, first assessed first.
            alive: [T + 1, N] bool; the dead are faded.
            names: of the N agents.
            size: width and height in pixels.
        """
        self.sum, self.order, self.alive, self.names = so_far(contribution), order, alive, names
        self.colours = style.agents(len(names))
        self.width, self.height = (_SCALE * pixels for pixels in size)
        self.fonts: dict[int, Font] = {}
        heading, room = 52 * _SCALE, self.height - 8 * _SCALE
        self.row = min(_ROW * _SCALE, 0.55 * (room - heading) / len(names))
        self.list_top = room - self.row * len(names)
        labels = [self._number(value) for value in (self.sum.min(), self.sum.max())]
        left = 10 * _SCALE + max(self._font(11 * _SCALE).getlength(label) for label in labels)
        # left, top, right and bottom of the curves
        self.box = (left, heading, self.width - 10 * _SCALE, self.list_top - 58 * _SCALE)
        self.low, self.high = limits(self.sum)
        self.base = self._base()

    def _font(self, pixels: float) -> Font:
        pixels = max(round(pixels), 6)
        if pixels not in self.fonts:
            self.fonts[pixels] = ImageFont.load_default(size=pixels)
        return self.fonts[pixels]

    def _number(self, value: float) -> str:
        digits = max(0, 1 - int(np.floor(np.log10(np.abs(self.sum).max() or 1.0))))
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero

    def _x(self, t: float) -> float:
        left, _, right, _ = self.box
        return left + (right - left) * t / max(len(self.sum) - 1, 1)

    def _y(self, value: float) -> float:
        _, top, _, bottom = self.box
        share = (value - self.low) / (self.high - self.low)
        return bottom - (bottom - top) * min(max(share, 0.0), 1.0)

    def _base(self) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), style.PAPER)
        draw = ImageDraw.Draw(image)
        font, small = self._font(15 * _SCALE), self._font(11 * _SCALE)
        left, top, right, bottom = self.box
        draw.text((8 * _SCALE, 14 * _SCALE), "contribution so far", font=font, fill=style.INK, anchor="lm")
        subtitle = "integrated gradients of f(s; policies)"
        draw.text((8 * _SCALE, 37 * _SCALE), subtitle, font=small, fill=style.GREY, anchor="lm")
        draw.rectangle(self.box, outline=style.FAINT, width=_SCALE)
        draw.line([left, self._y(0), right, self._y(0)], fill=style.GREY, width=_SCALE)
        marks = {0.0, max(float(self.sum.min()), self.low), min(float(self.sum.max()), self.high)}
        # Zero always; an extreme only where its label stays clear of zero's
        for value in marks:
            if value == 0.0 or abs(self._y(value) - self._y(0)) > 14 * _SCALE:
                place = (left - 4 * _SCALE, self._y(value))
                draw.text(place, self._number(value), font=small, fill=style.GREY, anchor="rm")
        last = len(self.sum) - 1
        draw.text((left, bottom + 9 * _SCALE), "0", font=small, fill=style.GREY, anchor="mm")
        draw.text((right, bottom + 9 * _SCALE), str(last), font=small, fill=style.GREY, anchor="rm")
        draw.text(((left + right) / 2, bottom + 9 * _SCALE), "step", font=small, fill=style.GREY, anchor="mm")
        heading = (8 * _SCALE, self.list_top - 18 * _SCALE)
        draw.text(heading, "credit order, first assessed first", font=font, fill=style.INK, anchor="lm")
        return image

    def draw(self, t: int) -> Image.Image:
        """The panel at moment ``t``, 0 to T: RGB image of the size asked for."""
        image = self.base.copy()
        draw = ImageDraw.Draw(image)
        x = self._x(t)
        draw.line([x, self.box[1], x, self.box[3]], fill=style.FAINT, width=2 * _SCALE)
        for agent, colour in enumerate(self.colours):
            line = [(self._x(i), self._y(self.sum[i, agent])) for i in range(t + 1)]
            fill = colour if self.alive[t, agent] else style.mixed(colour, 0.35)
            if t:
                draw.line(line, fill=fill, width=2 * _SCALE, joint="curve")
            r = 3 * _SCALE
            draw.ellipse([x - r, line[-1][1] - r, x + r, line[-1][1] + r], fill=fill)
        # The order of step t leads out of moment t; the last moment keeps it
        for place, agent in enumerate(self.order[min(t, len(self.order) - 1)]):
            self._line(draw, place, int(agent), t)
        return image.reduce(_SCALE)

    def _line(self, draw: ImageDraw.ImageDraw, place: int, agent: int, t: int) -> None:
        y = self.list_top + (place + 0.5) * self.row
        font = self._font(min(13 * _SCALE, 0.8 * self.row))
        lives = self.alive[t, agent]
        fill = self.colours[agent] if lives else style.mixed(self.colours[agent], 0.35)
        radius = min(8 * _SCALE, 0.44 * self.row)
        badge(draw, 18 * _SCALE, y, radius, place + 1, fill, self._font)
        name = self.names[agent] + ("" if lives else " (dead)")
        ink = style.INK if lives else style.GREY
        draw.text((34 * _SCALE, y), name, font=font, fill=ink, anchor="lm")
        value = self._number(self.sum[t, agent])
        draw.text((self.width - 10 * _SCALE, y), value, font=font, fill=ink, anchor="rm")


def beside(picture: Image.Image, panel: Image.Image) -> Image.Image:
    """Two pictures of one height, side by side."""
    both = Image.new("RGB", (picture.width + panel.width, picture.height), style.PAPER)
    both.paste(picture, (0, 0))
    both.paste(panel, (picture.width, 0))
    return both
