"""One page about a run, or several: ``python -m seca_jax.report run=<dir> [run=<dir> ...]``.

A single HTML file that carries its curves, tables, pictures, configuration and provenance and loads
nothing, so that it can be mailed, archived and read anywhere. ``json=FILE`` writes the runs' numbers for
marl-eval instead.
"""

if __name__ == "__main__":
    from seca_jax import door

    door.quietly()

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seca_jax import runs
from seca_jax.config import commands
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key
from seca_jax.config.words import parse
from seca_jax.show import marl_eval
from seca_jax.show.page import compare, pool
from seca_jax.show.page import run as run_page
from seca_jax.show.page.render import render

MAKER = "python -m seca_jax.report"


@dataclass(frozen=True)
class Options:
    """Keys of the command line, beside bare directories."""

    run: str = key(
        "", "directory of a run (required); the directory alone will do; several are compared", path=True
    )
    out: str = key(
        "", "HTML file; unless given, <run>/report.html; required with more than one run", path=True
    )
    title: str = key("", "heading of the page; empty: map and learner")
    pool: bool = key(False, "join runs that differ in seeds only: one run with all of their seeds")
    json: str = key(
        "",
        "file for the runs' numbers as marl-eval reads them, .json; no page then unless out= is given",
        path=True,
    )


def options(words: list[str]) -> tuple[list[str], Options]:
    """(directories of the runs, options) from ``key=value`` words.

    Raises:
        ConfigError: one line, saying what is wrong and what would be right.
    """
    words = runs.named(words)
    chosen = Options(**parse(words, Options))
    # The one key that may be given again
    places = [parse([word], Options)["run"] for word in words if word.startswith("run=")]
    if not places or not all(places):
        raise ConfigError("run=<directory> is required: which run to report; --help lists all keys")
    if len({os.path.realpath(place) for place in places}) < len(places):
        raise ConfigError("run: a directory is given twice; give every run once")
    if len(places) > 1 and not chosen.out and not chosen.json:
        raise ConfigError("out=<file.html> is required where several runs are compared")
    check_out(chosen.out)
    if shipped := [place for place in places if place.startswith(runs.SHIPPED)]:
        raise ConfigError(f"{shipped[0]}: a policy that ships with the package has no curves to report")
    if chosen.json and Path(chosen.json).suffix.lower() != ".json":
        raise ConfigError(f"json={chosen.json}: give a file that ends in .json")
    return places, chosen


def check_out(out: str) -> None:
    """Raises ConfigError unless ``out`` is empty or could be a page: a run's own files are not to be lost."""
    if out and Path(out).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"out={out}: give a file that ends in .html")


def page(found: Sequence[run_page.Run], title: str = "") -> str:
    """The page about one run or several: HTML."""
    if len(found) == 1:
        (run,) = found
        name = str(run.config.get("name") or run.path.name)
        return render("run.html", title=title or run.title, maker=MAKER, name=name, run=run_page.about(run))
    names = compare.labels(found)
    maps = ", ".join(dict.fromkeys(str(run.config["map"]) for run in found))
    title = title or f"{maps}: {len(found)} runs"
    return render("compare.html", title=title, maker=MAKER, **compare.context(found, names))


def write(path: Path, text: str) -> None:
    """Writes the page, all at once, and says where; raises OSError."""
    runs.write_atomically(path, text)
    print(f"report: {path} ({path.stat().st_size / 2**20:.1f} MiB)")


def usage() -> str:
    """Text of ``--help``."""
    return commands.usage("python -m seca_jax.report run=<dir> [run=<dir> ...] [key=value ...]", Options)


def make(words: list[str]) -> None:
    """Write the page, or the numbers, that the words ask for; raises ConfigError, OSError."""
    places, chosen = options(words)
    found = [run_page.read(place) for place in places]
    joined = [pool.pool(found)] if chosen.pool and len(found) > 1 else found
    if chosen.json:
        numbers = runs.writable(chosen.json, places[0], "")
        runs.write_atomically(numbers, json.dumps(marl_eval.raw(found), indent=1) + "\n")
        print(f"numbers: {numbers}")
    if chosen.out or not chosen.json:
        path = runs.writable(chosen.out, places[0], runs.REPORT)
        write(path, page(joined, chosen.title))


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input."""
    return commands.call(make, words, usage, several=("run",))


if __name__ == "__main__":
    sys.exit(main())
