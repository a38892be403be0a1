"""Kill training again and again, continue it, and compare with a run that nobody disturbed.

    python experiments/durability.py --kills 200 --out experiments/results/durability

trains a small run once from beginning to end. Then it trains the same run with SIGKILL at random moments
(while the process starts, while it trains, while it writes a checkpoint), continues it as a user would, kills
it again, until it is done, and begins anew until there have been enough kills. Every finished run must have
the lines of the undisturbed one's metrics.jsonl (apart from what a clock says), its last checkpoint bit for
bit, and no other files. Writes OUT.json and OUT.md; ends with status 1 where anything differs.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import summary

from seca_jax import runs
from seca_jax.runtime import checkpoint, provenance

INTERVAL, LINE = 40_000, 4_000  # steps between checkpoints, and between lines
WORDS = (
    "map=matrix seeds=2 num_envs=4 window=8 actor.hidden=8 critic.mixing=8 critic.hypernet_hidden=8 "
    "actor.epochs=1 actor.minibatches=1 critic.minibatches=1 eval.episodes=2 eval.interval=80_000 "
    f"total_steps=400_000 log.interval={LINE} checkpoint.interval={INTERVAL} "
    "wandb.mode=disabled log.progress=false"
).split()
PROGRAM = [sys.executable, "-m", "seca_jax.train"]
CLOCKS = ("wall_s", "perf/steps_per_s")  # numbers that differ from run to run
MOMENTS = {"starting": 0.2, "training": 0.4, "saving": 0.4}  # shares of the kills
LONGEST_S = 600  # a process that takes longer hangs


class Kill(NamedTuple):
    """What a kill has cost."""

    moment: str  # starting, training or saving
    after_s: float  # seconds that the process had lived
    reached: int  # step of the last line, or of the checkpoint that the process began with
    kept: int  # step of the newest complete checkpoint then; -1: none
    draft: bool  # whether it was killed with an unfinished checkpoint on the disk


def rows(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the clocks' numbers; raises ValueError at a damaged one."""
    lines = map(json.loads, (run / runs.METRICS).read_text().splitlines())
    return [{name: x for name, x in line.items() if name not in CLOCKS} for line in lines]


def leaves(run: Path) -> dict[str, np.ndarray]:
    """The numbers of a run's last checkpoint, but for what it remembers of metrics.jsonl and its clocks."""
    steps = runs.checkpoint_steps(run)
    found = checkpoint.read(run / runs.CHECKPOINTS / str(steps[-1]))
    return {name: x for name, x in found.items() if name != checkpoint.LINES}


def files(run: Path) -> list[str]:
    """What lies in a run's directory, and which checkpoints."""
    return sorted(str(path.relative_to(run)) for place in ("*", "checkpoints/*") for path in run.glob(place))


def differences(run: Path, whole: Path) -> list[str]:
    """In what a finished run differs from the undisturbed one; empty: in nothing."""
    found = []
    if rows(run) != rows(whole):
        found.append("metrics.jsonl")
    ours, theirs = leaves(run), leaves(whole)
    found += [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours or name not in theirs or ours[name].tobytes() != theirs[name].tobytes()
    ]
    if files(run) != files(whole):
        found.append(f"files {files(run)}")
    return found


def drafts(run: Path) -> set[Path]:
    """Checkpoints that are being written, or were when a process was killed."""
    return set((run / runs.CHECKPOINTS).glob("*.orbax-checkpoint-tmp*"))


