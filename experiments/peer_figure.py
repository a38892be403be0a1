"""What experiments/peer.py measured of JaxMARL's MAPPO script, drawn beside stored runs of ours."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import store
import summary

from seca_jax.show import charts

OURS = ("seca", "coma", "mappo")  # of figure5's runs, drawn beside it
THEIRS = "JaxMARL's MAPPO"


def curves_of(document: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The script's curves, [P] along either axis and [3, P] quartiles: by steps and by minutes."""
    greedy = np.array([[point["greedy"] for point in run["points"]] for run in document["runs"]])
    band = np.quantile(greedy, (0.25, 0.5, 0.75), axis=0)
    seconds = np.array([[point["wall_s"] for point in run["points"]] for run in document["runs"]])
    minutes = (document["compile_s"] + np.median(seconds, axis=0)) / 60
    steps = np.array([point["step"] for point in document["runs"][0]["points"]])
    return {"steps": (steps, band), "minutes": (minutes, band)}


def own_curves(run_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same of a stored run of ours, whose clock runs while it compiles and evaluates."""
    curves = summary.load(run_dir, "test/win_rate")
    when: dict[float, list[float]] = {}
    for line in summary.lines(run_dir):
        if "test/win_rate" in line:
            when.setdefault(line["step"], []).append(line["wall_s"])
    minutes = np.array([np.median(when[step]) for step in curves.steps]) / 60
    band = summary.quartiles(curves)
    return {"steps": (curves.steps, band), "minutes": (minutes, band)}


def redraw(results: Path, labels: dict[str, str], look: dict[str, int]) -> None:
    """Picture and table of what is stored; raises OSError.

    Args:
        results: where it is stored, and drawn.
        labels: of our learners, by name.
        look: their places in the order of colours, which the script's curve comes after.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    documents = [json.loads(path.read_text()) for path in sorted((results / "peer").glob("*.json"))]
    if not documents:
        return
    figure = Figure(figsize=(9, 3.2 * len(documents)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(documents), 2, squeeze=False, sharey=True)
    table = [
        ["map", "trainer", "seeds", "steps", "greedy in the end", "seeds' range", "minutes for", "minutes"]
    ]
    with store.opened(results, "figure5", "small") as place:
        for (by_steps, by_minutes), document in zip(grid, documents, strict=True):
            own = {name: place / document["map"] / name for name in OURS}
            own = {name: path for name, path in own.items() if store.done(path)}
            found = {labels[name]: own_curves(path) for name, path in own.items()}
            found[THEIRS] = curves_of(document)
            looks = [*(look[name] for name in own), len(look)]
            for axes, kind in ((by_steps, "steps"), (by_minutes, "minutes")):
                shown = [charts.Curve(label, *curve[kind]) for label, curve in found.items()]
                charts.paint(axes, shown, limits=(-0.02, 1.02), looks=looks)
            by_steps.set_title(f"{document['map']}: over environment steps of a seed", fontsize=10)
            by_minutes.set_title("over minutes, compilation included", fontsize=10)
            by_steps.set_ylabel("greedy win rate")
            by_steps.legend(fontsize=8)
            table += rows_of(document, {labels[name]: path for name, path in own.items()})
    grid[-1, 0].set_xlabel("steps")
    grid[-1, 1].set_xlabel("minutes (ours: five seeds at once; JaxMARL's: one)")
    target = results / "peer.png"
    figure.savefig(target)
    told = documents[0]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(told["versions"].items()))
    above = f"`{told['command']}`, commit {told['commit']}, {told['device']}; {versions}; {told['script']}"
    target.with_suffix(".md").write_text(f"{above}\n\n{summary.markdown(table)}\n")
    print(target)


def rows_of(document: dict[str, Any], own: dict[str, Path]) -> Iterable[list[str]]:
    """Rows of the table on one map."""

    def row(label: str, steps: float, final: np.ndarray, what: str, minutes: float) -> list[str]:
        spread = f"{final.min():.3f} to {final.max():.3f}"
        cells = [document["map"], label, str(len(final)), summary.short(steps)]
        return [*cells, f"{np.median(final):.3f}", spread, what, f"{minutes:.1f}"]

    for label, path in own.items():
        curves = summary.load(path, "test/win_rate")
        yield row(label, curves.steps[-1], curves.values[:, -1], "all seeds at once", curves.hours * 60)
    final = np.array([run["points"][-1]["greedy"] for run in document["runs"]])
    (steps, _), (minutes, _) = curves_of(document).values()
    yield row(THEIRS, steps[-1], final, "one seed", minutes[-1])
