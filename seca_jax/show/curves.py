"""Learning curves as the paper draws them: the median over seeds in a band from quartile to quartile."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np

from seca_jax import runs
from seca_jax.show import charts

GREEDY, SAMPLING = "greedy", "sampling, while training"


class Panel(NamedTuple):
    """What one set of axes shows."""

    title: str
    metrics: dict[str, str]  # of metrics.jsonl, in the order drawn, with what their curves are called
    limits: tuple[float, float] | None = None  # of the vertical axis; None: what the curves need
    log: bool = False  # logarithmic where values are far apart


SHARE = (-0.02, 1.02)  # room for what lies at the ends
# Every picture and page of a run shows these, as far as the run has them
PANELS = (
    Panel("win rate", {"test/win_rate": GREEDY, "train/win_rate": SAMPLING}, SHARE),
    Panel("return", {"test/return": GREEDY, "train/return": SAMPLING}),
    Panel("episode length (steps)", {"test/length": GREEDY, "train/length": SAMPLING}),
    Panel("policy entropy (nats)", {"train/entropy": SAMPLING}),
    Panel("share of random actions", {"train/epsilon": SAMPLING}, SHARE),
    Panel("critic loss", {"train/critic_loss": SAMPLING}, log=True),
    Panel("credit: slope of the outcome on it", {"train/credit_slope": "1 is calibrated, 0 is noise"}),
    Panel(
        "credit: root mean square",
        {"train/credit_rms": "credit of an agent", "train/outcome_rms": "outcome minus f(s; π)"},
        log=True,
    ),
)


def present(lines: Sequence[dict[str, Any]]) -> list[Panel]:
    """The panels for which some line has a number."""
    names = {name for line in lines for name in line}
    return [panel for panel in PANELS if not names.isdisjoint(panel.metrics)]


def of_panel(panel: Panel, lines: Sequence[dict[str, Any]], points: int = 400) -> list[charts.Curve]:
    """The curves of a panel, empty ones included; at most ``points`` points each."""
    return [charts.Curve(label, *quartiles(lines, name, points)) for name, label in panel.metrics.items()]


def quartiles(lines: Sequence[dict[str, Any]], name: str, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Lower quartile, median and upper quartile over seeds of one metric.

    Seeds whose log points differ (whole-episode rollouts) are interpolated linearly onto common steps.

    Args:
        lines: of metrics.jsonl.
        name: of the metric.
        points: most steps returned.

    Returns:
        steps ``[P]`` and values ``[3, P]``; both empty where no seed has the metric.
    """
    by_seed: dict[int, dict[int, float]] = {}
    for line in lines:
        if name in line:
            by_seed.setdefault(line["seed"], {})[line["step"]] = line[name]
    if not by_seed:
        return np.zeros(0), np.zeros((3, 0))
    curves = [
        (np.array(sorted(seed)), np.array([seed[s] for s in sorted(seed)])) for seed in by_seed.values()
    ]
    # Only where every seed has data: beyond it the band would narrow for want of seeds
    low, high = max(s[0] for s, _ in curves), min(s[-1] for s, _ in curves)
    if low > high:  # seeds that share no step, as whole episodes of a short run: their last values, together
        last = np.array([[s[-1], v[-1]] for s, v in curves])
        return np.median(last[:, :1], axis=0), np.quantile(last[:, 1:], (0.25, 0.5, 0.75), axis=0)
    grid = np.unique(np.concatenate([s for s, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) > points:
        grid = np.linspace(low, high, points)
    values = np.stack([np.interp(grid, s, v) for s, v in curves])
    return grid, np.quantile(values, (0.25, 0.5, 0.75), axis=0)


def looks(panel: Panel) -> list[int]:
    """An index of :func:`style.look` for each curve: sampling looks the same in all panels."""
    return [1 if label == SAMPLING else i for i, label in enumerate(panel.metrics.values())]


def curves(run_dir: str | os.PathLike, lines: Sequence[dict[str, Any]], title: str) -> Path:
    """Draws curves.png into the run's directory and returns its path; raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seeds = len({line["seed"] for line in lines})
    panels = present(lines) or [*PANELS[:2]]
    columns = min(len(panels), 2 if len(panels) <= 4 else 3 if len(panels) <= 6 else 4)
    rows = -(-len(panels) // columns)
    width, height = (5.0 if columns > 1 else 8.0) * columns, (3.0 if rows > 1 else 4.0) * rows + 0.5
    figure = Figure(figsize=(width, height))
    # Margins by hand: matplotlib's layout engines double the cost
    figure.subplots_adjust(
        left=0.7 / width,
        right=1 - 0.3 / width,
        bottom=0.55 / height,
        top=1 - 0.85 / height,
        hspace=0.36,
        wspace=0.19,
    )
    FigureCanvasAgg(figure)
    spread = f"{seeds} seeds, median and quartiles" if seeds > 1 else "one seed"
    figure.suptitle(f"{title} ({spread})")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for panel, axes in zip(panels, grid):
        charts.paint(axes, of_panel(panel, lines), limits=panel.limits, log=panel.log, looks=looks(panel))
        axes.set_title(panel.title, fontsize=11)
        axes.set_xlabel("environment steps per seed")
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
    for axes in grid:  # what is left of it
        axes.set_axis_off()
    path = Path(run_dir) / runs.CURVES
    draft = path.with_name("curves.tmp.png")
    try:
        figure.savefig(draft, dpi=120)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk half a picture is left
    return path
