"""Redraws every figure and table from the stored results: python experiments/draw.py

For each figure and scale stored under experiments/results/ (<figure>-<scale>.zip, see store.py): .png, .md
and .json (the format that marl-eval reads). Runs whose stored configuration is not what their command would
give today are drawn all the same, and named on standard error and at the end of the .md. Benchmarks'
results (benchmark/*.json) become tables beside them, JaxMARL's own script (peer/*.json) a picture.
"""

import io
import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import budgets
import numpy as np
import peer_figure
import store
import summary
import yaml
from budgets import PARTICLE_TASKS, SCALES, steps
from figures import FIGURES, LABELS, Panel, each_once, looks, scaled
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from seca_jax.config import commands, compose
from seca_jax.config.check import ConfigError
from seca_jax.show import charts, style
from seca_jax.show import curves as learning

RESULTS = Path(__file__).parent / "results"
MEASURED = ("test/win_rate", "test/return", "test/length")
# One budget asked of all runs of a map: they can be compared
COMPARED = ("figure2", "figure4", "figure5", "start", "credit", "two_passes", "longer", "crowd", "learners")
ENDS_EARLY = 0.8  # of the longest curve's steps; an evaluation's interval more or less is no news
LOW = 0.3  # of win rates: a panel where none is higher ends there
Found = list[tuple[Panel, dict[str, summary.Curves]]]  # panels with their curves by label


class Table(NamedTuple):
    """Rows of cells under a heading."""

    heading: str
    rows: list[list[str]]  # the first of them names the columns
    texts: int  # columns of words; the others are numbers
    per_run: bool = False  # whether the first two cells of a row are a panel's title and a run's label


def stored(place: Path, panel: Panel) -> dict[str, summary.Curves]:
    """Curves of a panel by label, of those runs that have been trained."""
    found = {}
    for run in panel.runs:
        path = place / run.map / run.name
        if (path / "metrics.jsonl").exists():
            found[run.label] = summary.load(path, panel.metric)
    return found


def as_drawn(place: Path, found: Found) -> Found:
    """The panels, with returns for a map on which no median seed ever wins: win rates would be one line."""
    won = {
        run.map
        for panel, curves in found
        for run in panel.runs
        if run.label in curves and np.median(curves[run.label].values, axis=0).max() > 0
    }
    drawn = []
    for panel, curves in found:
        if "win rate" in panel.axis and not won & {run.map for run in panel.runs}:
            panel = panel._replace(metric="test/return", axis="return (median seed wins none)")
            curves = stored(place, panel)
        drawn.append((panel, curves))
    return drawn


def by_metric(found: Found) -> list[tuple[str, dict[tuple[str, str], summary.Curves], tuple[float, ...]]]:
    """Curves by (panel's title, label) for each metric: (what it is called, curves, thresholds)."""
    parts = []
    for metric in dict.fromkeys(panel.metric for panel, _ in found):
        own = [(panel, curves) for panel, curves in found if panel.metric == metric]
        runs = {(panel.title, label): c for panel, curves in own for label, c in curves.items()}
        axis = own[0][0].axis
        parts.append((axis, runs, (0.5, 0.8) if "win rate" in axis else ()))
    return parts


def tables(figure: str, found: Found, drawn: Found) -> list[Table]:
    """A figure's numbers: of every metric, of SeCA against the others, of other budgets.

    Args:
        figure: its name in FIGURES.
        found: panels and curves of the figure's own metrics.
        drawn: the same panels as :func:`as_drawn` has them.
    """
    parts = []
    maps = [panel.runs[0].map for panel, _ in found]
    instead = [own for own, (panel, _) in zip(drawn, found, strict=True) if own[0] is not panel]
    for axis, runs, thresholds in by_metric(found):
        parts.append(Table(axis, summary.rows(runs, thresholds), 2, per_run=True))
        comparable = bool(thresholds) and figure in COMPARED and len(set(maps)) == len(maps)
        if comparable and len(overall := summary.rows_over_maps(runs)) > 1:
            parts.append(Table(f"{axis}, over the {len(maps)} maps", overall, 1))
    for axis, runs, thresholds in by_metric(instead):
        parts.append(Table(axis, summary.rows(runs, thresholds), 2, per_run=True))
    if figure in COMPARED and len(compared := differences(drawn)) > 1:
        parts.append(
            Table("SeCA minus the others, up to where the shorter of the two curves ends", compared, 4)
        )
    if scaled(figure):
        parts.append(
            Table("hours for all seeds of other budgets, at the speed measured here", costs(found), 2)
        )
    return parts


def differences(drawn: Found) -> list[list[str]]:
    """SeCA minus every other run on the same map, whichever panels show the two, as rows."""
    found: dict[tuple[str, str], dict[str, tuple[str, summary.Curves]]] = {}
    for panel, curves in drawn:
        for run in panel.runs:
            if run.label in curves:
                runs = found.setdefault((run.map, panel.axis), {})
                runs.setdefault(run.name, (run.label, curves[run.label]))
    return summary.differences(
        [
            (task, axis, *runs["seca"], [own for name, own in runs.items() if name != "seca"])
            for (task, axis), runs in found.items()
            if "seca" in runs
        ]
    )


