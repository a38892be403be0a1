"""What curves add up to: final and best values with intervals, area, steps to a threshold; as tables.

All intervals are 95 %, from a stratified bootstrap over seeds.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seca_jax.config.check import ConfigError
from seca_jax.show import verdict

LAST = 0.1  # share of the evaluations, the last ones, whose mean is the final value


class Curves(NamedTuple):
    """Evaluations of one run."""

    steps: np.ndarray  # [P]
    values: np.ndarray  # [seeds, P]
    hours: float  # wall clock of all seeds together
    rate: float  # environment steps a second, all seeds together, compilation left out


def load(run_dir: Path, metric: str) -> Curves:
    """Curves of a finished run: the steps at which every seed was evaluated.

    Where rollouts are whole episodes every seed counts its own steps, and hardly any but the first agree:
    there the seeds' first evaluations make the first point, their second ones the second, each at the
    median of its steps.

    Raises:
        ConfigError: no evaluations there.
    """
    told = lines(run_dir)
    by_seed: dict[int, dict[int, float]] = {}
    for line in told:
        if metric in line:
            by_seed.setdefault(line["seed"], {})[line["step"]] = line[metric]
    if not by_seed:
        raise ConfigError(f"{run_dir / 'metrics.jsonl'} holds no {metric}")
    steps = sorted(set.intersection(*(set(own) for own in by_seed.values())))
    values = np.array([[own[step] for step in steps] for own in by_seed.values()])
    points = min(len(own) for own in by_seed.values())
    if 2 * len(steps) < points:
        every = np.array([sorted(own.items())[:points] for own in by_seed.values()])  # [seeds, P, 2]
        steps, values = np.median(every[..., 0], axis=0), every[..., 1]
    hours = max(line["wall_s"] for line in told) / 3600
    rates = [line["perf/steps_per_s"] for line in told if "perf/steps_per_s" in line]
    return Curves(np.array(steps), values, hours, float(np.median(rates)) if rates else float("nan"))


@lru_cache(maxsize=128)  # of a figure's runs: its panels, tables and documents want several metrics of each
def lines(run_dir: Path) -> list[dict[str, Any]]:
    """Lines of a stored run's metrics.jsonl."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def quartiles(curves: Curves) -> np.ndarray:
    """[3, P] lower quartile, median and upper quartile over seeds."""
    return np.quantile(curves.values, (0.25, 0.5, 0.75), axis=0)


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis."""
    return values.mean(axis=-1)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half, over the last axis; a quarter, rounded down, is cut off at either end."""
    ordered = np.sort(values, axis=-1)
    cut = values.shape[-1] // 4
    return ordered[..., cut : values.shape[-1] - cut].mean(axis=-1)


def final(curves: Curves) -> np.ndarray:
    """Mean of each seed's last evaluations, [seeds]."""
    count = max(1, round(LAST * len(curves.steps)))
    return curves.values[:, -count:].mean(axis=1)


def area(curves: Curves) -> np.ndarray:
    """Area under each seed's curve divided by the steps: its average height, [seeds]."""
    width = np.diff(curves.steps)
    heights = (curves.values[:, 1:] + curves.values[:, :-1]) / 2
    return (heights * width).sum(axis=1) / width.sum()


def steps_to(curves: Curves, threshold: float) -> float:
    """Steps after which the median over seeds first reaches a threshold; NaN where it never does."""
    reached = np.flatnonzero(np.median(curves.values, axis=0) >= threshold)
    return float(curves.steps[reached[0]]) if len(reached) else float("nan")


def short(steps: float) -> str:
    """3_200_000 -> 3.2M; NaN -> never."""
    if np.isnan(steps):
        return "never"
    return f"{steps / 1e6:.2f}M" if steps >= 1e6 else f"{steps / 1e3:.0f}k"


def with_interval(scores: np.ndarray) -> str:
    """Mean of a score per seed, and its interval."""
    return _number(scores.mean(), verdict.over_seeds([scores], mean))


