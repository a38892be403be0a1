"""Runs as marl-eval's raw data: the numbers of every evaluation, for its statistics and plots.

The format nests environment, task, algorithm, run and evaluation. A run is a seed here, called
``seed_<number>``; an evaluation is ``step_<i>``, with ``step_count``, ``elapsed_time`` in seconds and lists
of each metric's values. ``absolute_metrics`` closes a run.
"""

from collections.abc import Sequence
from typing import Any

from seca_jax.envs.registry import TASKS
from seca_jax.show.page import pool
from seca_jax.show.page.run import Run

ENVIRONMENTS = {"particle": "MPE", "probes": "probes"}  # by module of seca_jax.envs
METRICS = {"win_rate": "test/win_rate", "return": "test/return", "episode_length": "test/length"}
ABSOLUTE = {"win_rate": "win_rate", "return": "return", "episode_length": "length"}  # in evaluation.json


def environment(run: Run) -> str:
    """The family that a run's map belongs to: SMAX, unless it is another task of ours."""
    return ENVIRONMENTS.get(TASKS.get(str(run.config["map"]), ""), "SMAX")


def raw(found: Sequence[Run]) -> dict[str, Any]:
    """The document of marl-eval's raw data.

    Runs that differ in seeds only are one algorithm's. Lists have one value, the mean over the episodes of an
    evaluation. The absolute metrics are those of evaluation.json, which :mod:`seca_jax.evaluate` writes, and
    of the last evaluation of training where there is none.

    Raises:
        ConfigError: a seed occurs twice in what would be one algorithm's runs.
    """
    groups = pool.alike(found)
    document: dict[str, Any] = {}
    for name, group in zip(pool.names_of(groups), groups):
        pool.distinct(group, "json")
        for run in group:
            tasks = document.setdefault(environment(run), {})
            seeds = tasks.setdefault(str(run.config["map"]), {}).setdefault(name, {})
            seeds |= {f"seed_{seed}": _steps(run, seed) for seed in pool.seeds_of(run)}
    return document


def _steps(run: Run, seed: int) -> dict[str, Any]:
    """What one seed of a run came to, evaluation by evaluation."""
    tested = [line for line in run.lines if line["seed"] == seed and "test/win_rate" in line]
    steps: dict[str, Any] = {}
    for i, line in enumerate(tested):
        numbers = {name: [float(line[key])] for name, key in METRICS.items() if key in line}
        steps[f"step_{i}"] = {
            "step_count": int(line["step"]),
            "elapsed_time": float(line["wall_s"]),
            **numbers,
        }
    judged = next((row for row in (run.evaluation or {}).get("seeds", ()) if row["seed"] == seed), None)
    if judged is not None:
        absolute = {name: [float(judged[key])] for name, key in ABSOLUTE.items() if key in judged}
    else:
        last = tested[-1] if tested else {}
        absolute = {name: [float(last[key])] for name, key in METRICS.items() if key in last}
    return steps | {"absolute_metrics": absolute}
