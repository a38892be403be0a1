"""Train: ``python -m seca_jax.train map=3s5z_vs_3s6z``. ``--help`` lists every key."""

from seca_jax import door

if __name__ == "__main__":
    door.quietly()

import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from seca_jax import algos, envs, runs
from seca_jax.config import commands, compose
from seca_jax.config.check import ConfigError, check
from seca_jax.config.keys import get, replace
from seca_jax.config.learners import idle, unread
from seca_jax.config.schema import Config, keys, mesh_of, traced
from seca_jax.config.words import expand, parse, repeated

USAGE = """\
Train a cooperative multi-agent learner.

  python -m seca_jax.train map=2s3z seeds=5 actor.lr=1e-3
  python -m seca_jax.train map=2s3z preset=paper
  python -m seca_jax.train --multirun map=2s3z,3s5z credit.order=ig-episode,fixed
  python -m seca_jax.train resume=runs/2s3z/seca/2026-01-31_12-00-00
  python -m seca_jax.train map=2s3z init=runs/2s3z/seca/2026-01-31_12-00-00   # from its parameters

A run leaves config.yaml, metrics.jsonl, curves.png, checkpoints/ and its W&B files in its directory.
--multirun trains every combination of several values (seed=0,5 or range(0,5)), one after the other;
out=DIR then holds one directory for each, named by what differs (credit.order=prob). The same command
again leaves out what is done, continues what was stopped and trains the rest. With --together, runs that
differ in seed and in rates only train side by side, as rows of one compiled program; what needs another
program waits for its turn. Rates are
{rates}.
A resumed run keeps its stored config; it may be made longer (total_steps) and change
{free}.

Exit status: 0 done, 2 bad input, 3 stopped on a non-finite value, 4 the last checkpoint or lines
could not be written, 130 interrupted after saving (a second Ctrl-C aborts at once).
"""
TOGETHER = "--together"
KEYS = "Keys, given as key=value (--help algo=qmix preset=paper shows what QMIX reads, and its defaults):"
# What tells a sweep's runs apart in a directory's name: values are anything, names of directories are not
UNSAFE = re.compile(r"[^\w.,=+-]+")


def help_text(words: list[str]) -> str:
    """What ``--help`` prints: usage, then every key with its meaning, allowed values and default.

    ``words`` may name a map, an algo and a preset, whose defaults are shown then, of an algo only the keys
    that it looks at; raises ConfigError.
    """
    named = any(word.startswith("algo=") for word in words)
    config = compose.from_words(w for w in words if w.startswith(("map=", "algo=", "preset=")))
    free = ", ".join(name for name in compose.FREE_ON_RESUME if not name.startswith("wandb."))
    rates = textwrap.fill(", ".join(traced()), 105)
    lines = [USAGE.format(free=f"{free}, wandb.*", rates=rates), KEYS, *commands.key_lines(config, own=named)]
    lines += [
        "",
        f"map:    {', '.join(envs.names())}",
        f"algo:   {', '.join(algos.names())}",
        f"preset: {', '.join(compose.presets())}",
    ]
    return "\n".join(lines)


class Job(NamedTuple):
    """A run that the command line asks for."""

    config: Config  # complete and checked, its directory filled in
    swept: bool  # one of several: it may have been begun, or done, by the same command before
    label: str = ""  # what tells it apart from the others


