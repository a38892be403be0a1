"""Kill training again and again, continue it, and compare with a run that nobody disturbed.

    python experiments/durability.py --kills 200 --out experiments/results/durability

trains a small run once from beginning to end. Then it trains the same run with SIGKILL at random moments
(while the process starts, while it trains, while it writes a checkpoint), continues it as a user would, kills
it again, until it is done, and begins anew until there have been enough kills. Every finished run must have
the lines of the undisturbed one's metrics.jsonl (apart from what a clock says), its last checkpoint bit for
bit, and no other files. Writes OUT.json and OUT.md after every run, and goes on from there when it is called
again; ends with status 1 where one differs.

Processes are forked from one that has imported the packages and done nothing else, which saves seconds.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
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

INTERVAL, LINE = 20_000, 2_000  # steps between checkpoints, and between lines
WORDS = (
    "map=matrix seeds=2 num_envs=4 window=8 actor.hidden=8 critic.mixing=8 critic.hypernet_hidden=8 "
    "actor.epochs=1 actor.minibatches=1 critic.minibatches=1 eval.episodes=2 eval.interval=200_000 "
    f"total_steps=200_000 log.interval={LINE} checkpoint.interval={INTERVAL} "
    "wandb.mode=disabled log.progress=false"
).split()
CLOCKS = ("wall_s", "perf/steps_per_s")  # numbers that differ from run to run
MOMENTS = {"starting": 0.2, "training": 0.4, "saving": 0.4}  # shares of the kills
LONGEST_S = 1800  # a process that takes longer hangs


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["seca_jax.runtime.session", "seca_jax.train", "orbax.checkpoint"])


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


def train(words: Sequence[str], log: Path) -> None:
    """``python -m seca_jax.train``, in a process of its own whose output goes into a file."""
    from seca_jax import door
    from seca_jax.train import main as command

    with open(log, "wb") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    door.quietly()
    sys.exit(command(list(words)))


def started(run: Path) -> Any:
    """A process that begins a run, or continues what is there."""
    words = [f"resume={run}"] if (run / runs.CONFIG).exists() else [*WORDS, f"out={run}"]
    process = FORKS.Process(target=train, args=(words, run.with_suffix(".log")))
    process.start()
    return process


def finish(run: Path) -> None:
    """Begins a run or continues it, until it is done; raises RuntimeError."""
    process = started(run)
    wait(process, lambda: False)
    if process.exitcode:
        raise RuntimeError(f"status {process.exitcode}: {run.with_suffix('.log').read_text()[-2000:]}")


def disturb(run: Path, moment: str, starting_s: float, draw: random.Random) -> Kill | None:
    """Starts or continues a run and kills it at a random moment; None: it was done before.

    Raises:
        RuntimeError: it has ended with an error.
    """
    begun, lines = time.monotonic(), run / runs.METRICS
    earlier, older = changed(lines), drafts(run)
    start = max(runs.checkpoint_steps(run), default=0)
    process = started(run)
    try:
        if moment == "starting":
            time.sleep(draw.uniform(0.0, starting_s))
        else:
            # The first change is the trimming of what came after the checkpoint
            wait(process, lambda: changed(lines) != earlier and last_line(run) > start)
            time.sleep(draw.uniform(0.0, 2.0))
            if moment == "saving":
                wait(process, lambda: drafts(run) - older)
                time.sleep(draw.uniform(0.0, 0.05))
    finally:
        process.kill()
        process.join()
    if process.exitcode == 0:
        return None
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"status {process.exitcode}: {run.with_suffix('.log').read_text()[-2000:]}")
    kept = max(runs.checkpoint_steps(run), default=-1)
    reached = last_line(run) if changed(lines) != earlier else max(kept, 0)
    return Kill(moment, round(time.monotonic() - begun, 2), reached, kept, bool(drafts(run) - older))


def wait(process: Any, happened: Callable[[], Any]) -> None:
    """Until it has happened or the process has ended; raises RuntimeError where that takes too long."""
    end = time.monotonic() + LONGEST_S
    while process.is_alive() and not happened():
        if time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"nothing happened for {LONGEST_S} s")
        time.sleep(0.005)


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
        f"written; more than an interval and the line that it ends at: "
        f"{over} of {len(kills)} kills. Runs finished in between: {finished}; equal to the undisturbed one "
        f"in all lines, all files and every bit of the last checkpoint: {finished - len(wrong)}.\n"
        + "".join(f"\n* {line}" for line in wrong)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/durability"))
    arguments = parser.parse_args()
    kills: list[Kill] = []
    finished, wrong = 0, []
    told = {
        "command": f"python experiments/durability.py --kills {arguments.kills} --seed {arguments.seed}",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "processor": provenance.processor(),
        "words": WORDS,
    }
    if (path := arguments.out.with_suffix(".json")).exists():
        stored = json.loads(path.read_text())
        if other := [name for name in ("versions", "words") if stored[name] != told[name]]:
            raise SystemExit(f"error: {path} is of other {other[0]}; give another --out")
        told["commit"] = ", ".join(dict.fromkeys([*stored["commit"].split(", "), told["commit"]]))
        kills, finished, wrong = (
            [Kill(*kill) for kill in stored["kills"]],
            stored["finished"],
            stored["wrong"],
        )
    draw = random.Random(f"{arguments.seed} {len(kills)}")
    with tempfile.TemporaryDirectory(prefix="durability-") as there:
        whole, run = Path(there) / "whole", Path(there) / "run"
        begun = starting_s = 0.0
        for _ in range(2):  # the first time it compiles, which the later ones need not
            shutil.rmtree(whole, ignore_errors=True)
            begun = time.monotonic()
            process = started(whole)
            wait(process, lambda: last_line(whole) > 0)
            starting_s = time.monotonic() - begun
            process.join()
        print(
            f"undisturbed: {time.monotonic() - begun:.0f} s, {starting_s:.0f} s of them to start", flush=True
        )
        while len(kills) < arguments.kills or run.exists():
            if len(kills) < arguments.kills:
                moment = draw.choices(list(MOMENTS), list(MOMENTS.values()))[0]
                if (kill := disturb(run, moment, starting_s, draw)) is not None:
                    kills.append(kill)
                    print(len(kills), *kill, flush=True)
                    continue
            else:
                finish(run)
            finished += 1
            if different := differences(run, whole):
                wrong.append(f"run {finished} differs in {', '.join(different)}")
                print(wrong[-1], flush=True)
            shutil.rmtree(run)
            store(arguments.out, kills, finished, wrong, told)
    print(arguments.out.with_suffix(".md").read_text())
    return 1 if wrong else 0


def store(
    out: Path, kills: Sequence[Kill], finished: int, wrong: Sequence[str], told: dict[str, Any]
) -> None:
    """Writes OUT.json and OUT.md."""
    path = out.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {**told, "finished": finished, "wrong": wrong, "columns": Kill._fields}
    rows = ",\n".join(f"  {json.dumps(kill)}" for kill in kills)
    path.write_text(json.dumps(stored, indent=1)[:-2] + f',\n "kills": [\n{rows}\n ]\n}}\n')
    path.with_suffix(".md").write_text(report(kills, finished, wrong, told))


if __name__ == "__main__":
    sys.exit(main())
