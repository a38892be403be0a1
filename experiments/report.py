"""One page about a figure: python experiments/report.py figure2 [scale=small] [out=file.html]

Charts, tables, and configuration, command and provenance of every stored run, in one HTML file that
loads nothing; written to experiments/results/<figure>-<scale>.html unless out= says otherwise. Without
scale= it is about the scale that has the most stored runs.
"""

import sys
from pathlib import Path

import draw
import store
import summary
from budgets import SCALES, Run
from figures import FIGURES, Panel, asked, each_once, looks, scaled

from seca_jax import report
from seca_jax.config import commands
from seca_jax.config.check import ConfigError, one_of
from seca_jax.runs import writable
from seca_jax.show import style
from seca_jax.show.page import render as pages
from seca_jax.show.page import run as run_page
from seca_jax.show.page import svg
from seca_jax.show.page.render import Table, link
from seca_jax.show.page.settings import differences

RESULTS = Path(__file__).parent / "results"
Key = tuple[str, str]  # map and name of a run: panels may share one


def scales_stored(figure: str, results: Path) -> list[str]:
    """Scales that have stored runs of the figure, the one with the most of them first."""
    counts = {}
    for name in SCALES:
        with store.opened(results, figure, name) as place:
            counts[name] = len([*place.glob("*/*/metrics.jsonl")])
    return sorted((name for name, count in counts.items() if count), key=lambda name: -counts[name])


def read(place: Path, panels: tuple[Panel, ...]) -> tuple[dict[Key, run_page.Run], list[Run]]:
    """The figure's stored runs, each once, and those that have not been trained; raises ConfigError."""
    found, missing = {}, []
    for key, run in each_once(panels).items():
        path = place / run.map / run.name
        if (path / "metrics.jsonl").is_file():
            found[key] = run_page.read(path)
        else:
            missing.append(run)
    return found, missing


def panel_chart(panel: Panel, found: dict[str, summary.Curves], look_of: dict[str, int]) -> svg.Chart:
    """The figure's panel, quartiles over seeds."""
    own = [run for run in panel.runs if run.label in found]
    return svg.chart(
        f"{panel.title}: {panel.axis}",
        [draw.curve(run.label, found[run.label]) for run in own],
        limits=draw.limits(panel, found),
        looks=[look_of[run.name] for run in own],
    )


def tables(
    parts: list[draw.Table], panels: tuple[Panel, ...], idents: dict[Key, str]
) -> list[tuple[str, Table]]:
    """What experiments/draw.py writes as Markdown, with headings; methods lead to their runs."""
    by_label = {
        (panel.title, run.label): idents.get((run.map, run.name), "")
        for panel in panels
        for run in panel.runs
    }
    found = []
    for heading, (names, *rows), texts, per_run in parts:
        if per_run:
            rows = [[task, link(label, by_label[task, label]), *rest] for task, label, *rest in rows]
        found.append((heading, Table(names, rows, numbers=range(texts, len(names)))))
    return found


def render(figure: str, scale: str, results: Path) -> str:
    """The page about a figure: HTML.

    Raises:
        ConfigError: nothing has been trained for it, or what is stored is damaged.
        OSError: the archive is damaged.
    """
    with store.opened(results, figure, scale) as place:
        return render_runs(figure, scale, results, place)


def render_runs(figure: str, scale: str, results: Path, place: Path) -> str:
    """The page about runs that lie in ``place``; raises ConfigError."""
    panels = FIGURES[figure]
    runs, missing = read(place, panels)
    command = f"python experiments/run.py {figure}" + (f" scale={scale}" if scaled(figure) else "")
    if not runs:
        others = " or ".join(f"scale={name}" for name in scales_stored(figure, results) if name != scale)
        hint = f"there are some with {others}" if others else f"{command} trains them"
        raise ConfigError(f"{figure} scale={scale}: no stored runs; {hint}")
    labels = {key: f"{run.map}, {run.label}" for key, run in each_once(panels).items()}
    idents = {key: f"run-{i}" for i, key in enumerate(runs)}
    found = [(panel, curves) for panel in panels if (curves := draw.stored(place, panel))]
    drawn, look_of = draw.as_drawn(place, found), looks(panels, style.LOOKS)
    differing = []
    for panel, _ in found:
        own = [run for run in panel.runs if (run.map, run.name) in runs]
        if len(own) > 1:
            stored = [runs[run.map, run.name] for run in own]
            differing.append((panel.title, differences(stored, [run.label for run in own])))
    columns, *other = draw.outdated(place, scale, panels) or [[]]
    return pages.render(
        "figure.html",
        folder=Path(__file__).parent,
        title=f"{figure}, {scale}",
        maker="experiments/report.py",
        command=command,
        missing=", ".join(f"{run.label} on {run.map}" for run in missing),
        charts=[panel_chart(panel, curves, look_of[panel.title]) for panel, curves in drawn],
        tables=tables(draw.tables(figure, found, drawn), panels, idents),
        differences=differing,
        outdated=Table(columns, other),
        runs=[run_page.about(run, labels[key]) for key, run in runs.items()],
    )


def make(words: list[str]) -> None:
    """Write the page that the words ask for; raises ConfigError, OSError."""
    figure, given = asked(words)
    if unknown := [name for name in given if name not in ("scale", "out")]:
        raise ConfigError(f"{unknown[0]}: unknown key; there are scale and out")
    out = given.get("out", "")
    scale = given.get("scale") or [*scales_stored(figure, RESULTS), "small"][0]
    one_of("scale", scale, list(SCALES))
    report.check_out(out)
    path = writable(out, str(RESULTS), f"{figure}-{scale}.html")
    report.write(path, render(figure, scale, RESULTS))


def main(words: list[str]) -> int:
    """The command line; exit status 0 done, 2 bad input."""
    return commands.call(make, words, (__doc__ or "").strip)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
