"""Trains what a figure compares, skipping what is done and resuming what was interrupted.

    python experiments/run.py figure2
    python experiments/run.py figure5 scale=small maps=2s3z,3s_vs_5z seeds=5

Further key=value words go to every training run. A finished run's configuration, metrics and command
are copied to experiments/results/<figure>/<scale>/<map>/<run>/, which experiments/draw.py draws.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from figures import FIGURES, SCALES, Run, each_once, settings

from seca_jax import compose
from seca_jax.config_check import ConfigError

RESULTS = Path(__file__).parent / "results"
KEPT = ("config.yaml", "metrics.jsonl", "curves.png")


def finished(path: Path) -> bool:
    return (path / "metrics.jsonl").exists() and (path / "config.yaml").exists()


def train(run: Run, figure: str, scale: str, extra: list[str]) -> int:
    """Trains or continues one run; its exit status."""
    out = Path("runs") / figure / scale / run.map / run.name
    if (out / "checkpoints").is_dir():
        words = [f"resume={out}"]
    else:
        shutil.rmtree(out, ignore_errors=True)  # died before its first checkpoint
        words = [f"map={run.map}", *run.words, *settings(run, scale), *extra, f"out={out}"]
    status = subprocess.call([sys.executable, "-m", "seca_jax.train", *words])
    if status == 0:
        place = RESULTS / figure / scale / run.map / run.name
        place.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copy(out / name, place / name)
    return status


def main(words: list[str]) -> int:
    """The command line; exit status 2 for bad input, else the worst of the runs'."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word]
    scale, maps = options.pop("scale", "small"), options.pop("maps", "")
    if len(names) != 1 or names[0] not in FIGURES or scale not in SCALES:
        if scale not in SCALES:
            print(f"error: scale={scale}: no such scale")
        elif len(names) == 1:
            print(f"error: {names[0]}: no such figure")
        print(f"usage: run.py {'|'.join(FIGURES)} [scale={'|'.join(SCALES)}] [maps=a,b] [key=value ...]")
        return 2
    figure = names[0]
    every = each_once(FIGURES[figure]).values()
    wanted = {run.map for run in every}
    if unknown := set(filter(None, maps.split(","))) - wanted:
        print(f"error: maps={','.join(sorted(unknown))}: {figure} has {', '.join(sorted(wanted))}")
        return 2
    chosen = set(maps.split(",")) if maps else wanted
    runs = [run for run in every if run.map in chosen]
    extra = [f"{key}={value}" for key, value in options.items()]
    try:
        compose.parse(extra)  # a word that every run would refuse
    except ConfigError as error:
        print(f"error: {error}")
        return 2
    worst, began = 0, time.monotonic()
    for i, run in enumerate(runs):
        done = finished(RESULTS / figure / scale / run.map / run.name)
        minutes = (time.monotonic() - began) / 60
        state = "done" if done else "training"
        print(f"[{i + 1}/{len(runs)}, {minutes:.0f} min] {run.map} {run.name}: {state}", flush=True)
        if not done:
            status = train(run, figure, scale, extra)
            worst = max(worst, status)
            if status == 130:
                break
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
