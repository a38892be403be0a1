"""docs/cluster.md's job under a scheduler that signals it, kills it after a grace, and hears its wishes."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import documents
import pytest
import stub
from test_log import SMALL

from seca_jax import runs
from seca_jax.config import compose

pytestmark = pytest.mark.slow

WORDS = [*SMALL, "log.interval=100_000", "eval.interval=1_000_000", "checkpoint.interval=200_000"]
WORDS += ["total_steps=4_000_000", "wandb.mode=disabled"]


@pytest.fixture
def cluster(tmp_path):
    """The job's script, and an environment in which python trains small and scontrol leaves a mark."""
    (block,) = (b for b in documents.blocks(documents.ROOT / "docs" / "cluster.md") if b.file == "job.sh")
    (tmp_path / "job.sh").write_text(block.text)
    tools = tmp_path / "tools"
    tools.mkdir()
    called = {
        "python": f'words=("${{@:3}}"); [[ $3 == resume=* ]] || words+=({" ".join(WORDS)})\n'
        f'exec {sys.executable} {stub.__file__} "${{words[@]}}"',
        "scontrol": f'echo "$@" >> {tmp_path / "requeued"}',
        # In a session of its own, so that all of it can be killed
        "sbatch": f'cd {tmp_path}; rm -f status\nsetsid bash -c \'bash "$0" & echo $! > pid; wait $!; '
        'echo $? > status\' "${@: -1}" >> log 2>&1 &\n',
    }
    for name, line in called.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (tools / name).chmod(0o755)
    run = {"MAP": "3m", "ALGO": "seca", "RUN": str(tmp_path / "run")}
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    return tmp_path, {**os.environ, **run, "PATH": path, "SLURM_JOB_ID": "7"}


def once(cluster, limit_s, grace_s):
    """One go of the job: SIGTERM to its shell after ``limit_s``, SIGKILL to all of it ``grace_s`` later.

    Returns:
        its exit status, and whether it has asked to be requeued.
    """
    place, environment = cluster
    requeued, pid, status = (place / name for name in ("requeued", "pid", "status"))
    requeued.unlink(missing_ok=True)
    pid.unlink(missing_ok=True)
    subprocess.run(["sbatch", "--export=ALL", str(place / "job.sh")], env=environment, check=True)

    def ends(within_s):
        end = time.monotonic() + within_s
        while not status.exists() and time.monotonic() < end:
            time.sleep(0.02)
        return status.exists()

    if not ends(limit_s):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGTERM)
        ends(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(os.getpgid(int(pid.read_text())), signal.SIGKILL)
    time.sleep(0.1)
    asked = requeued.exists() and requeued.read_text() == "requeue 7\n"
    return int(status.read_text()) if status.exists() else -signal.SIGKILL, asked


@pytest.mark.parametrize("grace_s", [60.0, 0.3], ids=["time to save", "no time to save"])
def test_a_job_that_is_preempted_again_and_again_comes_to_the_same_end(cluster, metrics, grace_s):
    place, environment = cluster
    run, whole = place / "run", place / "whole"
    subprocess.run([sys.executable, stub.__file__, *WORDS, f"out={whole}"], check=True, capture_output=True)
    ends = []
    for limit_s in (2.0, 3.0, 5.0, 8.0, 600.0):
        status, asked = once(cluster, limit_s, grace_s)
        told = (ends, status, (place / "log").read_text())
        assert status in (0, 130, 143, -signal.SIGKILL, -signal.SIGTERM), told
        # Without its asking, the scheduler requeues what it has killed
        # 143 is the shell's own end, too, where the signal came before it was ready for it
        assert status == 143 or asked == (status == 130), told
        ends.append(status)
        if status == 0:
            break
    assert ends[-1] == 0 and len(ends) > 1, ends
    assert metrics(run, timing=False) == metrics(whole, timing=False)
    assert runs.checkpoint_steps(run) == runs.checkpoint_steps(whole)


SUBMIT = """
import psutil, signal, sys, time
import stub, submitit
from cluster import Training
from seca_jax import runs

class Small(Training):
    def __call__(self):
        from seca_jax import algos, envs
        envs.make, algos.make = stub.make_env, stub.make_algorithm
        return super().__call__()

executor = submitit.AutoExecutor("log", cluster="local")
executor.update_parameters(timeout_min=60)
words = dict(word.split("=") for word in sys.argv[1:])
job = executor.submit(Small("run", **words))
for line in (10, 100):
    while len(runs.read_metrics("run")) < line and not job.done():
        time.sleep(0.02)
    for task in psutil.Process(job._process.pid).children():
        task.send_signal(signal.SIGUSR2)
        task.wait()
print(job.result())
"""


def test_a_preempted_job_of_submitit_goes_on(tmp_path, metrics):
    pytest.importorskip("submitit")
    (block,) = (b for b in documents.blocks(documents.ROOT / "docs" / "cluster.md") if b.file == "cluster.py")
    (tmp_path / "cluster.py").write_text(block.text)
    words = [*SMALL, "log.interval=20_000", "eval.interval=1_000_000", "checkpoint.interval=200_000"]
    words += ["total_steps=8_000_000", "wandb.mode=disabled"]
    whole, here = tmp_path / "whole", os.path.dirname(stub.__file__)
    subprocess.run([sys.executable, stub.__file__, *words, f"out={whole}"], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", SUBMIT, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), here, os.environ["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert len(compose.load(tmp_path / "run")[1]["resumed"]) == 2
    assert metrics(tmp_path / "run", timing=False) == metrics(whole, timing=False)
