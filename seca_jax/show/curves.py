"""Learning curves as the paper draws them: the median over seeds in a band from quartile to quartile."""

import os
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from seca_jax import runs

# A run has one of these two: value-based learners explore by random actions
ENTROPY = ("policy entropy (nats)", ("train/entropy",), None)
EPSILON = ("share of random actions", ("train/epsilon",), (-0.02, 1.02))
PANELS = (
    # (title, metrics drawn in it, range of the vertical axis)
    ("win rate", ("test/win_rate", "train/win_rate"), (-0.02, 1.02)),
    ("return", ("test/return", "train/return"), None),
    ENTROPY,
    EPSILON,
    ("critic loss", ("train/critic_loss",), None),
)
LABELS = {"test": "greedy", "train": "sampling, while training"}


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
    grid = np.unique(np.concatenate([s for s, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) > points:
        grid = np.linspace(low, high, points)
    values = np.stack([np.interp(grid, s, v) for s, v in curves])
    return grid, np.quantile(values, (0.25, 0.5, 0.75), axis=0)


def curves(run_dir: str | os.PathLike, lines: Sequence[dict[str, Any]], title: str) -> Path:
    """Draws curves.png into the run's directory and returns its path; raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    seeds = len({line["seed"] for line in lines})
    figure = Figure(figsize=(10, 6.4))  # margins by hand: matplotlib's layout engines double the cost
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.08, top=0.9, hspace=0.36, wspace=0.17)
    FigureCanvasAgg(figure)
    spread = "median and quartiles" if seeds > 1 else "one seed"
    figure.suptitle(f"{title} ({seeds} seeds, {spread})" if seeds > 1 else f"{title} ({spread})")
    absent = ENTROPY if any("train/epsilon" in line for line in lines) else EPSILON
    panels = [panel for panel in PANELS if panel is not absent]
    for axes, (panel, names, limits) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for name, colour in zip(names, ("C0", "C1")):
            steps, (lower, median, upper) = quartiles(lines, name)
            kind = name.partition("/")[0]
            if len(steps):
                axes.plot(
                    steps, median, color=colour, label=LABELS[kind], marker="." if len(steps) < 30 else ""
                )
                axes.fill_between(steps, lower, upper, color=colour, alpha=0.25, linewidth=0)
        axes.set_title(panel)
        axes.set_xlabel("environment steps per seed")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
        if limits:
            axes.set_ylim(*limits)
        if len(names) > 1 and axes.lines:
            axes.legend(frameon=False)
    path = Path(run_dir) / runs.CURVES
    draft = path.with_name("curves.tmp.png")
    try:
        figure.savefig(draft, dpi=120)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk half a picture is left
    return path
