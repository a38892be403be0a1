"""Trains what a figure compares, skipping what is done and resuming what was interrupted.

    python experiments/run.py figure2
    python experiments/run.py figure5 scale=tiny maps=2s3z,3s_vs_5z runs=seca,coma wandb.mode=disabled
    python experiments/run.py figure5 scale=tiny runs=lica remove=true

scale=tiny|small|full|paper chooses the budget of figures 4 and 5 (small unless given), maps= and runs= some
of the figure's maps and learners. Further key=value words go to every training run; python -m
seca_jax.train --help lists them. A finished run's configuration, command, metrics and evaluation are stored
in experiments/results/<figure>-<scale>.zip, which experiments/draw.py draws; what is not finished lies in
runs/<figure>/<scale>/<map>/<run>/. remove=true takes the chosen runs out of both and trains nothing, so that
the next command trains them anew. Figures: FIGURES.

Exit status: 0 done, 2 bad input, 130 interrupted after saving (the same command goes on), else the highest
of the runs that failed; a failed run does not cost the others.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import budgets
import store
from budgets import SCALES, Run
from figures import FIGURES, asked, each_once, scaled

from seca_jax import runs as run_files
from seca_jax.config import commands, compose
from seca_jax.config.check import ConfigError, one_of
from seca_jax.config.keys import get, replace
from seca_jax.config.learners import idle
from seca_jax.config.schema import Config
from seca_jax.config.words import parse
from seca_jax.door import EXIT_INTERRUPTED

RESULTS = Path(__file__).parent / "results"
OWN_WORDS = ("map", "out", "name", "resume", "total_steps")  # nobody else's affair


class Job(NamedTuple):
    """A run of a figure, and what is to be done about it."""

    run: Run
    archive: Path  # where its results are stored
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
    values = parse(extra)
    jobs = []
    with store.opened(RESULTS, figure, scale) as stored:
        for run in runs:
            out = out_of(figure, scale, run)
            words = [*budgets.command(run, scale), *extra, f"out={out}"]
            config, state = compose.from_words(words), "training"
            if store.done(place := stored / run.map / run.name):
                words, state = [], "done" + check_stored(run, place, values, config)
            elif (out / run_files.CONFIG).exists():
                words, state = [f"resume={out}", *extra], "continuing"
                compose.resumed(parse(words))
            jobs.append(Job(run, store.archive(RESULTS, figure, scale), out, words, state))
    return jobs


def out_of(figure: str, scale: str, run: Run) -> Path:
    """Where a run trains."""
    return Path("runs") / figure / scale / run.map / run.name


def prepare(jobs: list[Job]) -> None:
    """Raises ConfigError if an environment or a learner refuses a job's settings: known before any trains.

    On the processor, so that an accelerator's memory is left to the runs, processes of their own.
    """
    from seca_jax.runtime import session

    for job in jobs:
        words = [word for word in job.words if not word.startswith("device=")]
        values = parse(words)
        config = compose.resumed(values) if "resume" in values else compose.compose(values)
        session.prepare(replace(config, "device", "cpu"))


def check_stored(run: Run, place: Path, values: dict[str, Any], config: Config) -> str:
    """What to say of a stored run; raises ConfigError if the words ask for another than that.

    Args:
        run: which.
        place: where it lies.
        values: what the words say, by key.
        config: what a new run would have.
    """
    stored, _ = compose.load(place)
    for name, value in values.items():
        own = get(stored, name)
        if name not in compose.FREE_ON_RESUME and own != value and not idle(name, stored):
            raise ConfigError(
                f"{name}={value}: the stored {run.name} on {run.map} was trained with {name}={own}; choose "
                "others by maps= and runs=, or remove it by remove=true to train it anew"
            )
    other = store.differences(place, config)
    return f", but with {', '.join(other)}" if other else ""


def train(job: Job) -> int:
    """Trains or continues one run and keeps its results; its exit status."""
    status = call([sys.executable, "-m", "seca_jax.train", *job.words])
    if status == 0:
        try:
            keep(job)
        except OSError as error:
            print(f"error: {job.archive}: results could not be kept ({error})", file=sys.stderr)
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
    """Stores a finished run's results, all at once; raises OSError."""
    store.add(job.archive, f"{job.run.map}/{job.run.name}", job.out)


def remove(figure: str, scale: str, options: dict[str, str]) -> None:
    """Takes the chosen runs out of the stored ones and of runs/, and says which.

    Raises:
        ConfigError: bad words.
        OSError: the archive cannot be written.
    """
    chosen_runs = chosen(figure, scale, options)
    if options:
        raise ConfigError(f"{next(iter(options))}: beside remove=true there are scale, maps and runs")
    with store.opened(RESULTS, figure, scale) as stored:
        there = [run for run in chosen_runs if store.done(stored / run.map / run.name)]
    if there:
        store.remove(store.archive(RESULTS, figure, scale), [f"{run.map}/{run.name}" for run in there])
    for run in chosen_runs:
        out = out_of(figure, scale, run)
        if run in there or out.exists():
            print(f"removed: {run.map} {run.name}")
        shutil.rmtree(out, ignore_errors=True)


def command(words: list[str]) -> int:
    """Trains what the words ask for; the exit status. Raises ConfigError, OSError."""
    figure, options = asked(words)
    scale = options.pop("scale", "small")
    one_of("scale", scale, list(SCALES))
    if "remove" in options:
        one_of("remove", options.pop("remove"), ["true"])
        remove(figure, scale, options)
        return 0
    jobs = plan(figure, scale, dict(options))
    prepare([job for job in jobs if job.words])
    worst, began = 0, time.monotonic()
    for i, job in enumerate(jobs):
        if i and job.words:  # another process may have been there since the plan was made
            (job,) = plan(figure, scale, {**options, "maps": job.run.map, "runs": job.run.name})
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
    help_text = (__doc__ or "").replace("FIGURES", ", ".join(FIGURES)).strip()
    return commands.call(command, words, lambda: help_text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
