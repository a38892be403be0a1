"""A picture of an audit: how accurately the agents at every place of a credit order are assessed."""

import math
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
    ends = [-0.2, 0.5]  # that the axis holds at least
    for i, order in enumerate(orders):
        colour, shift = style.look(i)[0], APART * (i - (len(orders) - 1) / 2)
        rows = [row for row in document["by_place"] if row["order"] == order]
        # A place that nothing is known of breaks the line
        known = [math.nan if row["correlation"] is None else row["correlation"] for row in rows]
        at = [row["place"] + shift for row in rows]
        accuracy.plot(at, known, "o-", color=colour, ms=4, lw=1.4, label=order)
        ends += known
        for x, row in zip(at, rows):
            if row["correlation_ci"]:
                accuracy.plot([x, x], row["correlation_ci"], color=colour, lw=1, alpha=0.6)
                ends += row["correlation_ci"]
        places = [row["place"] for row in rows]
        size.plot(places, [row["truth_rms"] or 0.0 for row in rows], "o-", color=colour, ms=4, lw=1.4)
        size.plot(places, [row["rms"] or 0.0 for row in rows], "o--", color=colour, ms=4, lw=1.4, mfc="white")
    accuracy.axhline(0, color="#787878", lw=0.8)
    ends = [end for end in ends if math.isfinite(end)]
    # An estimate cleared of noise may pass 1, by little or by anything
    accuracy.set_ylim(max(-1.05, min(ends) - 0.05), min(1.25, max(ends) + 0.05))
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