def labels(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Names of a sweep's jobs: those of their words that differ, ``map=3m,seed=0``; raises ConfigError."""
    differing = [i for i in range(len(jobs[0])) if len({job[i] for job in jobs}) > 1]
    found = [UNSAFE.sub("_", ",".join(job[i] for i in differing)) for job in jobs]
    if again := [label for i, label in enumerate(found) if label in found[:i]]:
        raise ConfigError(f"--multirun: {again[0] or 'the same run'} is asked for twice; give a value once")
    return found


def with_directory(config: Config, label: str, now: str) -> Config:
    """The config with its name and run directory filled in; ``label`` tells a sweep's runs apart."""
    config = replace(config, "name", (config.name or now) + (f"-{label}" if label else ""))
    if config.out:
        return replace(config, "out", str(Path(config.out) / label))
    return replace(config, "out", str(Path("runs") / config.map / config.algo / config.name))


def plan(words: Sequence[str]) -> list[Job]:
    """The runs that the command line asks for, each complete and checked; raises ConfigError."""
    multirun = [word for word in words if word in ("--multirun", "-m")]
    overrides = [word for word in words if word not in (*multirun, TOGETHER)]
    if TOGETHER in words and not multirun:
        raise ConfigError(f"{TOGETHER}: say --multirun, too, and give a key several values")
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if os.environ.get("WANDB_SWEEP_ID"):  # trials of two agents may start in the same second
        now = os.environ.get("WANDB_RUN_ID") or now
    expanded = expand(overrides) if multirun else [overrides]
    jobs = []
    for own, label in zip(expanded, labels(expanded), strict=True):
        values = parse(own)
        if values.get("resume"):
            jobs.append(Job(compose.resumed(values), False))
            continue
        config = with_directory(compose.compose(values), label, now)
        check(config)
        job = Job(config, bool(multirun), label)
        if config.distributed.coordinator:
            if multirun:
                raise ConfigError(
                    "--multirun: processes of distributed.* train one run; give one value a key"
                )
            jobs.append(job)  # the first process looks at the directory when they have met
            continue
        if settled(job) is config:
            runs.check_vacant(config.out)
        jobs.append(job)
    return jobs


def settled(job: Job) -> Config | None:
    """What is to be trained for a job now: its config, that of the run begun before, or None: it is done.

    Raises:
        ConfigError: its directory holds another run.
    """
    config = job.config
    if not job.swept or not (Path(config.out) / runs.CONFIG).exists():
        return config
    stored, _ = compose.load(config.out)
    free = (*compose.FREE_ON_RESUME, "name", "out", "resume", "total_steps")
    for name in (name for name, _ in keys() if name not in free):
        if get(config, name) != get(stored, name):
            raise ConfigError(
                f"out={config.out}: holds a run with {name}={get(stored, name)}, not {get(config, name)}; "
                "give another directory"
            )
    if max(runs.checkpoint_steps(config.out), default=-1) >= config.total_steps:
        return None
    values = {name: get(config, name) for name in (*compose.FREE_ON_RESUME, "total_steps")}
    return compose.resumed({**values, "resume": config.out})


def has_preset(job: Job) -> bool:
    """Whether the preset of a job has anything to say to its learner on its map."""
    algo, preset, map_name = job.config.algo, job.config.preset, job.config.map
    *_, everywhere, there, own, own_there = (
        settings for _, settings in compose.layers(algo, preset, map_name)
    )
    return any((everywhere, there, own, own_there))


def train(jobs: Sequence[Job], argv: Sequence[str]) -> int:
    """Runs one after the other; the highest exit status of them.

    Raises:
        ConfigError: a single run cannot start, or one of several cannot be prepared.
    """
    from seca_jax.runtime import session  # not above: --help and bad input must not wait for JAX
    from seca_jax.runtime.devices import configure

    if len(jobs) == 1 and not jobs[0].swept:
        return session.run(jobs[0].config, argv).status
    # The number of devices is settled with the first of them, and must do for all
    seeds = [job.config.seeds for job in jobs]
    most = sum(seeds) if TOGETHER in argv else max(seeds)
    meshes = [mesh for job in jobs if (mesh := mesh_of(job.config))]
    configure(jobs[0].config.device, most, mesh=max(meshes, key=math.prod, default=None))
    for job in jobs:  # what cannot run is better known before the first has run for hours
        if settled(job) is not None:
            session.prepare(job.config)
    if TOGETHER in argv:
        return train_together(jobs, argv)

    def attempt(number: int) -> int:
        config = announced(jobs, number)
        return 0 if config is None else session.run(config, argv).status

    return worst_of(partial(attempt, number) for number in range(len(jobs)))


def train_together(jobs: Sequence[Job], argv: Sequence[str]) -> int:
    """Runs of one shape side by side, the others after them; the highest exit status of them."""
    from seca_jax.runtime import together

    groups: dict[tuple, list[tuple[Config, str]]] = {}
    for number, job in enumerate(jobs):
        if (config := announced(jobs, number)) is not None:
            groups.setdefault(together.kin(config), []).append((config, job.label))

    def attempt(group: list[tuple[Config, str]]) -> int:
        configs, labels = zip(*group, strict=True)
        return max(together.run(configs, labels, argv))

    return worst_of(partial(attempt, group) for group in groups.values())


def announced(jobs: Sequence[Job], number: int) -> Config | None:
    """What is to be trained for a job now, as :func:`settled` (another process may have been there); told."""
    config = settled(jobs[number])
    state = "done already" if config is None else "continuing" if config.resume else "training"
    print(f"[{number + 1}/{len(jobs)}] {jobs[number].config.out}: {state}", flush=True)
    return config


def worst_of(attempts: Iterable[Callable[[], int]]) -> int:
    """The highest exit status: one failed attempt does not cost the rest of a sweep; an interrupt does."""
    worst = 0
    for attempt in attempts:
        try:
            status = attempt()
        except ConfigError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
        worst = max(worst, status)
        if status == 130:
            break
    return worst


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if "--help" in argv or "-h" in argv:
            print(help_text(argv))
            return 0
        for line in repeated(argv):
            print(f"warning: {line}", file=sys.stderr)
        jobs = plan(argv)
        presets = {job.config.preset for job in jobs} - {Config.preset}
        if presets and not any(map(has_preset, jobs)):
            told, learners = (", ".join(sorted(x)) for x in (presets, {job.config.algo for job in jobs}))
            print(f"warning: preset={told} changes nothing under algo={learners}", file=sys.stderr)
        for name in (word.partition("=")[0] for word in argv if "=" in word):
            if all(unread(name, job.config.algo) for job in jobs):
                learners = ", ".join(sorted({job.config.algo for job in jobs}))
                print(f"warning: {name} changes nothing under algo={learners}", file=sys.stderr)
            elif all(idle(name, job.config) for job in jobs):
                kinds = ", ".join(sorted({job.config.critic.kind for job in jobs}))
                print(f"warning: {name} changes nothing under critic.kind={kinds}", file=sys.stderr)
        return train(jobs, argv)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the run has begun: nothing to save
        return 130


if __name__ == "__main__":
    sys.exit(main())
door.callable_as(__name__)
