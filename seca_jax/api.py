"""The library: train, judge and load from Python. ``seca_jax.train`` and the others are these functions.

Settings are the command line's keys, ``python -m seca_jax.train --help`` lists them: as keywords where they
are plain names, in a dictionary where they have a dot, ``train({"actor.lr": 1e-3}, map="2s3z")``, or nested,
``train(map="2s3z", actor={"lr": 1e-3})``. Every error in them is a :class:`ConfigError` of one line.

Programs are compiled once for all runs of one shape: other seeds, learning rates, gradient clips, discounts,
lambdas, entropy coefficients and clip ranges compile nothing, within a process.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from seca_jax import runs
from seca_jax.config import compose
from seca_jax.config.check import ConfigError, check
from seca_jax.config.keys import replace
from seca_jax.config.schema import Config
from seca_jax.config.words import given

if TYPE_CHECKING:
    from seca_jax.envs.base import Environment
    from seca_jax.types import Learner

__all__ = ["ConfigError", "Result", "Run", "evaluate", "export", "load_run", "make_env", "train"]

ENDINGS = {0: "done", 3: "non-finite", 4: "not saved", 130: "stopped"}
QUIET = {"log.progress": False, "wandb.mode": "disabled"}  # unless asked for


@dataclass(frozen=True)
class Result:
    """What a training has come to.

    Attributes:
        status: ``done``; ``stopped`` by the callback; ``non-finite`` loss or parameters ended it; ``not
            saved``: the last checkpoint could not be written.
        config: complete.
        params: leaves ``[seeds, ...]``, NumPy; one seed's share is what a learner's ``act`` takes.
        metrics: by name, ``step`` and ``wall_s`` among them, ``[seeds, points]``: one point for every line
            of metrics.jsonl, NaN where a seed has no such number there.
        out: the run's directory; None: there is none.
    """

    status: str
    config: Config
    params: Any
    metrics: dict[str, np.ndarray]
    out: Path | None


@dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        config: complete.
        step: of the checkpoint, environment steps of a seed.
        params: leaves ``[seeds, ...]``; :meth:`of` gives one seed's.
        env: the environment of its map.
        learner: its learner; ``act`` and ``assess`` take one seed's parameters.
    """

    config: Config
    step: int
    params: Any
    env: "Environment"
    learner: "Learner"

    def of(self, seed: int) -> Any:
        """The parameters of the seed with that number; raises ConfigError if the run has none such."""
        import jax

        first, last = self.config.seed, self.config.seed + self.config.seeds - 1
        if not first <= seed <= last:
            raise ConfigError(f"seed={seed}: the run has seeds {first} to {last}")
        return jax.tree.map(lambda x: x[seed - first], self.params)


def train(
    settings: Mapping[str, Any] | None = None,
    /,
    *,
    callback: Callable[[int, dict[str, np.ndarray]], object] | None = None,
    **keywords: Any,
) -> Result:
    """Trains, as ``python -m seca_jax.train`` does.

    Args:
        settings: keys with a dot in their name, or nested ones; keywords win over them.
        callback: called at every log point with the steps of the slowest seed and, by name, the numbers of
            every seed, ``[seeds]``; a true answer stops training (after saving).
        **keywords: keys. ``out=DIR`` leaves a run directory, without it nothing is written; ``resume=DIR``
            continues one. ``log.progress=True`` prints what the command prints, ``wandb.mode`` tracks.

    Raises:
        ConfigError: it cannot start; nothing has been written.
    """
    values = given({**QUIET, **(settings or {}), **keywords})
    if values.get("resume"):
        config = compose.resumed(values)
    else:
        config = compose.compose(values)
        if config.out and not config.name:
            config = replace(config, "name", Path(config.out).name)
        check(config)

    from seca_jax.runtime import session

    words = [
        f"{name}={str(value).lower() if value in (True, False) else value}" for name, value in values.items()
    ]
    outcome = session.run(config, words, callback, command_line=False)
    return Result(
        status=ENDINGS[outcome.status],
        config=config,
        params=outcome.params,
        metrics=by_seed(outcome.lines, config),
        out=Path(config.out) if config.out else None,
    )


def by_seed(lines: list[dict[str, Any]], config: Config) -> dict[str, np.ndarray]:
    """``[seeds, points]`` of every number in the lines of metrics.jsonl, NaN where there is none."""
    seeds = range(config.seed, config.seed + config.seeds)
    own = [[line for line in lines if line["seed"] == seed] for seed in seeds]
    points = max(map(len, own), default=0)
    names = [name for name in dict.fromkeys(name for line in lines for name in line) if name != "seed"]
    found = {name: np.full((len(seeds), points), math.nan) for name in names}
    for i, rows in enumerate(own):
        for j, line in enumerate(rows):
            for name, value in line.items():
                if name != "seed":
                    found[name][i, j] = value
    return found


def load_run(run: str | Path, step: int | str | None = None) -> Run:
    """A trained run.

    Args:
        run: its directory, or ``"pretrained:2s3z"`` for a policy that ships with the package: one seed,
            whose critic is missing (``params`` has None there, ``assess`` is None).
        step: of the checkpoint, or ``"best"``; None: the newest.

    Raises:
        ConfigError: no run there, no such checkpoint, or it is damaged.
    """
    config, _ = compose.load(run)

    from seca_jax import algos, envs
    from seca_jax.runtime import checkpoint, devices

    devices.configure("auto", config.seeds)
    env = envs.make(config)
    learner = algos.make(config, env)
    if runs.policy_alone(run):
        learner = learner._replace(assess=None)
    _, number, params = checkpoint.load_run(run, learner, step="" if step is None else str(step))
    return Run(config, number, params, env, learner)


def evaluate(run: str | Path, **keywords: Any) -> dict[str, Any]:
    """Judges a trained run, as ``python -m seca_jax.evaluate`` does.

    Args:
        run: its directory.
        **keywords: keys of that command: ``episodes``, ``step``, ``map``, ``sampled`` and others. Files are
            written only where asked for: ``json``, ``gif``, ``plot``.

    Returns:
        what evaluation.json holds; the battle only if a file was asked for.

    Raises:
        ConfigError: bad input.
    """
    command = import_module("seca_jax.evaluate")  # whose name here is this function's
    files = dict.fromkeys(command.FILES, "none")
    chosen = {**files, **{name: value for name, value in keywords.items() if value is not None}}
    words = [f"{name}={value}" for name, value in {"run": run, **chosen}.items()]
    return command.run(command.options(words))


def export(run: str | Path, **keywords: Any) -> Path:
    """Gives a run's policy away, as ``python -m seca_jax.export`` does.

    Args:
        run: its directory.
        **keywords: keys of that command: ``step``, ``seed``, ``out``.

    Returns:
        the directory of the files.

    Raises:
        ConfigError: bad input.
    """
    command = import_module("seca_jax.export")  # whose name here is this function's
    chosen = {"run": run, **{name: value for name, value in keywords.items() if value is not None}}
    return command.run(command.options([f"{name}={value}" for name, value in chosen.items()]))


def make_env(map: str, **settings: Any) -> "Environment":
    """The environment of a map: batched pure functions, see :class:`seca_jax.envs.base.Environment`.

    Args:
        map: SMAX map, particle task or probe game.
        **settings: keys of the group ``env``, such as ``observation="conic"``.

    Raises:
        ConfigError: no such map or setting.
    """
    config = compose.compose(given({"map": map, "env": settings}))
    check(config)

    from seca_jax import envs

    try:
        return envs.make(config)
    except ValueError as error:
        raise ConfigError(str(error)) from None
