"""A crowd of starts in one directory, and kills at any moment: nothing is lost, nothing is mixed up."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import stub

from seca_jax import runs
from seca_jax.config import compose

pytestmark = pytest.mark.slow

WORDS = ["map=3m", "seeds=2", "num_envs=4", "window=5", "eval.episodes=6", "wandb.mode=disabled"]
STUB = [sys.executable, stub.__file__]
REAL = [sys.executable, "-m", "seca_jax.train"]
STARTS = 20
KILLS = int(os.environ.get("SECA_JAX_KILLS", "50"))


def crowd(words):
    """Exit statuses, standard outputs and errors of the same command, started many times at once."""
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) for _ in range(STARTS)]
    said = [process.communicate(timeout=600) for process in processes]
    return [(process.returncode, *each) for process, each in zip(processes, said, strict=True)]


@pytest.mark.parametrize("word", ["out", "resume"])
def test_of_many_starts_in_one_directory_one_trains(tmp_path, metrics, word):
    run, whole = tmp_path / "run", tmp_path / "whole"
    # Long enough for all to come while the first is at it
    words = [*WORDS, "total_steps=8_000_000", "log.interval=400_000", "eval.interval=4_000_000"]
    if word == "resume":
        assert subprocess.run([*STUB, *words, f"out={run}"], capture_output=True).returncode == 0
        words = ["total_steps=16_000_000"]
    ends = crowd([*STUB, *words, f"{word}={run}"])
    assert sorted(status for status, _, _ in ends) == [0] + [2] * (STARTS - 1)
    told = {
        f"error: {word}={run}: {who} is training there; wait for its end or stop it\n"
        for who in ("another process", *(f"process {p} on {os.uname().nodename}" for p in pids(ends)))
    }
    late = f"error: out={run}: holds a run already; resume={run} continues it, or give another out=\n"
    for status, out, err in ends:
        assert status == 0 or (out == "" and (err in told or err == late))
    config, _ = compose.load(run)
    assert runs.checkpoint_steps(run)[-1] == config.total_steps
    words = [f"total_steps={config.total_steps}", "log.interval=400_000", "eval.interval=4_000_000"]
    assert subprocess.run([*STUB, *WORDS, *words, f"out={whole}"], capture_output=True).returncode == 0
    assert metrics(run, timing=False) == metrics(whole, timing=False)
    assert not (run / runs.LOCK).exists()


def pids(ends):
    """Who was said to train."""
    return {word for _, _, err in ends for word in err.split() if word.isdigit()}


def killed(words, run, moment):
    """Starts training, kills it at a moment, continues it as a user would, and kills nothing more."""
    with subprocess.Popen([*words, f"out={run}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
    # A process that had no time to begin has left nothing to continue
    begun = (run / runs.CONFIG).exists()
    program = words[: 2 if words[1] == stub.__file__ else 3]
    again = [*program, f"resume={run}"] if begun else [*words, f"out={run}"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (moment, done.stderr)
    return begun


LONG = [*WORDS, "total_steps=24_000_000", "log.interval=200_000", "checkpoint.interval=400_000"]
MATRIX = ["map=matrix", "seeds=2", "total_steps=100_000", "log.interval=8192", "checkpoint.interval=8192"]


@pytest.mark.parametrize(
    ("program", "words", "kills", "longest"),
    [(STUB, LONG, KILLS, 60), (REAL, [*MATRIX, "wandb.mode=disabled"], 4, 60)],
    ids=["stub", "seca"],
)
def test_killed_at_any_moment_a_run_goes_on(tmp_path, metrics, program, words, kills, longest):
    """Within the first minute, or the whole run where that is shorter."""
    whole = tmp_path / "whole"
    clock = time.monotonic()
    done = subprocess.run([*program, *words, f"out={whole}"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    span = min(longest, time.monotonic() - clock)
    expected = metrics(whole, timing=False)
    draw, begun = random.Random(1), 0
    for kill in range(kills):
        run = tmp_path / str(kill)
        begun += killed([*program, *words], run, draw.uniform(0.0, span))
        assert metrics(run, timing=False) == expected
        assert runs.checkpoint_steps(run)[-1] == runs.checkpoint_steps(whole)[-1]
        shutil.rmtree(run)
    assert begun > kills / 4
    print(f"{kills} kills within {span:.0f} s, {begun} of begun runs")
