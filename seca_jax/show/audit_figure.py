"""A picture of an audit: how accurately the agents at every place of a credit order are assessed."""

import os
from typing import Any

from seca_jax.show import style

DPI = 120
APART = 0.08  # places between the marks of two orders, so that their intervals do not cover each other


def draw(path: str | os.PathLike, document: dict[str, Any]) -> None:
    """Draws correlation with the truth by place, for every order; beside it, how large credit is there.

    Args:
        path: file to write, its ending says in which format.
        document: of the audit.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, size = figure.subplots(1, 2)
    orders = list(dict.fromkeys(row["order"] for row in document["by_place"]))
    for i, order in enumerate(orders):
        colour, shift = style.look(i)[0], APART * (i - (len(orders) - 1) / 2)
        rows = [row for row in document["by_place"] if row["order"] == order]
        known = [row for row in rows if row["correlation"] is not None]
        at = [row["place"] + shift for row in known]
        accuracy.plot(
            at, [row["correlation"] for row in known], "o-", color=colour, ms=4, lw=1.4, label=order
        )
        for x, row in zip(at, known):
            if row["correlation_ci"]:
                accuracy.plot([x, x], row["correlation_ci"], color=colour, lw=1, alpha=0.6)
        places = [row["place"] for row in rows]
        size.plot(places, [row["truth_rms"] or 0.0 for row in rows], "o-", color=colour, ms=4, lw=1.4)
        size.plot(places, [row["rms"] or 0.0 for row in rows], "o--", color=colour, ms=4, lw=1.4, mfc="white")
    accuracy.axhline(0, color="#787878", lw=0.8)
    accuracy.set_ylim(-1.05, 1.05)
    accuracy.set_ylabel("correlation with the truth")
    accuracy.set_title("how accurate, with 95 % intervals", fontsize=10)
    accuracy.legend(frameon=False, fontsize=9)
    size.set_ylim(bottom=0)
    size.set_ylabel("root mean square of the advantage")
    size.set_title("how large: truth (filled), critic (open, dashed)", fontsize=10)
    for axes in (accuracy, size):
        axes.set_xlabel("place in the credit order, first assessed first")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    title = f"{document['algo']} on {document['map']}, seed {document['seed']}, {document['step']:,} steps"
    figure.suptitle(f"Accuracy of sequential credit by place: {title}", fontsize=11)
    figure.savefig(path, dpi=DPI)
