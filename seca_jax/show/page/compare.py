"""What a report says about several runs beside each other."""

from collections.abc import Iterable, Sequence
from typing import Any

from seca_jax.show import curves
from seca_jax.show.page import svg
from seca_jax.show.page.render import Table, link
from seca_jax.show.page.run import Run, about, curve, final_return, win_rate
from seca_jax.show.page.settings import differences, differing

NOTE = (
    "Win rate and return: median over seeds. Intervals are 95 %: a bootstrap over seeds, or, of a single "
    "seed, Wilson's over its episodes."
)
MOST_KEYS = 2  # settings that fit into a run's name
WATCHED = ("seed", "eval.", "log.")  # settings that hardly tell a run from another


def labels(found: Sequence[Run]) -> list[str]:
    """Short names that tell runs apart: map and learner, where they differ, and then what else does.

    That is the settings where one or two say it all, else what differs in the directories' paths.
    """
    parts = [[str(run.config[name]) for run in found] for name in ("map", "algo")]
    several = [own for own in parts if len(set(own)) > 1]
    names = _joined(several or parts[1:])
    for name in set(names):
        alike = [i for i, own in enumerate(names) if own == name]
        if len(alike) > 1:
            for i, more in zip(alike, _apart([found[i] for i in alike])):
                names[i] = f"{name}, {more}"
    return names


def _apart(found: Sequence[Run]) -> list[str]:
    """What tells runs of one map and learner apart."""
    values = {key: own for key, own in differing(found).items() if not key.startswith(WATCHED)}
    names = _joined([f"{key}={own}" for own in column] for key, column in values.items())
    if len(values) <= MOST_KEYS and len(set(names)) == len(found):
        return names
    paths = [run.path.resolve().parts[::-1] for run in found]
    columns = [[*column] for column in zip(*paths) if len(set(column)) > 1]
    for most in range(1, len(columns) + 1):
        names = ["/".join(row) for row in zip(*columns[:most][::-1])]
        if len(set(names)) == len(found):
            return names
    return [str(run.path) for run in found]


def _joined(columns: Iterable[Sequence[str]]) -> list[str]:
    """Row by row what the columns say, nothing twice."""
    return [", ".join(dict.fromkeys(filter(None, row))) for row in zip(*columns)]


def overview(found: Sequence[Run], names: Sequence[str]) -> Table:
    """A row for every run, leading to its part of the page."""
    rows = []
    for i, run in enumerate(found):
        won, returned = win_rate(run), final_return(run)
        rate = ("", "", "", "")
        if won:
            low, high = won.interval
            words = f"{low:.3f} to {high:.3f}"
            drawn = svg.interval(won.median, low, high, f"{won.median:.3f}, {words}, on a scale from 0 to 1")
            rate = (f"{won.median:.3f}", words, drawn, won.how)
        rows.append(
            (
                link(names[i], f"run-{i}"),
                str(run.config["map"]),
                str(run.config["seeds"]),
                f"{run.step:,}",
                *rate[:3],
                "" if returned is None else f"{returned:.3g}",
                rate[3],
            )
        )
    columns = ("run", "map", "seeds", "steps", "win rate", "95 %", "0 to 1", "return", "measured by")
    return Table(columns, rows, numbers=(2, 3, 4, 5, 7), sentences=(8,))


def learning(found: Sequence[Run]) -> list[svg.Chart]:
    """The runs' curves in common charts, map by map: of each panel what is greedy, else what there is."""
    drawn = []
    places = dict.fromkeys(run.config["map"] for run in found)
    for place in places:
        own = [run for run in found if run.config["map"] == place]
        within = labels(own)
        for panel in curves.PANELS:
            metric = next(iter(panel.metrics))
            several = [curve(run, metric, name) for run, name in zip(own, within)]
            if any(len(one.steps) for one in several):
                title = f"{place}: {panel.title}" if len(places) > 1 else panel.title
                drawn.append(svg.chart(title, several, limits=panel.limits, log=panel.log))
    return drawn


def context(found: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """What the template ``compare.html`` shows."""
    return {
        "note": NOTE,
        "overview": overview(found, names),
        "charts": learning(found),
        "differences": differences(found, names),
        "runs": [about(run, name) for run, name in zip(found, names, strict=True)],
    }
