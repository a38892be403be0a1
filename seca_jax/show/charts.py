"""Curves over environment steps, painted by matplotlib: the one engine of pictures and pages."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seca_jax.show import style

LOG_FROM = 20.0  # ratio of largest to smallest value from which the vertical axis may be logarithmic
LONGER = 4.0  # ratio of longest to shortest curve from which the steps are: else the short are a strip
CROWDED = 4  # more curves than these have fainter bands
DOTTED = 30  # curves of fewer points show them


class Curve(NamedTuple):
    """One curve and its band."""

    label: str
    steps: np.ndarray  # [P] environment steps of a seed
    band: np.ndarray  # [3, P] lower quartile, median and upper quartile over seeds


def paint(
    axes: Any,
    curves: Sequence[Curve],
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    looks: Sequence[int] | None = None,
    dots: bool = True,
) -> None:
    """Medians in their bands, with ticks that can be read; no title, no legend.

    Args:
        axes: matplotlib's.
        curves: those without points are left out, and the others keep their looks.
        limits: of the vertical axis; None: what the curves need.
        log: a logarithmic vertical axis, where all values are positive and far apart. That of the steps
            is logarithmic, too, where some curves are far longer than others; step 0 is left out then.
        looks: an index of :func:`style.look` for each curve; None: their places.
        dots: mark the points of curves that have few.
    """
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    shown = [
        (curve, *style.look(i))
        for i, curve in zip(range(len(curves)) if looks is None else looks, curves, strict=True)
        if len(curve.steps)
    ]
    last = [float(curve.steps[-1]) for curve, *_ in shown] or [1.0]
    uneven = max(last) > LONGER * min(last) > 0
    if uneven:
        shown = [(after_start(curve), *look) for curve, *look in shown]
    faint = 0.2 if len(shown) <= CROWDED else 0.1
    for curve, colour, _ in shown:
        if (curve.band[0] != curve.band[2]).any():
            around = np.concatenate([curve.steps, curve.steps[::-1]])
            band = np.concatenate([curve.band[2], curve.band[0][::-1]])
            axes.fill(around, band, facecolor=colour, alpha=faint, linewidth=0, clip_on=False)
    for i, (curve, colour, dash) in enumerate(shown):
        (line,) = axes.plot(
            curve.steps, curve.band[1], color=colour, linewidth=1.6, label=curve.label, clip_on=False
        )
        line.set_zorder(3 - i / len(shown))  # the first, which the others are compared with, on top
        if dash:
            line.set_dashes(dash)
        if dots and len(curve.steps) < DOTTED:
            line.set_marker(".")
    axes.grid(alpha=0.3)
    if uneven:
        axes.set_xscale("log")
        axes.set_xlim(right=max(last))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, max(last) or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    low = min((float(curve.band.min()) for curve, *_ in shown), default=0.0)
    high = max((float(curve.band.max()) for curve, *_ in shown), default=1.0)
    if limits:
        axes.set_ylim(*limits)
    if log and low > 0 and high / low >= LOG_FROM:
        axes.set_yscale("log")
        # Within three decades powers of ten alone would be too few marks
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,), numticks=7)
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short(value)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-4, 5))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def after_start(curve: Curve) -> Curve:
    """The curve without step 0, which a logarithmic axis does not have."""
    later = curve.steps > 0
    return curve._replace(steps=curve.steps[later], band=curve.band[:, later])
