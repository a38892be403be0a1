"""A picture of one episode's credit: what each agent contributed, and when it was assessed."""

import os
from collections.abc import Sequence

import numpy as np


def credit(
    path: str | os.PathLike,
    *,
    contribution: np.ndarray,
    order: np.ndarray,
    alive: np.ndarray,
    names: Sequence[str],
    title: str,
) -> None:
    """Draws contributions summed up to each step, and below them each agent's place in the order.

    Args:
        path: PNG to write.
        contribution: [T, N] of the segment that starts at step t, Eq. 14.
        order: [T, N] agent indices, first assessed first.
        alive: [T, N] bool; curves and places of the dead are faded.
        names: of the N agents.
        title: of the figure.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps, agents = order.shape
    place = np.argsort(order, axis=1) + 1
    height = 3.2 + 0.28 * agents
    figure = Figure(figsize=(9.5, 1.2 + height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 0.28 * agents + 0.3))

    so_far = np.concatenate([np.zeros((1, agents)), np.cumsum(contribution, axis=0)[:-1]])
    living = np.where(alive, so_far, np.nan)
    colours = _colours(agents)
    for agent in range(agents):
        upper.plot(so_far[:, agent], color=colours[agent], linewidth=1, alpha=0.3)
        upper.plot(living[:, agent], color=colours[agent], linewidth=1.8, label=names[agent])
    upper.axhline(0.0, color="0.6", linewidth=0.8)
    upper.set_ylabel("contribution so far\n(integrated gradients of f)")
    upper.grid(alpha=0.3)
    if agents <= 16:
        upper.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    shade = np.where(alive, 1.0, 0.35).T
    image = lower.imshow(
        place.T, aspect="auto", interpolation="nearest", cmap="viridis_r", vmin=1, vmax=agents, alpha=shade
    )
    changes = np.concatenate([[True], (order[1:] != order[:-1]).any(1)])
    starts = np.flatnonzero(changes)
    # Numbers where an order lasts long enough to read them.
    for start, end in zip(starts, [*starts[1:], steps]):
        if end - start >= steps / 24:
            for agent in range(agents):
                at, middle = place[start, agent], (start + end - 1) / 2
                dark = at > agents / 2 and alive[int(middle), agent]
                colour = "white" if dark else "black"
                lower.text(middle, agent, str(at), ha="center", va="center", fontsize=8, color=colour)
    lower.set_yticks(range(agents), names, fontsize=8)
    lower.set_ylabel("place in the\ncredit order")
    lower.set_xlabel("step")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    bar = figure.colorbar(image, ax=lower, label="place", pad=0.01)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.ax.invert_yaxis()
    figure.savefig(path, dpi=120, format="png")


def _colours(count: int) -> list:
    """As many distinguishable colours as there are agents."""
    import matplotlib

    if count <= 10:
        return list(matplotlib.color_sequences["petroff10"])[:count]
    return [matplotlib.colormaps["turbo"](x) for x in np.linspace(0.05, 0.95, count)]
