"""Pictures of SMAX battles, drawn straight from :class:`~seca_jax.envs.smax.frame.Frame`.

Plain Pillow at twice the size, halved at the end for smooth edges: a few hundredths of a second
a picture. Nothing is said by colour alone: a shot's line starts thick at the shooter, a healer's is
dashed.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seca_jax.envs.smax.frame import Frame
from seca_jax.envs.smax.scenarios import MAP_SIZE, Ridge
from seca_jax.envs.smax.units import TABLE
from seca_jax.show import style

Draw = ImageDraw.ImageDraw
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Point = tuple[float, float]
_SCALE = 2  # pictures are drawn this many times too large
HEADER = 52  # pixels above the map
_MARGIN = 8  # pixels around the map


def one_battle(frames: Sequence[Frame], env: int = 0) -> Frame:
    """The frames of environment ``env``, as one NumPy Frame with arrays [T, U]."""
    return jax.tree.map(lambda *columns: np.stack([np.asarray(c)[env] for c in columns]), *frames)


def moment(battle: Frame, t: int | slice) -> Frame:
    """The ``t``-th moment of :func:`one_battle`'s result, arrays [U]."""
    return jax.tree.map(lambda column: column[t], battle)


def _centred(draw: Draw, at: Point, text: str, font: Font, fill: style.RGB) -> None:
    draw.text(at, text, font=font, fill=fill, anchor="mm")


def camera(battle: Frame, margin: float = 2.5, smallest: float = 16.0) -> tuple[float, float, float]:
    """The square of the map in which a battle happens: left, bottom and side, in map cells.

    It holds every living unit at every moment with ``margin`` cells to spare (every unit, where none
    lives), and never leaves the map unless the units do.
    """
    lows, sides = [], []
    alive = np.asarray(battle.alive)
    alive = alive if alive.any() else np.ones_like(alive)
    for axis in (battle.x, battle.y):
        used = np.asarray(axis)[alive]
        lows.append((used.min() + used.max()) / 2)
        sides.append(used.max() - used.min() + 2 * margin)
    side = float(np.clip(max(sides), smallest, MAP_SIZE))
    left, bottom = (float(np.clip(middle - side / 2, 0.0, MAP_SIZE - side)) for middle in lows)
    return left, bottom, side


def badge(
    draw: Draw, x: float, y: float, r: float, place: int, fill: style.RGB, font: Callable[[float], Font]
) -> None:
    """A place in the credit order, in a disc of radius ``r`` drawn pixels around (x, y).

    Args:
        draw: of a picture drawn at twice its size.
        x, y, r: drawn pixels.
        place: the number.
        fill: RGB of the disc.
        font: pixels -> font.
    """
    draw.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=style.INK, width=_SCALE)
    luminance = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2]
    ink = style.INK if luminance > 120 else style.PAPER
    _centred(draw, (x, y), str(place), font((1.45 if place < 10 else 1.15) * r), ink)


