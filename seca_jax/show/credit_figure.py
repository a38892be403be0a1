"""A picture of one episode's credit: what each agent contributed, and when it was assessed."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seca_jax.show import credit_panel, style

STILLS = 5  # pictures of the battle above the curves
_WIDTH, _LEFT, _RIGHT = 12.0, 1.45, 1.75  # inches: the figure, and what is left free beside the axes
_STILL = 0.95 * (_WIDTH - _LEFT - _RIGHT) / (STILLS - 1)  # inches: leaves a gap between neighbours
DPI = 120
FADED = 0.35  # opacity of what belongs to the dead
STILL_PIXELS = round(DPI * _STILL)


class Still(NamedTuple):
    """A picture of the battle."""

    step: int  # the moment it shows, 0 to T
    image: Any  # square RGB picture, best STILL_PIXELS wide
    caption: str


def moments(steps: int) -> list[int]:
    """The moments of an episode of ``steps`` steps that are worth a picture: evenly spread, both ends."""
    return sorted({round(t) for t in np.linspace(0, steps, STILLS)})


def credit(
    path: str | os.PathLike,
    *,
    contribution: np.ndarray,
    order: np.ndarray,
    alive: np.ndarray,
    names: Sequence[str],
    title: str,
    stills: Sequence[Still] = (),
) -> None:
    """Draws contributions summed up to each moment, below them each agent's place in the order.

    Where a curve dwarfs the others, see :func:`credit_panel.limits`, a triangle at the edge tells its value.
    Pictures of the battle stand above the moments that they show.

    Args:
        path: file to write: PNG, SVG or PDF, as its name ends.
        contribution: [T, N] of the segment that starts at step t, Eq. 14.
        order: [T, N] agent indices, first assessed first.
        alive: [T + 1, N] bool; curves and places of the dead are faded.
        names: of the N agents.
        title: of the figure.
        stills: at most STILLS, in the order of time.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, agents = order.shape
    # Inches from the top down; by hand, so that the pictures stand exactly above their moments
    strip = _STILL + 0.5 if stills else 0.0
    curves, rows = 3.0, 0.27 * agents + 0.1
    height = 0.5 + strip + curves + 0.4 + rows + 0.6
    figure = Figure(figsize=(_WIDTH, height))
    FigureCanvasAgg(figure)
    figure.suptitle(title, y=1 - 0.28 / height, va="center")

    def axes(top: float, tall: float, **options: Any) -> Any:
        across = (_LEFT / _WIDTH, (_WIDTH - _LEFT - _RIGHT) / _WIDTH)
        return figure.add_axes((across[0], 1 - (top + tall) / height, across[1], tall / height), **options)

    upper = axes(0.5 + strip, curves)
    lower = axes(0.5 + strip + curves + 0.4, rows, sharex=upper)
    upper.set_xlim(0, max(steps, 1))
    colours = [tuple(part / 255 for part in colour) for colour in style.agents(agents)]
    _curves(upper, credit_panel.so_far(contribution), alive, colours, names)
    _places(lower, order, alive[:steps], colours, names)
    for i, still in enumerate(stills):
        middle = i / max(len(stills) - 1, 1)
        left = _LEFT + middle * (_WIDTH - _LEFT - _RIGHT) - _STILL / 2
        place = (left / _WIDTH, 1 - (0.5 + 0.22 + _STILL) / height, _STILL / _WIDTH, _STILL / height)
        _still(figure.add_axes(place), upper, lower, still)
    figure.savefig(path, dpi=DPI)