def _number(value: float, interval: verdict.Interval | None) -> str:
    """A value, and its interval where there is one: of a single seed there is none."""
    return f"{value:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def markdown(rows: list[list[str]]) -> str:
    """A table of rows of cells, the first of them the columns' names."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]])


def rows(runs: dict[tuple[str, str], Curves], thresholds: tuple[float, ...]) -> list[list[str]]:
    """Names of the columns, then a row for every (map, label).

    With ``thresholds``, for what is better the higher it is: best values and the steps to each of them.
    """
    names = ["map", "method", "seeds", "steps", "final (95 %)"]
    names += ["best (95 %)", *(f"to {t:.0%}" for t in thresholds)] if thresholds else []
    names += ["area", "hours"]
    found = [names]
    for (task, label), curves in runs.items():
        cells = [task, label, str(len(curves.values)), short(curves.steps[-1]), with_interval(final(curves))]
        if thresholds:
            cells += [with_interval(curves.values.max(axis=1))]
            cells += [short(steps_to(curves, t)) for t in thresholds]
        cells += [f"{area(curves).mean():.2f}", f"{curves.hours:.2f}"]
        found.append(cells)
    return found


def rows_over_maps(runs: dict[tuple[str, str], Curves]) -> list[list[str]]:
    """Interquartile mean of the final values over all maps and seeds, for methods on all maps.

    Names of the columns, then a row for every such method; no row where there is one map only.
    """
    tasks = {task for task, _ in runs}
    found = [["method", "interquartile mean (95 %)"]]
    for label in dict.fromkeys(label for _, label in runs):
        scores = [final(curves) for (_, own), curves in runs.items() if own == label]
        if len(scores) == len(tasks) > 1:
            middle = float(interquartile_mean(np.concatenate(scores)))
            found.append([label, _number(middle, verdict.over_seeds(scores, interquartile_mean))])
    return found


def differences(tasks: list[tuple[str, str, str, Curves, list[tuple[str, Curves]]]]) -> list[list[str]]:
    """On every task one method minus each of the others, final value and area.

    Both count up to where the shorter of the two curves ends, interpolated linearly there. Seeds are drawn
    for the two methods independently: equal seeds do not make equal battles.

    Args:
        tasks: name, what the values are called, the method's label and curves, those of the others.

    Returns:
        Names of the columns, then a row for every other method.
    """
    found = [["map", "in", "method", "minus", "final (95 %)", "area (95 %)"]]
    for task, axis, label, own, others in tasks:
        for other, curves in others:
            last = min(own.steps[-1], curves.steps[-1])
            pair = _until(own, last), _until(curves, last)
            cells = [_difference(*map(score, pair)) for score in (final, area)]
            found.append([task, axis, label, other, *cells])
    return found


def _until(curves: Curves, last: float) -> Curves:
    """The curves up to ``last`` steps, which is inside them."""
    at = np.append(curves.steps[curves.steps < last], last)
    values = np.array([np.interp(at, curves.steps, own) for own in curves.values])
    return curves._replace(steps=at, values=values)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Difference of two means over seeds, and its interval."""
    count = len(ours)
    interval = verdict.over_seeds(
        [ours, theirs], lambda x: x[..., :count].mean(axis=-1) - x[..., count:].mean(axis=-1)
    )
    return _number(ours.mean() - theirs.mean(), interval)


def costs(runs: dict[tuple[str, str], Curves], budgets: dict[str, dict[str, int]]) -> list[list[str]]:
    """What larger budgets would take on the machine that trained these curves.

    Args:
        runs: curves by (map, label).
        budgets: steps a seed by (name of the budget, map).

    Returns:
        Names of the columns, then a row of hours for every run, then their sum.
    """
    found = [["map", "method", "seeds", "steps/s", *budgets]]
    total = dict.fromkeys(budgets, 0.0)
    for (task, label), curves in runs.items():
        seeds = len(curves.values)
        hours = {name: seeds * own[task] / curves.rate / 3600 for name, own in budgets.items()}
        total = {name: total[name] + hours[name] for name in budgets}
        found.append([task, label, str(seeds), f"{curves.rate:,.0f}", *(f"{h:,.1f}" for h in hours.values())])
    return [*found, ["all", "", "", "", *(f"{hours:,.1f}" for hours in total.values())]]


def marl_eval(runs: dict[tuple[str, str], dict[str, Curves]], environment: str) -> dict[str, Any]:
    """The document that marl-eval reads: environment > task > algorithm > seed > step > metric.

    Within an environment marl-eval wants the same algorithms on every task, and evaluations at the same,
    evenly spaced steps. So maps with the same methods make an environment, and its curves are interpolated
    linearly onto as many steps as the coarsest of them has, from the first evaluation that all have to the
    last that all have: the shortest run cuts the others. The absolute metrics are final values of the whole
    runs. Commas, which it does not allow in an algorithm's name, are left out.

    Args:
        runs: curves by metric's name, by (map, label); the same seeds and, within a run, the same steps.
        environment: its name; where there are several, the maps follow it.
    """
    by_task: dict[str, dict[str, dict[str, Curves]]] = {}
    for (task, label), curves in runs.items():
        by_task.setdefault(task, {})[label.replace(",", "")] = curves
    alike: dict[frozenset[str], list[str]] = {}
    for task, own in by_task.items():
        alike.setdefault(frozenset(own), []).append(task)
    document = {}
    for tasks in alike.values():
        name = environment if len(alike) == 1 else f"{environment} {' + '.join(tasks)}"
        grid = _common([c for task in tasks for own in by_task[task].values() for c in own.values()])
        document[name] = {
            task: {label: _seeds(curves, grid) for label, curves in by_task[task].items()} for task in tasks
        }
    return document


def _common(every: list[Curves]) -> np.ndarray:
    """Evenly spaced steps inside every curve."""
    low, high = max(c.steps[0] for c in every), min(c.steps[-1] for c in every)
    return np.linspace(low, high, min(len(c.steps) for c in every)).round()


def _seeds(curves: dict[str, Curves], grid: np.ndarray) -> dict[str, Any]:
    """A run's part of the document, from its curves by metric's name."""
    values = {
        name: np.array([np.interp(grid, c.steps, own) for own in c.values]) for name, c in curves.items()
    }
    last = {name: final(c) for name, c in curves.items()}
    seeds = len(next(iter(last.values())))
    return {
        f"seed_{seed}": {
            **{
                f"step_{i}": {
                    "step_count": int(step),
                    **{name: [float(own[seed, i])] for name, own in values.items()},
                }
                for i, step in enumerate(grid)
            },
            "absolute_metrics": {name: [float(own[seed])] for name, own in last.items()},
        }
        for seed in range(seeds)
    }