class Painter:
    """Draws single moments of one battle; holds what all of them share (sizes, fonts, names)."""

    def __init__(
        self,
        title: str,
        num_allies: int,
        size: int = 640,
        view: tuple[float, float, float] = (0.0, 0.0, MAP_SIZE),
        ridge: Ridge | None = None,
        colours: Sequence[style.RGB] | None = None,
        header: bool = True,
    ):
        """
        Args:
            title: left part of the header line, e.g. map and algorithm.
            num_allies: units drawn in the allies' colour, the first ones.
            size: width of the picture in pixels; the header comes on top of the square map.
            view: left, bottom and side of the square to draw, in map cells; see :func:`camera`.
            ridge: of the map, drawn as a shaded band with its ramp left open.
            colours: [N] RGB of the agents' badges, those of their curves elsewhere; without, the first
                place is gold.
            header: leave room above the map for title, status and legend, and write them there.
        """
        self.title, self.num_allies, self.size, self.view = title, num_allies, size, view
        self.ridge, self.colours, self.header = ridge, colours, header
        self.top = HEADER if header else _MARGIN
        self.cell = _SCALE * (size - 2 * _MARGIN) / view[2]  # drawn pixels per map cell
        self.fonts: dict[int, Font] = {}

    def _font(self, pixels: float) -> Font:
        pixels = max(round(pixels), 6)
        if pixels not in self.fonts:
            self.fonts[pixels] = ImageFont.load_default(size=pixels)
        return self.fonts[pixels]

    def _at(self, x: Any, y: Any) -> tuple[float, float]:
        """Map cells (origin at the bottom left) to drawn pixels."""
        left, bottom, side = self.view
        return _SCALE * _MARGIN + (x - left) * self.cell, _SCALE * self.top + (bottom + side - y) * self.cell

    def draw(
        self, now: Frame, *, status: str = "", order: np.ndarray | None = None, shots: bool = True
    ) -> Image.Image:
        """One picture.

        Args:
            now: Frame of one moment, arrays [U].
            status: right part of the header's first line.
            order: [N] agent indices, first assessed first; drawn as a numbered badge by each agent.
            shots: draw lines to the units shot at or healed.

        Returns:
            RGB image, ``size`` wide.
        """
        height = self.size - 2 * _MARGIN + self.top + _MARGIN
        image = Image.new("RGB", (_SCALE * self.size, _SCALE * height), style.PAPER)
        draw = ImageDraw.Draw(image)
        self._field(draw)
        if self.header:
            self._header(draw, now, status, order is not None)
        for unit in np.flatnonzero(~now.alive).tolist():
            self._grave(draw, now, unit)
        if shots:
            for unit in np.flatnonzero(now.alive & (now.target >= 0)).tolist():
                self._shot(draw, now, unit, int(now.target[unit]))
        place = {} if order is None else {int(agent): i + 1 for i, agent in enumerate(order)}
        living = np.flatnonzero(now.alive)
        # Large ones first: a Medivac may hover right over a marine
        living = living[np.argsort(-TABLE.radius[now.unit_type[living]], kind="stable")]
        for unit in living:
            self._body(draw, now, unit)
        # Bars go on top of every body and badges on top of every bar, so that a crowd hides none of them.
        for unit in living:
            self._bar(draw, now, unit)
        for unit in living:
            if int(unit) in place:
                self._place(draw, now, unit, place[int(unit)])
        return image.reduce(_SCALE)

    def _field(self, draw: Draw) -> None:
        left, bottom, side = self.view
        right, top = left + side, bottom + side
        draw.rectangle([self._at(left, top), self._at(right, bottom)], fill=style.FIELD)
        if self.ridge:
            low, high = (float(np.clip(y, bottom, top)) for y in self.ridge[:2])
            for west, east in ((0.0, self.ridge.ramp_west), (self.ridge.ramp_east, MAP_SIZE)):
                west, east = (float(np.clip(x, left, right)) for x in (west, east))
                if west < east and low < high:
                    draw.rectangle([self._at(west, high), self._at(east, low)], fill=style.ROCK)
        for line in np.arange(0, MAP_SIZE + 1, 4):
            if left < line < right:
                draw.line([self._at(line, bottom), self._at(line, top)], fill=style.GRID, width=_SCALE)
            if bottom < line < top:
                draw.line([self._at(left, line), self._at(right, line)], fill=style.GRID, width=_SCALE)
        # Where the picture ends at the map's own edge there is a wall; elsewhere the map goes on.
        for edge, ends in (
            (left <= 0, ((left, bottom), (left, top))),
            (right >= MAP_SIZE, ((right, bottom), (right, top))),
            (bottom <= 0, ((left, bottom), (right, bottom))),
            (top >= MAP_SIZE, ((left, top), (right, top))),
        ):
            colour, width = (style.INK, 3 * _SCALE) if edge else (style.EDGE, _SCALE)
            draw.line([self._at(*end) for end in ends], fill=colour, width=width)

    def _header(self, draw: Draw, now: Frame, status: str, badges: bool) -> None:
        font, small = self._font(15 * _SCALE), self._font(12 * _SCALE)
        left, right = _SCALE * _MARGIN, _SCALE * (self.size - _MARGIN)
        draw.text((left, 14 * _SCALE), self.title, font=font, fill=style.INK, anchor="lm")
        draw.text((right, 14 * _SCALE), status, font=font, fill=style.INK, anchor="rm")
        x, y, r = left + 5 * _SCALE, 37 * _SCALE, 5 * _SCALE
        n = self.num_allies
        for name, colour, alive in (
            ("allies", style.ALLY, now.alive[:n]),
            ("enemies", style.ENEMY, now.alive[n:]),
        ):
            draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
            text = f"{name} {int(alive.sum())}/{len(alive)}"
            draw.text((x + 2 * r, y), text, font=small, fill=style.INK, anchor="lm")
            x += 2 * r + small.getlength(text) + 16 * _SCALE
        if badges:
            text = "place in the credit order"
            draw.text((right, y), text, font=small, fill=style.INK, anchor="rm")
            fill = style.PAPER if self.colours else style.GOLD
            badge(draw, right - small.getlength(text) - 11 * _SCALE, y, 7 * _SCALE, 1, fill, self._font)

    def _colour(self, unit: int) -> style.RGB:
        return style.ALLY if unit < self.num_allies else style.ENEMY

    def _radius(self, now: Frame, unit: int) -> float:
        # A zergling's true radius leaves no room for its letter.
        return max(float(TABLE.radius[now.unit_type[unit]]), 0.45) * self.cell

    def _grave(self, draw: Draw, now: Frame, unit: int) -> None:
        x, y = self._at(now.x[unit], now.y[unit])
        r = 0.6 * self._radius(now, unit)
        for sign in (-1, 1):
            line = [(x - r, y - sign * r), (x + r, y + sign * r)]
            draw.line(line, fill=style.mixed(self._colour(unit), 0.35, style.FIELD), width=2 * _SCALE)

    def _shot(self, draw: Draw, now: Frame, unit: int, target: int) -> None:
        start = np.array(self._at(now.x[unit], now.y[unit]))
        end = np.array(self._at(now.x[target], now.y[target]))
        heals = (unit < self.num_allies) == (target < self.num_allies)
        if heals:
            for a in np.arange(0.0, 1.0, 0.2):
                dash = [tuple(start + a * (end - start)), tuple(start + (a + 0.12) * (end - start))]
                draw.line(dash, fill=style.HEAL, width=3 * _SCALE)
            return
        across = np.array([start[1] - end[1], end[0] - start[0]])
        across = across / max(float(np.hypot(*across)), 1e-6) * 2.2 * _SCALE
        draw.polygon(
            [tuple(start + across), tuple(start - across), tuple(end)],
            fill=style.mixed(self._colour(unit), 0.6, style.FIELD),
        )

    def _body(self, draw: Draw, now: Frame, unit: int) -> None:
        x, y = self._at(now.x[unit], now.y[unit])
        r = self._radius(now, unit)
        box = [x - r, y - r, x + r, y + r]
        if unit < self.num_allies:
            draw.ellipse(box, fill=self._colour(unit), outline=style.PAPER, width=_SCALE)
        else:
            draw.rounded_rectangle(
                box, radius=0.35 * r, fill=self._colour(unit), outline=style.PAPER, width=_SCALE
            )
        letter = TABLE.shorthands[now.unit_type[unit]]
        _centred(draw, (x, y), letter, self._font(1.35 * r), style.PAPER)

    def _bar(self, draw: Draw, now: Frame, unit: int) -> None:
        x, y = self._at(now.x[unit], now.y[unit])
        r = self._radius(now, unit)
        half, top, thick = 0.9 * r, y - r - 5 * _SCALE, 4 * _SCALE
        fraction = float(np.clip(now.health_fraction[unit], 0, 1))
        draw.rectangle([x - half, top, x + half, top + thick], fill=style.PAPER, outline=style.INK, width=1)
        if fraction > 0:
            draw.rectangle([x - half, top, x - half + 2 * half * fraction, top + thick], fill=style.INK)

    def _place(self, draw: Draw, now: Frame, unit: int, place: int) -> None:
        x, y = self._at(now.x[unit], now.y[unit])
        r = self._radius(now, unit)
        fill = self.colours[unit] if self.colours else style.GOLD if place == 1 else style.PAPER
        # A still is looked at smaller than a film, and its numbers are what it is for
        radius = (6.5 if self.header else 8) * _SCALE
        badge(draw, x + 0.95 * r, y + 0.85 * r, radius, place, fill, self._font)


