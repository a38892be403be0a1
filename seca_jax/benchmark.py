"""Throughput: ``python -m seca_jax.benchmark map=2s3z``. ``--help`` lists what can be asked.

Three programs are timed, each containing the one before it: the environment alone under random
available actions (views included, ended episodes restarted), the rollout (environment, agents,
trajectory), and full training. Their differences say where the time goes.
See :mod:`seca_jax.runtime.throughput` for how each figure comes about.
"""

if __name__ == "__main__":
    from seca_jax import door

    door.quietly()

import itertools
import json
import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seca_jax import algos
from seca_jax.config import commands, compose
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key
from seca_jax.config.schema import Config
from seca_jax.config.words import options as checked_options
from seca_jax.config.words import parse

if TYPE_CHECKING:
    from seca_jax.runtime.throughput import Row

WHATS = ("env", "rollout", "train")
ENV_MAPS = "2s3z,3s5z_vs_3s6z,27m_vs_30m,2c_vs_64zg"
ENV_SIZES = "32,256,2048"
SEVERAL = ("map", "algo", "num_envs")  # keys that take several values
WIDTH = 124  # characters of the table


@dataclass(frozen=True)
class Options:
    """Keys of the command line that are not a run's."""

    what: str = key(
        "all", "env (both simulators side by side), rollout, train, or all", choices=(*WHATS, "all")
    )
    json: str = key("", "file for the rows; unless given, none is written", path=True)
    repeats: int = key(5, "timed repeats of each row, whose median counts", low=5)
    seconds: float = key(1.0, "length of one repeat that is aimed at", above=0)


@dataclass(frozen=True)
class Words(Options, Config):
    """Every key that the command line takes."""


def table(rows: "list[Row]") -> Any:
    """The rows for a terminal; the ratio compares the core with upstream in the same run."""
    from rich import box
    from rich.table import Table

    upstream = {row[2:6] + (row.what,): row.steps_per_s for row in rows if row.backend == "upstream"}
    lines = Table(box=box.SIMPLE_HEAD)
    for name in ("what", "backend", "map", "algo"):
        lines.add_column(name)
    for name in ("envs", "seeds", "steps/s", "us/step", "x upstream", "compile s", "MiB", "KiB/env"):
        lines.add_column(name, justify="right")
    for row in rows:
        other = upstream.get(row[2:6] + (row.what,))
        ratio = f"{row.steps_per_s / other:.1f}" if other and row.backend == "core" else ""
        lines.add_row(
            *(row.what, row.backend, row.map, row.algo or ""),
            *(str(row.num_envs), str(row.seeds), f"{row.steps_per_s:,.0f}", f"{1e6 / row.steps_per_s:.2f}"),
            *(ratio, f"{row.compile_s:.1f}", f"{row.peak_bytes / 2**20:.1f}"),
            f"{row.peak_bytes / 2**10 / row.num_envs / row.seeds:.1f}",
        )
    return lines


def shares(rows: "list[Row]") -> list[str]:
    """Where a training step's time goes, from the differences between rows of one configuration."""
    lines = []
    for train in (row for row in rows if row.what == "train"):
        cost = {
            row.what: 1e6 / row.steps_per_s
            for row in rows
            if (row.backend, row.map, row[4:6]) == (train.backend, train.map, train[4:6])
            and row.algo in (None, train.algo)
        }
        if len(cost) == len(WHATS):
            parts = (
                ("environment", cost["env"]),
                ("acting and recording", cost["rollout"] - cost["env"]),
                ("learning", cost["train"] - cost["rollout"]),
            )
            text = ", ".join(f"{name} {us:.1f} us ({us / cost['train']:.0%})" for name, us in parts)
            lines.append(
                f"{train.map}, {train.algo}, {train.backend}: one training step costs "
                f"{cost['train']:.1f} us: {text}"
            )
    return lines


def plan(words: list[str]) -> tuple[Options, list[Config]]:
    """Options and the checked configurations to measure; raises ConfigError.

    ``map``, ``algo`` and ``num_envs`` take several values, separated by commas, and ``algo=all`` is
    every learner; every other key of a training run may be given too.
    """
    own = {field.name for field in fields(Options)}
    mine = [word for word in words if word.partition("=")[0] in own]
    options: Options = checked_options(mine, Options)
    rest = [word for word in words if word not in mine]
    given = {word.partition("=")[0] for word in rest}
    for name in ("out", "name", "resume"):
        if name in given:
            raise ConfigError(f"{name}=: a benchmark keeps no run and continues none; leave it out")
    if options.what == "env":
        # One axis of environments is what simulators are compared on.
        defaults = {"map": ENV_MAPS, "num_envs": ENV_SIZES, "seeds": "1"}
        rest += [f"{name}={value}" for name, value in defaults.items() if name not in given]
    lists = [[word] for word in rest]
    for i, word in enumerate(rest):
        name, _, values = word.partition("=")
        if word == "algo=all":
            values = ",".join(algos.names())
        if name in SEVERAL:
            lists[i] = [f"{name}={value}" for value in values.split(",")]
    parse([*mine, *(several[0] for several in lists)], Words)  # a slip is looked up among the keys of both
    configs = [compose.from_words(job) for job in itertools.product(*lists)]
    if options.json:
        path = Path(options.json)
        if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            raise ConfigError(f"json={path}: cannot be written there; give a file in a writable directory")
    return options, configs


def run(options: Options, configs: list[Config], argv: list[str]) -> dict[str, Any]:
    """Measure everything, print it, and return the JSON document; raises ConfigError, measuring nothing."""
    from rich.console import Console

    from seca_jax.runtime import throughput
    from seca_jax.runtime.provenance import provenance
    from seca_jax.runtime.session import prepare

    used, *_ = [prepare(config)[0] for config in configs]
    console, progress = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)  # a narrow pipe would cut the numbers off
    origin = provenance(used, argv, "seca_jax.benchmark")
    device = f"{origin['device']} ({origin['processor']})"
    whats = list(WHATS) if options.what == "all" else [options.what]
    rows, simulated = [], set()
    for config in configs:
        # The environment alone is the same whoever learns in it.
        setting = (config.map, config.env, config.num_envs, config.seeds)
        rows += throughput.measure(
            config,
            [what for what in whats if what != "env" or setting not in simulated],
            used,
            repeats=options.repeats,
            seconds=options.seconds,
            say=progress.print,
        )
        simulated.add(setting)
    console.print(f"{device}, jax {origin['versions']['jax']}, jaxmarl {origin['versions']['jaxmarl']}")
    console.print(table(rows))
    for line in shares(rows):
        console.print(line)
    return {"device": device, "versions": origin["versions"], "rows": [row._asdict() for row in rows]}


def usage() -> str:
    """Text of ``--help``."""
    return commands.usage(
        "python -m seca_jax.benchmark [key=value ...]",
        Options,
        "map, algo and num_envs take several values, separated by commas; algo=all is every learner.",
        "All other keys of seca_jax.train work too.",
        f"what=env alone defaults to map={ENV_MAPS} num_envs={ENV_SIZES} seeds=1.",
    )


def report(words: list[str]) -> None:
    """Measure what the words ask for, print it, and write the JSON; raises ConfigError, OSError."""
    options, configs = plan(words)
    document = run(options, configs, words)
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input."""
    return commands.call(report, words, usage)


if __name__ == "__main__":
    # Before JAX is imported, which is when it reads this: compile_s must not be a file's reading time.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    sys.exit(main())
