"""Trains what a figure compares, skipping what is done and resuming what was interrupted.

    python experiments/run.py figure2
    python experiments/run.py figure5 scale=tiny maps=2s3z,3s_vs_5z runs=seca,coma wandb.mode=disabled

scale=tiny|small|full|paper chooses the budget of figures 4 and 5 (small unless given), maps= and runs= some
of the figure's maps and learners. Further key=value words go to every training run; python -m
seca_jax.train --help lists them. A finished run's configuration, metrics, command and curves are copied to
experiments/results/<figure>/<scale>/<map>/<run>/, which experiments/draw.py draws; what is not finished
lies in runs/. Figures: FIGURES.

Exit status: 0 done, 2 bad input, 130 interrupted after saving (the same command goes on), else that of a
run that failed; a failed run does not cost the others.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from figures import FIGURES, SCALES, Run, each_once, settings

from seca_jax import compose
from seca_jax.config import get
from seca_jax.config_check import ConfigError, check, one_of

RESULTS = Path(__file__).parent / "results"
KEPT = ("config.yaml", "metrics.jsonl", "curves.png")
CHECKPOINTS = "checkpoints"  # in a run's directory
OWN_WORDS = ("map", "algo", "out", "name", "resume")  # the figure's affair


class Job(NamedTuple):
    """A run of a figure, and what is to be done about it."""

    run: Run
    place: Path  # where its results are kept
    out: Path  # where it trains
    words: list[str]  # of the training command; none: it is done


def chosen(figure: str, scale: str, options: dict[str, str]) -> list[Run]:
    """The figure's runs that maps= and runs= ask for; takes both out of ``options``; raises ConfigError."""
    runs = list(each_once(FIGURES[figure]).values())
    if all(settings(run, scale) == settings(run, "small") for run in runs) and scale != "small":
        raise ConfigError(f"scale={scale}: {figure} has budgets of its own; leave scale= out")
    for word, of in (("maps", lambda run: run.map), ("runs", lambda run: run.name)):
        if word in options:
            wanted, there = options.pop(word).split(","), list(dict.fromkeys(map(of, runs)))
            for name in wanted:
                one_of(word, name, there)
            runs = [run for run in runs if of(run) in wanted]
    if not runs:
        raise ConfigError(f"{figure} has no such run on such a map")
    return runs


def plan(figure: str, scale: str, options: dict[str, str]) -> list[Job]:
    """What is to be trained, every command checked before the first of them trains; raises ConfigError."""
    runs = chosen(figure, scale, options)
    varied = {word.partition("=")[0] for run in runs for word in run.words} - {"total_steps"}
    for name in options:
        if name in OWN_WORDS or name in varied:
            raise ConfigError(f"{name}={options[name]}: {figure} sets {name} itself, from run to run")
    extra = [f"{name}={value}" for name, value in options.items()]
    asked = compose.parse(extra)
    jobs = []
    for run in runs:
        part = Path(figure) / scale / run.map / run.name
        place, out = RESULTS / part, Path("runs") / part
        if all((place / name).exists() for name in KEPT[:2]):
            words = []
            check_stored(place, asked)
        elif (out / CHECKPOINTS).is_dir():
            words = [f"resume={out}", *extra]
            compose.resumed(compose.parse(words))
        else:
            words = [f"map={run.map}", *run.words, *settings(run, scale), *extra, f"out={out}"]
            check(compose.compose(compose.parse(words)))
        jobs.append(Job(run, place, out, words))
    return jobs


def check_stored(place: Path, asked: dict[str, Any]) -> None:
    """Raises ConfigError if the words ask for another run than the one that is stored."""
    stored, _ = compose.load(place)
    for name, value in asked.items():
        own = get(stored, name)
        if name not in compose.FREE_ON_RESUME and own != value:
            raise ConfigError(
                f"{name}={value}: {place} was trained with {name}={own}; leave the word out, or remove that "
                "directory to train the run anew"
            )


def train(job: Job) -> int:
    """Trains or continues one run and keeps its results; its exit status."""
    if not (job.out / CHECKPOINTS).is_dir():
        shutil.rmtree(job.out, ignore_errors=True)  # died before its first checkpoint
    status = subprocess.call([sys.executable, "-m", "seca_jax.train", *job.words])
    if status == 0:
        job.place.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copy(job.out / name, job.place / name)
    return status


def main(words: list[str]) -> int:
    """The command line; its exit status is in --help."""
    if {"--help", "-h"} & set(words):
        print(__doc__.replace("FIGURES", ", ".join(FIGURES)).strip())
        return 0
    options = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word]
    try:
        if not names:
            raise ConfigError(f"which figure? one of {', '.join(FIGURES)}; --help tells more")
        one_of("figure", names[0], list(FIGURES))
        if names[1:]:
            raise ConfigError(f"{names[1]}: expected key=value; one figure at a time")
        scale = options.pop("scale", "small")
        one_of("scale", scale, list(SCALES))
        jobs = plan(names[0], scale, options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    worst, began = 0, time.monotonic()
    for i, job in enumerate(jobs):
        minutes = (time.monotonic() - began) / 60
        state = "training" if job.words else "done"
        print(f"[{i + 1}/{len(jobs)}, {minutes:.0f} min] {job.run.map} {job.run.name}: {state}", flush=True)
        if job.words:
            status = train(job)
            worst = max(worst, status)
            if status == 130:
                break
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