def pictures(
    battle: Frame,
    *,
    title: str,
    returns: np.ndarray | None = None,
    order: np.ndarray | None = None,
    outcome: str = "",
    size: int = 640,
    tween: int = 2,
    ridge: Ridge | None = None,
    colours: Sequence[style.RGB] | None = None,
) -> Iterator[Image.Image]:
    """Pictures of a whole battle, ``tween`` for each step, moving evenly between two steps.

    Args:
        battle: arrays [T, U], see :func:`one_battle`; moment 0 is the start.
        title: left part of the header.
        returns: [T] return so far at each moment, in the environment's own unit.
        order: [T, N] or [N] agent indices, first assessed first.
        outcome: word shown at the last moment, e.g. ``won``.
        size: width in pixels.
        tween: pictures a step.
        ridge: of the map, if it has one.
        colours: [N] RGB of the agents' badges, see :class:`Painter`.
    """
    painter = Painter(title, battle.num_allies, size, camera(battle), ridge, colours)
    steps = battle.x.shape[0]
    if order is not None:
        order = np.asarray(order)
        order = np.broadcast_to(order, (steps, order.shape[-1]))
    for t in range(steps):
        now, before = moment(battle, t), moment(battle, max(t - 1, 0))
        status = f"step {t}" + ("" if returns is None else f"   return {returns[t]:.2f}")
        status += f"   {outcome}" if outcome and t == steps - 1 else ""
        for share in (np.arange(tween) + 1) / tween if t else (1.0,):
            between = now
            if share < 1.0:
                between = dataclasses.replace(
                    before,
                    x=(1 - share) * before.x + share * now.x,
                    y=(1 - share) * before.y + share * now.y,
                    target=now.target,
                )
            yield painter.draw(between, status=status, order=None if order is None else order[t])


