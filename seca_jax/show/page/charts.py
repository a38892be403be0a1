"""Charts as inline SVG for the report page: no script, no font and no file besides the page."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

# Okabe and Ito's palette, its yellow left out, which is too pale for a line on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")
DASHES = ("", "7 3", "2 3")  # every time the colours start again
LOOKS = len(COLOURS) * len(DASHES)  # that differ
WIDTH, HEIGHT = 460, 270  # of the viewBox: a phone shows it at 3/4 size, a laptop a little enlarged
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 38
HOVERS = 40  # most points of a curve that tell their numbers


class Curve(NamedTuple):
    """One curve and its band."""

    label: str
    steps: np.ndarray  # [P] environment steps of a seed
    band: np.ndarray  # [3, P] lower quartile, median and upper quartile over seeds


def style(index: int) -> tuple[str, str]:
    """Colour and dash pattern of the curve with this index."""
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers, about ``count`` of them, from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """1234567 -> 1.23M; 0.8 -> 0.8; 5e16 -> 5e+16."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= size < 1e12:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def chart(
    title: str,
    curves: Sequence[Curve],
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    styles: Sequence[int] | None = None,
) -> str:
    """A ``<figure>``: title, legend and curves over environment steps.

    Args:
        title: what is drawn.
        curves: those without points are left out, and the others keep their colours.
        limits: of the vertical axis; None: what the curves need.
        log: a logarithmic vertical axis, where all values are positive.
        styles: an index of :func:`style` for each curve, for charts that share curves; None: their places.
    """
    looks = range(len(curves)) if styles is None else styles
    styled = [(curve, style(i)) for i, curve in zip(looks, curves, strict=True) if len(curve.steps)]
    if not styled:
        return f'<figure class="chart"><figcaption>{escape(title)}: no numbers yet</figcaption></figure>'
    scale = _Scale([curve for curve, _ in styled], limits, log)
    parts = [*scale.frame()]
    for curve, (colour, _) in styled:
        if (curve.band[0] != curve.band[2]).any():
            outline = [*zip(curve.steps, curve.band[2]), *reversed([*zip(curve.steps, curve.band[0])])]
            parts.append(f'<polygon points="{scale.points(outline)}" fill="{colour}" fill-opacity=".18"/>')
    for curve, (colour, dash) in styled:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        line = scale.points(zip(curve.steps, curve.band[1]))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')
    for curve, (colour, _) in styled:
        parts += _hovers(curve, colour, scale)
    label = escape(f"{title}: " + ", ".join(_spoken(curve) for curve, _ in styled), quote=True)
    # A lone greedy curve needs no legend
    legend = "" if len(styled) == 1 else "".join(_key(curve.label, *look) for curve, look in styled)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        + (f'<p class="legend">{legend}</p>' if legend else "")
        + f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg></figure>"
    )


def interval(value: float, low: float, high: float, label: str = "") -> str:
    """A small SVG: ``value`` in its interval on a scale from 0 to 1."""
    a, b, x = (4 + 112 * min(max(v, 0.0), 1.0) for v in (low, high, value))
    return (
        f'<svg class="interval" viewBox="0 0 120 14" role="img" aria-label="{escape(label, quote=True)}">'
        '<line x1="4" y1="7" x2="116" y2="7" stroke="#ddd"/>'
        f'<line x1="{a:.1f}" y1="7" x2="{b:.1f}" y2="7" stroke="#0072b2" stroke-width="3"/>'
        f'<circle cx="{x:.1f}" cy="7" r="4" fill="#0072b2"/></svg>'
    )


class _Scale:
    """From steps and values to the viewBox."""

    def __init__(self, curves: list[Curve], limits: tuple[float, float] | None, log: bool):
        self.last = max(float(max(curve.steps[-1] for curve in curves)), 1.0)
        low = min(float(curve.band.min()) for curve in curves)
        high = max(float(curve.band.max()) for curve in curves)
        self.log = log and low > 0
        if self.log:
            self.low, self.high = math.floor(math.log10(low)), math.ceil(math.log10(high))
            self.high = max(self.high, self.low + 1)
        elif limits:
            self.low, self.high = limits
        else:
            spare = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
            self.low, self.high = low - spare, high + spare

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * float(step) / self.last

    def y(self, value: float) -> float:
        value = math.log10(value) if self.log else float(value)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / (self.high - self.low)

    def points(self, pairs) -> str:
        return " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in pairs)

    def frame(self) -> list[str]:
        """Grid, tick labels, the horizontal axis' name."""
        if self.log:
            every = max(1, math.ceil((self.high - self.low) / 5))
            marks = [10.0**power for power in range(self.low, self.high + 1, every)]
        else:
            marks = ticks(self.low, self.high)
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = []
        for mark in marks:
            y = self.y(mark)
            parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>')
            text = short(float(f"{mark:.6g}") + 0.0)
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for mark in ticks(0.0, self.last, 4):
            x = self.x(mark)
            parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" class="axis"/>')
            # Centred under its tick, but never beyond the picture
            anchor = "end" if x > right - 14 else "middle"
            parts.append(
                f'<text x="{min(x, right):.1f}" y="{bottom + 17}" text-anchor="{anchor}">{short(mark)}</text>'
            )
        middle = (LEFT + right) / 2
        parts.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" class="axis"/>')
        parts.append(
            f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">environment steps per seed</text>'
        )
        return parts


def _hovers(curve: Curve, colour: str, scale: _Scale) -> list[str]:
    """Dots that say their numbers when pointed at; visible only where there are few."""
    chosen = np.unique(np.linspace(0, len(curve.steps) - 1, HOVERS).round().astype(int))
    shown = len(curve.steps) <= 25
    parts = []
    for i in chosen:
        low, median, high = curve.band[:, i]
        words = f"{curve.label}, {short(curve.steps[i])} steps: {median:.4g} ({low:.4g} to {high:.4g})"
        at = f'cx="{scale.x(curve.steps[i]):.1f}" cy="{scale.y(median):.1f}"'
        if shown:
            parts.append(f'<circle {at} r="2.5" fill="{colour}"/>')
        parts.append(f'<circle {at} r="7" fill="transparent"><title>{escape(words)}</title></circle>')
    return parts


def _spoken(curve: Curve) -> str:
    return f"{curve.label} ends at {curve.band[1, -1]:.4g}"


def _key(label: str, colour: str, dash: str) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    line = f'<line x1="0" y1="6" x2="22" y2="6" stroke="{colour}" stroke-width="3"{dashed}/>'
    return f'<span><svg viewBox="0 0 22 12" aria-hidden="true">{line}</svg>{escape(label)}</span> '
