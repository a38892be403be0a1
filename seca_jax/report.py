"""One page about a run, or several: ``python -m seca_jax.report run=<dir> [run=<dir> ...]``.

A single HTML file that carries its curves, tables, pictures, configuration and provenance and loads
nothing, so that it can be mailed, archived and read anywhere.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seca_jax.config import commands
from seca_jax.config.check import ConfigError
from seca_jax.config.compose import parse
from seca_jax.config.schema import key
from seca_jax.evaluate import named, output
from seca_jax.runs import REPORT
from seca_jax.show.page import charts, html
from seca_jax.show.page import run as run_page


@dataclass(frozen=True)
class Options:
    run: str = key("", "directory of a run (required); give the key again to compare runs")
    out: str = key("", "HTML file; empty: <run>/report.html; required with more than one run")
    title: str = key("", "heading of the page; empty: map and learner")


def options(words: list[str]) -> tuple[list[str], Options]:
    """(directories of the runs, options) from ``key=value`` words.

    Raises:
        ConfigError: one line, saying what is wrong and what would be right.
    """
    words = named(words)
    chosen = Options(**parse(words, Options))
    # The one key that may be given again
    runs = [parse([word], Options)["run"] for word in words if word.startswith("run=")]
    if not runs or not all(runs):
        raise ConfigError("run=<directory> is required: which run to report; --help lists all keys")
    if len({os.path.realpath(run) for run in runs}) < len(runs):
        raise ConfigError("run: a directory is given twice; give every run once")
    if len(runs) > 1 and not chosen.out:
        raise ConfigError("out=<file.html> is required where several runs are compared")
    check_out(chosen.out)
    return runs, chosen


def check_out(out: str) -> None:
    """Raises ConfigError unless ``out`` is empty or could be a page: a run's own files are not to be lost."""
    if out and Path(out).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"out={out}: give a file that ends in .html")


def labels(runs: Sequence[run_page.Run]) -> list[str]:
    """Short names that tell the runs apart: learner, with the directory's name or path where needed."""
    for name in (
        lambda run: run.config["algo"],
        lambda run: run.title,
        lambda run: f"{run.title}, {run.path.name}",
    ):
        found = [name(run) for run in runs]
        if len(set(found)) == len(runs):
            return found
    return [str(run.path) for run in runs]


def overview(runs: Sequence[run_page.Run], names: Sequence[str]) -> str:
    """A row for every run, leading to its part of the page."""
    rows = []
    for i, run in enumerate(runs):
        won = run_page.win_rate(run)
        returned = run_page.final_return(run)
        rows.append(
            (
                html.link(names[i], f"run-{i}"),
                str(run.config["map"]),
                str(run.config["seeds"]),
                f"{run.step:,}",
                f"{won[0]:.3f}" if won else "",
                won[1] if won else "",
                "" if returned is None else f"{returned:.3g}",
            )
        )
    columns = ("run", "map", "seeds", "steps", "win rate", "measured by", "return")
    return html.table(columns, rows, numbers=(2, 3, 4, 6), html=(0,))


def comparison(runs: Sequence[run_page.Run], names: Sequence[str]) -> str:
    """The greedy metrics of all runs in common charts, map by map."""
    parts = []
    for place in dict.fromkeys(run.config["map"] for run in runs):
        own = [(run, name) for run, name in zip(runs, names) if run.config["map"] == place]
        drawn = []
        for metrics, title, limits, log in run_page.PANELS:
            curves = [run_page.curve(run, metrics[0], name) for run, name in own]
            if any(len(curve.steps) for curve in curves):
                drawn.append(charts.chart(f"{place}: {title}", curves, limits=limits, log=log))
        parts.append(f'<div class="charts">{"".join(drawn)}</div>' if drawn else "")
    return "".join(parts)


def details(runs: Sequence[run_page.Run], names: Sequence[str]) -> str:
    """Everything about each run, folded."""
    return "".join(
        html.fold(name, run_page.sections(run), ident=f"run-{i}")
        for i, (run, name) in enumerate(zip(runs, names, strict=True))
    )


def render(runs: Sequence[run_page.Run], title: str = "") -> str:
    """The page about one run or several: HTML."""
    footer = html.footer("Made by python -m seca_jax.report; this file loads nothing from elsewhere.")
    if len(runs) == 1:
        (run,) = runs
        title = title or run.title
        name = html.paragraph(f"{run.config.get('name') or run.path.name}", "soft")
        return html.document(title, html.heading(title) + name + run_page.sections(run) + footer)
    names = labels(runs)
    title = title or ", ".join(dict.fromkeys(str(run.config["map"]) for run in runs)) + f": {len(runs)} runs"
    body = (
        html.heading(title)
        + overview(runs, names)
        + html.section("Learning curves", comparison(runs, names))
        + html.section("Configurations compared", run_page.differences(runs, names))
        + html.section("The runs", details(runs, names))
    )
    return html.document(title, body + footer)


def write(path: Path, text: str) -> None:
    """Writes the page, all at once, and says where; raises OSError."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
    print(f"report: {path} ({path.stat().st_size / 2**20:.1f} MiB)")


def usage() -> str:
    """Text of ``--help``."""
    return commands.usage("python -m seca_jax.report run=<dir> [run=<dir> ...] [key=value ...]", Options)


def make(words: list[str]) -> None:
    """Write the page that the words ask for; raises ConfigError, OSError."""
    places, chosen = options(words)
    runs = [run_page.read(place) for place in places]
    path = output(chosen.out, places[0], REPORT)
    write(path, render(runs, chosen.title))


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input."""
    return commands.call(make, words, usage)


if __name__ == "__main__":
    sys.exit(main())