def still(
    battle: Frame,
    t: int,
    *,
    order: np.ndarray | None = None,
    size: int = 320,
    ridge: Ridge | None = None,
    colours: Sequence[style.RGB] | None = None,
) -> Image.Image:
    """One moment as a small square picture without words, close to the units that live in it.

    Args:
        battle: arrays [T, U], see :func:`one_battle`.
        t: the moment.
        order: [N] agent indices, first assessed first.
        size: width and height in pixels.
        ridge: of the map, if it has one.
        colours: [N] RGB of the agents' badges.
    """
    view = camera(moment(battle, slice(t, t + 1)), margin=1.8, smallest=9.0)
    painter = Painter("", battle.num_allies, size + 2 * _MARGIN, view, ridge, colours, header=False)
    image = painter.draw(moment(battle, t), order=order)
    # The margin may show parts of units outside the view
    return image.crop((_MARGIN, _MARGIN, _MARGIN + size, _MARGIN + size))


def save_gif(
    path: str | os.PathLike, images: Iterable[Image.Image], *, ms: int = 70, hold_ms: int = 2000
) -> None:
    """Write pictures as an endless GIF, ``ms`` milliseconds each, the last one ``hold_ms``.

    All share one palette, chosen from the first, middle and last picture: colours then do not
    flicker, and picking 128 of them once is what makes writing fast.
    """
    images = list(images)
    width, height = images[0].size
    sample = Image.new("RGB", (width, 3 * height))
    for i, image in enumerate((images[0], images[len(images) // 2], images[-1])):
        sample.paste(image, (0, i * height))
    palette = sample.quantize(colors=128, dither=Image.Dither.NONE)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [ms] * (len(frames) - 1) + [hold_ms]
    frames[0].save(
        os.fspath(path), save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )
