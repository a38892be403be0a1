"""Trains what a figure compares, skipping what is done and resuming what was interrupted.

    python experiments/run.py figure2
    python experiments/run.py figure5 scale=tiny maps=2s3z,3s_vs_5z runs=seca,coma wandb.mode=disabled

scale=tiny|small|full|paper chooses the budget of figures 4 and 5 (small unless given), maps= and runs= some
of the figure's maps and learners. Further key=value words go to every training run; python -m
seca_jax.train --help lists them. A finished run's configuration, metrics, command and curves are copied to
experiments/results/<figure>/<scale>/<map>/<run>/, which experiments/draw.py draws; what is not finished
lies in runs/. Figures: FIGURES.

Exit status: 0 done, 2 bad input, 130 interrupted after saving (the same command goes on), else the highest
of the runs that failed; a failed run does not cost the others.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from figures import FIGURES, SCALES, Run, asked, each_once, scaled, settings

from seca_jax.config import commands, compose
from seca_jax.config.check import ConfigError, check, one_of, unread
from seca_jax.config.schema import Config, get
from seca_jax.runtime.interrupt import EXIT_INTERRUPTED
from seca_jax.show.page.run import CHECKPOINTS

RESULTS = Path(__file__).parent / "results"
NEEDED = ("config.yaml", "metrics.jsonl")  # a run that has them is done
KEPT = (*NEEDED, "curves.png")
OWN_WORDS = ("map", "out", "name", "resume", "total_steps")  # nobody else's affair


class Job(NamedTuple):
    """A run of a figure, and what is to be done about it."""

    run: Run
    place: Path  # where its results are kept
    out: Path  # where it trains
    words: list[str]  # of the training command; none: it is done
    state: str  # in words


def chosen(figure: str, scale: str, options: dict[str, str]) -> list[Run]:
    """The figure's runs that maps= and runs= ask for; takes both out of ``options``; raises ConfigError."""
    every = list(each_once(FIGURES[figure]).values())
    if scale != "small" and not scaled(figure):
        raise ConfigError(f"scale={scale}: {figure} has budgets of its own; leave scale= out")
    runs = every
    for word, of in (("maps", lambda run: run.map), ("runs", lambda run: run.name)):
        if word in options:
            wanted, there = options.pop(word).split(","), list(dict.fromkeys(map(of, every)))
            for name in wanted:
                one_of(word, name, there)
            runs = [run for run in runs if of(run) in wanted]
    if not runs:
        raise ConfigError(f"{figure} has none of these runs on these maps")
    return runs


def plan(figure: str, scale: str, options: dict[str, str]) -> list[Job]:
    """What is to be trained, every configuration checked before anything trains; raises ConfigError."""
    runs = chosen(figure, scale, options)
    varied = {word.partition("=")[0] for panel in FIGURES[figure] for run in panel.runs for word in run.words}
    for name in options:
        if name in OWN_WORDS or name in varied:
            raise ConfigError(f"{name}={options[name]}: {figure} sets {name} itself")
    extra = [f"{name}={value}" for name, value in options.items()]
    values = compose.parse(extra)
    jobs = []
    for run in runs:
        part = Path(figure) / scale / run.map / run.name
        place, out = RESULTS / part, Path("runs") / part
        words = [f"map={run.map}", *run.words, *settings(run, scale), *extra, f"out={out}"]
        config, state = compose.compose(compose.parse(words)), "training"
        check(config)
        if all((place / name).exists() for name in NEEDED):
            words, state = [], "done" + check_stored(place, values, config)
        elif resumable(out):
            words, state = [f"resume={out}", *extra], "continuing"
            compose.resumed(compose.parse(words))
        jobs.append(Job(run, place, out, words, state))
    return jobs


def resumable(out: Path) -> bool:
    """Whether a checkpoint was completed there: unfinished ones have other names than a number."""
    return any(path.name.isdigit() for path in (out / CHECKPOINTS).glob("*"))


def check_stored(place: Path, values: dict[str, Any], config: Config) -> str:
    """What to say of a stored run; raises ConfigError if the words ask for another than that.

    Args:
        place: where it is kept.
        values: what the words say, by key.
        config: what a new run would have.
    """
    stored, _ = compose.load(place)
    for name, value in values.items():
        own = get(stored, name)
        if name not in compose.FREE_ON_RESUME and own != value and not unread(name, stored.algo):
            raise ConfigError(
                f"{name}={value}: {place} was trained with {name}={own}; choose others by maps= and runs=, "
                "or remove that directory to train the run anew"
            )
    other = [
        f"{name}={get(stored, name)}"
        for name in ("seeds", "total_steps")
        if get(stored, name) != get(config, name)
    ]
    return f", but with {', '.join(other)}" if other else ""


def train(job: Job) -> int:
    """Trains or continues one run and keeps its results; its exit status."""
    if not resumable(job.out):
        shutil.rmtree(job.out, ignore_errors=True)  # died before its first checkpoint
    status = call([sys.executable, "-m", "seca_jax.train", *job.words])
    if status == 0:
        try:
            keep(job)
        except OSError as error:
            print(f"error: {job.place}: results could not be kept ({error})", file=sys.stderr)
            return 4
    return status


def call(command: list[str]) -> int:
    """The exit status of a command, which is left to end by itself when this process is interrupted.

    An interrupt at the terminal reaches both; SIGTERM is passed on. A signal that ended the command counts
    as 128 and its number.
    """
    with subprocess.Popen(command) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while True:
                try:
                    status = process.wait()
                    return status if status >= 0 else 128 - status
                except KeyboardInterrupt:  # training saves and ends; at a second one it ends at once
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)


def keep(job: Job) -> None:
    """Copies a finished run's results, all at once; raises OSError."""
    draft = job.place.with_name(job.place.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name in KEPT:
        if name in NEEDED or (job.out / name).exists():
            shutil.copy(job.out / name, draft / name)
    shutil.rmtree(job.place, ignore_errors=True)
    os.replace(draft, job.place)


def command(words: list[str]) -> int:
    """Trains what the words ask for; the exit status. Raises ConfigError."""
    figure, options = asked(words)
    scale = options.pop("scale", "small")
    one_of("scale", scale, list(SCALES))
    jobs = plan(figure, scale, options)
    worst, began = 0, time.monotonic()
    for i, job in enumerate(jobs):
        minutes = (time.monotonic() - began) / 60
        print(
            f"[{i + 1}/{len(jobs)}, {minutes:.0f} min] {job.run.map} {job.run.name}: {job.state}", flush=True
        )
        if job.words:
            status = train(job)
            worst = max(worst, status)
            if status == EXIT_INTERRUPTED:
                print("interrupted; the same command goes on", flush=True)
                break
    return worst


def main(words: list[str]) -> int:
    """The command line; its exit status is in --help."""
    return commands.call(command, words, lambda: __doc__.replace("FIGURES", ", ".join(FIGURES)).strip())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