def curve(label: str, own: summary.Curves) -> charts.Curve:
    """Quartiles over seeds."""
    return charts.Curve(label, own.steps, summary.quartiles(own))


def legend(curves: dict[str, summary.Curves]) -> dict[str, str]:
    """What curves are called in a panel's legend, by label: one that ends long before others says where."""
    last = {label: float(own.steps[-1]) for label, own in curves.items()}
    longest = max(last.values())
    return {
        label: label if steps > ENDS_EARLY * longest else f"{label}, {summary.short(steps)} steps"
        for label, steps in last.items()
    }


def limits(panel: Panel, curves: dict[str, summary.Curves]) -> tuple[float, float] | None:
    """Of a panel's vertical axis; None: what its curves need."""
    if "win rate" not in panel.axis:
        return None
    highest = max((float(summary.quartiles(own)[2].max()) for own in curves.values()), default=1.0)
    # All of the axis, so that panels can be compared, unless hardly anything is won
    low, high = learning.SHARE
    return (low * LOW, high * LOW) if 0 < highest <= LOW else (low, high)


def draw(path: Path, panels: Found, look_of: dict[str, dict[str, int]], title: str) -> None:
    """Median and quartiles of every curve; ``look_of``: what :func:`figures.looks` says."""
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (panel, curves) in zip(grid.flat, panels):
        own = [run for run in panel.runs if run.label in curves]
        called = legend(curves)
        charts.paint(
            axes,
            [curve(textwrap.fill(called[run.label], 30), curves[run.label]) for run in own],
            limits=limits(panel, curves),
            looks=[look_of[panel.title][run.name] for run in own],
            dots=False,
        )
        axes.set_title(panel.title)
        axes.set_xlabel("environment steps per seed")
        axes.set_ylabel(panel.axis)
        axes.legend(fontsize=8, framealpha=0.7, edgecolor="none", handlelength=3)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a picture of 256 colours: a third of the size, and no eye sees the difference."""
    pixels = io.BytesIO()
    figure.savefig(pixels, dpi=130)
    picture = Image.open(pixels).convert("RGB")
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def costs(found: Found) -> list[list[str]]:
    """What the scales would take at the speed that was measured, each run once, as rows."""
    first = each_once(panel for panel, _ in found)
    runs = {
        (run.map, run.label): curves[run.label]
        for panel, curves in found
        for run in panel.runs
        if run.label in curves and first[run.map, run.name].label == run.label
    }
    maps = {task for task, _ in runs}
    scales = {"small": "1 M steps", "full": "10 M", "paper": "the paper's 32 M or 64 M"}
    budgets = {text: {name: steps(name, scale) for name in maps} for scale, text in scales.items()}
    return summary.costs(runs, budgets)


def measured(place: Path, found: Found) -> dict[tuple[str, str], dict[str, summary.Curves]]:
    """Curves of everything that evaluations measure, by metric's name, by (panel's title, label)."""
    runs: dict[tuple[str, str], dict[str, summary.Curves]] = {}
    for panel, own in found:
        for metric in MEASURED:
            curves = own if metric == panel.metric else stored(place, panel._replace(metric=metric))
            for label, values in curves.items():
                runs.setdefault((panel.title, label), {})[metric.removeprefix("test/")] = values
    return runs


def outdated(place: Path, scale: str, panels: Iterable[Panel]) -> list[list[str]]:
    """Stored runs that their commands would configure otherwise today, as rows; none: an empty list."""
    rows = []
    for (task, name), run in each_once(panels).items():
        if store.done(place / task / name):
            try:
                config = compose.from_words(budgets.command(run, scale))
                differing = ", ".join(store.differences(place / task / name, config))
            except ConfigError as error:  # of a version whose keys or names are no more
                differing = f"a configuration that is not understood today ({error})"
            if differing:
                rows.append([task, name, differing])
    return [["map", "run", "stored with"], *rows] if rows else []


def lines_of(rows: list[list[str]]) -> list[str]:
    """Rows of :func:`outdated` for a terminal: a line for all runs that differ alike, three of them named."""
    alike: dict[str, list[str]] = {}
    for task, run, differing in rows:
        alike.setdefault(differing, []).append(f"{task} {run}")
    lines = []
    for differing, runs in alike.items():
        named = ", ".join(runs if len(runs) < 5 else [*runs[:3], f"{len(runs) - 3} more"])
        lines.append(f"{named} {'were' if len(runs) > 1 else 'was'} trained with {differing}")
    return lines


def origins(place: Path, panels: Iterable[Panel]) -> list[list[str]]:
    """Where every stored run comes from, as rows."""
    rows = [["map", "run", "commit", "started", "device", "jax", "command"]]
    for task, name in each_once(panels):
        if store.done(place / task / name):
            told = yaml.safe_load((place / task / name / "config.yaml").read_text()).get("provenance", {})
            cells = [str(told.get(key, "")) for key in ("git_commit", "started", "device")]
            version = str(told.get("versions", {}).get("jax", ""))
            cells[0], cells[1] = cells[0][:10], cells[1][:10]
            rows.append([task, name, *cells, version, f"`{told.get('command', '')}`"])
    return rows


def evaluations(place: Path, panels: Iterable[Panel]) -> list[list[str]]:
    """Greedy win rates of every final policy, where they were measured, as rows; none: an empty list."""
    rows = []
    for task, name in each_once(panels):
        if (path := place / task / name / "evaluation.json").is_file():
            told = json.loads(path.read_text())
            seeds = [
                f"{own['win_rate']:.3f} ({own['ci95'][0]:.3f} to {own['ci95'][1]:.3f})"
                for own in told["seeds"]
            ]
            median = np.median([own["win_rate"] for own in told["seeds"]])
            rows.append([task, name, str(told["episodes"]), f"{median:.3f}", ", ".join(seeds)])
    return [["map", "run", "episodes a seed", "median", "win rates (95 %)"], *rows] if rows else []


def redraw_one(name: str, scale: str, place: Path) -> None:
    """One figure at one scale, whose runs lie in ``place``; raises OSError."""
    panels = FIGURES[name]
    found = [(panel, curves) for panel in panels if (curves := stored(place, panel))]
    if not found:
        return
    target = RESULTS / f"{name}-{scale}"
    drawn = as_drawn(place, found)
    draw(
        target.with_suffix(".png"),
        drawn,
        looks(panels, style.LOOKS),
        f"{name}, {scale}: median and quartiles over seeds",
    )
    parts = tables(name, found, drawn)
    if evaluated := evaluations(place, panels):
        parts.append(Table("greedy win rates of the seeds in the end", evaluated, 2))
    parts.append(Table("where the runs come from", origins(place, panels), 7))
    if other := outdated(place, scale, panels):
        parts.append(Table("runs that their commands would configure otherwise today", other, 3))
        for line in lines_of(other[1:]):
            print(f"{target.name}: {line}", file=sys.stderr)
    family = "mpe" if any(task in PARTICLE_TASKS for task, _ in each_once(panels)) else "smax"
    document = summary.marl_eval(measured(place, found), family)
    text = "\n".join(f"{part.heading}\n\n{summary.markdown(part.rows)}\n" for part in parts)
    target.with_suffix(".md").write_text(text)
    target.with_suffix(".json").write_text(json.dumps(document))
    print(target.with_suffix(".png"))


def benchmark(document: dict[str, Any]) -> list[list[str]]:
    """What python -m seca_jax.benchmark measured, as rows; where upstream was, core's rate over its rate."""
    found = [
        ["map", "what", "learner", "environments", "seeds", "steps/s", "MiB", "upstream, steps/s", "ratio"]
    ]
    upstream = {
        (row["what"], row["map"], row["num_envs"]): row["steps_per_s"]
        for row in document["rows"]
        if row["backend"] == "upstream"
    }
    for row in document["rows"]:
        if row["backend"] == "upstream":
            continue
        cells = [row["map"], row["what"], row["algo"] or "", str(row["num_envs"]), str(row["seeds"])]
        cells += [f"{row['steps_per_s']:,.0f}", f"{row['peak_bytes'] / 2**20:,.1f}"]
        other = upstream.get((row["what"], row["map"], row["num_envs"]))
        cells += [f"{other:,.0f}", f"{row['steps_per_s'] / other:.1f}"] if other else ["", ""]
        found.append(cells)
    return found


def redraw_benchmarks() -> None:
    """The benchmarks' JSON as tables beside it; raises OSError."""
    for path in sorted((RESULTS / "benchmark").glob("*.json")):
        document = json.loads(path.read_text())
        versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
        text = f"{document['device']}; {versions}\n\n{summary.markdown(benchmark(document))}\n"
        path.with_suffix(".md").write_text(text)


def redraw(words: list[str]) -> None:
    """Everything that is stored; raises ConfigError if there are words, OSError."""
    if words:
        raise ConfigError(f"{words[0]}: draw.py takes no words; it redraws all that is stored")
    for name in FIGURES:
        for scale in SCALES:
            with store.opened(RESULTS, name, scale) as place:
                redraw_one(name, scale, place)
    redraw_benchmarks()
    peer_figure.redraw(RESULTS, LABELS, looks(FIGURES["figure5"], style.LOOKS)[FIGURES["figure5"][0].title])


def main(words: list[str]) -> int:
    """The command line; exit status 0 done, 2 bad input."""
    return commands.call(redraw, words, (__doc__ or "").strip)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