def _still(axes: Any, upper: Any, lower: Any, still: Still) -> None:
    """A picture of the battle, and a line from it through what is drawn of its moment."""
    from matplotlib.patches import ConnectionPatch

    axes.imshow(still.image, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(still.caption, fontsize=9, pad=4)
    line = ConnectionPatch(
        (0.5, 0),
        (still.step, 1),
        coordsA=axes.transAxes,
        coordsB=upper.get_xaxis_transform(),
        color="0.55",
        linestyle=(0, (2, 2)),
    )
    axes.figure.add_artist(line)
    for below in (upper, lower):
        below.axvline(still.step, color="0.55", linewidth=1, linestyle=(0, (2, 2)), zorder=1.5)


def _curves(axes: Any, so_far: np.ndarray, alive: np.ndarray, colours: list, names: Sequence[str]) -> None:
    living = np.where(alive, so_far, np.nan)
    for agent, name in enumerate(names):
        axes.plot(so_far[:, agent], color=colours[agent], linewidth=1, alpha=0.3)
        axes.plot(living[:, agent], color=colours[agent], linewidth=1.8, label=name)
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    low, high = credit_panel.limits(so_far)
    axes.set_ylim(low, high)
    for agent, colour in enumerate(colours):
        for t in _peaks(so_far[:, agent], low, high):
            value = so_far[t, agent]
            edge, pointing = (low, "v") if value < low else (high, "^")
            axes.plot(t, edge, pointing, color=colour, markersize=8, clip_on=False, zorder=3)
            axes.annotate(
                f"{value:.2g}",
                (t, edge),
                xytext=(7, 6 if value < low else -12),
                textcoords="offset points",
                fontsize=9,
                color=colour,
            )
    axes.set_ylabel("contribution so far\n(integrated gradients of f)")
    axes.grid(alpha=0.3)
    axes.tick_params(labelbottom=False)
    if len(names) <= 12:  # more have no room here: the rows below show their colours too
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.02))


def _peaks(values: np.ndarray, low: float, high: float) -> list[int]:
    """The moment of the furthest value of every stretch that is outside of the axis; ``values`` [T + 1]."""
    beyond = np.maximum(low - values, values - high)
    outside = beyond > 0
    starts = np.flatnonzero(outside & ~np.concatenate([[False], outside[:-1]]))
    ends = np.flatnonzero(outside & ~np.concatenate([outside[1:], [False]])) + 1
    return [int(start + beyond[start:end].argmax()) for start, end in zip(starts, ends)]


def _places(axes: Any, order: np.ndarray, alive: np.ndarray, colours: list, names: Sequence[str]) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator

    steps, agents = order.shape
    place = np.argsort(order, axis=1) + 1
    image = axes.imshow(
        place.T,
        aspect="auto",
        interpolation="nearest",
        cmap="viridis_r",
        vmin=1,
        vmax=max(agents, 2),
        alpha=np.where(alive, 1.0, FADED).T,
        extent=(0, steps, agents - 0.5, -0.5),  # the order of step t holds from moment t to t + 1
    )
    changes = np.concatenate([[True], (order[1:] != order[:-1]).any(1)])
    starts = np.flatnonzero(changes)
    # Numbers where an order lasts long enough to read them
    for start, end in zip(starts, [*starts[1:], steps]):
        if end - start >= steps / 24:
            for agent in range(agents):
                at, middle = place[start, agent], (start + end) / 2
                shade = np.array(image.cmap(image.norm(at))[:3])
                if not alive[min(int(middle), steps - 1), agent]:
                    shade = FADED * shade + 1 - FADED
                ink = "black" if shade @ (0.299, 0.587, 0.114) > 0.5 else "white"
                text = axes.text(middle, agent, str(at), ha="center", va="center", fontsize=9, color=ink)
                # Interrupts a still's line that happens to pass here
                text.set_path_effects([withStroke(linewidth=5, foreground=shade)])
    axes.set_yticks(range(agents), names, fontsize=9)
    axes.tick_params(axis="y", length=0, pad=16)
    axes.scatter(
        [-0.009] * agents,
        range(agents),
        color=colours,
        s=36,
        clip_on=False,
        transform=axes.get_yaxis_transform(),
    )
    axes.set_ylim(agents - 0.5, -0.5)
    axes.set_xlabel("step")
    axes.set_title(
        "place in the credit order, first assessed first (pale: dead)", fontsize=10, loc="left", pad=4
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    inside = axes.inset_axes((1.012, 0.0, 0.014, 1.0))
    bar = axes.figure.colorbar(image, cax=inside, label="place")
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    bar.ax.invert_yaxis()