def changed(path: Path) -> int:
    """When a file was changed last, in ns; 0: there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def last_line(run: Path) -> int:
    """The step of the last complete line; 0: there is none."""
    return max((line["step"] for line in runs.read_metrics(run)), default=0)


def words_of(run: Path) -> list[str]:
    """The command that begins a run, or continues what is there."""
    begun = (run / runs.CONFIG).exists()
    return [*PROGRAM, *([f"resume={run}"] if begun else [*WORDS, f"out={run}"])]


def disturbed(run: Path, moment: str, starting_s: float, draw: random.Random) -> Kill | None:
    """Starts or continues a run and kills it at a random moment; None: it was done before.

    Raises:
        RuntimeError: it has ended with an error.
    """
    begun = time.monotonic()
    lines = run / runs.METRICS
    earlier = changed(lines)
    older = drafts(run)
    log = run.with_suffix(".log")
    with open(log, "w") as file:
        process = subprocess.Popen(words_of(run), stdout=file, stderr=file)
    try:
        if moment == "starting":
            time.sleep(draw.uniform(0.0, starting_s))
        else:
            start = max(runs.checkpoint_steps(run), default=0)
            # The first change is the trimming of what came after the checkpoint
            wait(process, lambda: changed(lines) != earlier and last_line(run) > start)
            time.sleep(draw.uniform(0.0, 3.0))
            if moment == "saving":
                wait(process, lambda: drafts(run) - older)
                time.sleep(draw.uniform(0.0, 0.05))
        over = process.poll()
        process.kill()
    finally:
        process.kill()
        process.wait()
    if over is None:
        kept = max(runs.checkpoint_steps(run), default=-1)
        lived = round(time.monotonic() - begun, 2)
        reached = last_line(run) if changed(lines) != earlier else max(kept, 0)
        return Kill(moment, lived, reached, kept, bool(drafts(run) - older))
    if over != 0:
        raise RuntimeError(f"status {over}: {log.read_text()[-2000:]}")
    return None


def wait(process: subprocess.Popen, happened: Callable[[], Any]) -> None:
    """Until it has happened or the process has ended; raises RuntimeError where that takes too long."""
    end = time.monotonic() + LONGEST_S
    while process.poll() is None and not happened():
        if time.monotonic() > end:
            raise RuntimeError(f"nothing happened for {LONGEST_S} s")
        time.sleep(0.002)


def report(kills: Sequence[Kill], finished: int, wrong: Sequence[str], told: dict[str, Any]) -> str:
    """OUT.md."""
    table = [["killed while", "kills", "with a half-written checkpoint", "steps lost: median", "most"]]
    for moment in (*MOMENTS, "all"):
        own = [kill for kill in kills if moment in (kill.moment, "all")]
        lost = [kill.reached - max(kill.kept, 0) for kill in own]
        if own:
            shown = (f"{statistics.median(lost):,.0f}", f"{max(lost):,}")
            table.append([moment, str(len(own)), str(sum(kill.draft for kill in own)), *shown])
    over = sum(kill.reached - max(kill.kept, 0) > INTERVAL + LINE for kill in kills)
    return (
        f"`{told['command']}`, commit {told['commit']}, {told['processor']}, "
        f"jax {told['versions']['jax']}. A checkpoint every {INTERVAL:,} steps, a line every {LINE:,}.\n\n"
        f"{summary.markdown(table)}\n\n"
        f"Steps lost: from the newest complete checkpoint to the last line that the killed process had "
        f"written. More than an interval and a line: {over} of {len(kills)} kills. Runs finished in "
        f"between: {finished}; equal to the undisturbed one in all lines, all files and every bit of the "
        f"last checkpoint: {finished - len(wrong)}.\n" + "".join(f"\n* {line}" for line in wrong)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/durability"))
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    kills: list[Kill] = []
    finished, wrong = 0, []
    told = {
        "command": f"python experiments/durability.py --kills {arguments.kills} --seed {arguments.seed}",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "processor": provenance.processor(),
        "words": WORDS,
    }
    with tempfile.TemporaryDirectory(prefix="durability-") as there:
        place = Path(there)
        whole = place / "whole"
        for _ in range(2):  # the first time it compiles, which the later ones need not
            shutil.rmtree(whole, ignore_errors=True)
            begun = time.monotonic()
            with subprocess.Popen(words_of(whole), stdout=subprocess.DEVNULL) as process:
                wait(process, lambda: last_line(whole) > 0)
                starting_s = time.monotonic() - begun
            if process.returncode:
                return process.returncode
        print(
            f"undisturbed: {time.monotonic() - begun:.0f} s, of these {starting_s:.0f} s to start", flush=True
        )
        run = place / "run"
        while len(kills) < arguments.kills or run.exists():
            moment = draw.choices(list(MOMENTS), list(MOMENTS.values()))[0]
            if len(kills) >= arguments.kills:  # the last run is brought to its end
                done = subprocess.run(words_of(run), capture_output=True, text=True, timeout=LONGEST_S)
                kill = None
                if done.returncode:
                    raise RuntimeError(f"status {done.returncode}: {done.stderr}")
            else:
                kill = disturbed(run, moment, starting_s, draw)
            if kill is not None:
                kills.append(kill)
                print(len(kills), *kill, flush=True)
                continue
            finished += 1
            if different := differences(run, whole):
                wrong.append(f"run {finished} differs in {', '.join(different)}")
                print(wrong[-1], flush=True)
            shutil.rmtree(run)
    path = arguments.out.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {**told, "finished": finished, "wrong": wrong, "columns": Kill._fields, "kills": kills}
    head = json.dumps(stored, indent=1).partition('"kills"')[0]
    path.write_text(head + '"kills": [\n  ' + ",\n  ".join(map(json.dumps, kills)) + "\n ]\n}\n")
    path.with_suffix(".md").write_text(report(kills, finished, wrong, told))
    print(path.with_suffix(".md").read_text())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
