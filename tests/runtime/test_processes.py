"""Runs of several processes: the numbers of one, and an end for all of them, however it comes."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import stub
import yaml
from test_mesh import SIZES, TRAIN

from seca_jax import runs
from seca_jax.runtime import checkpoint

SMALL = [
    "map=3m", "num_envs=16", "window=5", "eval.episodes=4", "seeds=3", "seed=3", "log.interval=80",
    "eval.interval=160", "checkpoint.interval=160", "checkpoint.best=true", "wandb.mode=disabled",
]  # fmt: skip


def free_port():
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


def start(command, *, processes=2, devices=1, own=()):
    """The processes, which find each other at the end of their words; ``own`` words of each."""
    environment = stub.with_devices(devices)
    port = free_port()
    return [
        subprocess.Popen(
            [
                sys.executable,
                *command,
                f"distributed.coordinator=127.0.0.1:{port}",
                f"distributed.processes={processes}",
                f"distributed.process={i}",
                *(own[i] if own else ()),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]


def ends(started, timeout=240):
    """(exit status, standard output, standard error) of each, without what gloo says of connections."""
    told = []
    try:
        for process in started:
            out, err = process.communicate(timeout=timeout)
            lines = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
            told.append((process.returncode, "\n".join(lines), err))
    finally:
        for process in started:
            process.kill()
    return told


def test_two_processes_leave_the_directory_that_one_leaves(tmp_path, metrics):
    """And go on where one has stopped, and the other way round."""
    one, two = tmp_path / "one", tmp_path / "two"
    words = [stub.__file__, *SMALL]
    alone = subprocess.run(
        [sys.executable, *words, "total_steps=400", f"out={one}"], capture_output=True, text=True, timeout=240
    )
    assert alone.returncode == 0, alone.stderr
    (first, said, error), (second, silence, nothing) = ends(
        start([*words, "total_steps=240", f"out={two}"], devices=2)
    )
    assert (first, second) == (0, 0), error + nothing
    assert "3 seeds, 2 x cpu, mesh=2x1, 2 processes: " in said and silence == ""
    assert yaml.safe_load((two / "config.yaml").read_text())["distributed"]["coordinator"] == ""
    middle = [line for line in metrics(two, timing=False) if line["step"] <= 160]
    assert middle == [line for line in metrics(one, timing=False) if line["step"] <= 160]
    told = ends(start([stub.__file__, f"resume={two}", "total_steps=400"]))
    assert [status for status, *_ in told] == [0, 0], told
    assert runs.checkpoint_steps(one)[-1] == runs.checkpoint_steps(two)[-1] == 400
    left, right = (checkpoint.read(run / "checkpoints" / "400") for run in (one, two))
    assert left.keys() == right.keys() and len(left) > 5
    state = [name for name in left if name.startswith("state.")]
    assert all(np.array_equal(left[name], right[name]) for name in state)


def test_a_signal_to_one_stops_and_saves_all(tmp_path):
    run = tmp_path / "run"
    started = start([stub.__file__, *SMALL, "total_steps=200_000_000", f"out={run}", "log.interval=100_000"])
    try:
        deadline = time.monotonic() + 200
        while runs.checkpoint_steps(run)[-1:] <= [0] and time.monotonic() < deadline:
            time.sleep(0.2)
        started[1].send_signal(signal.SIGTERM)
    finally:
        told = ends(started)
    assert [status for status, *_ in told] == [130, 130], told
    assert f"interrupted; continue with resume={run}" in told[0][1]
    assert runs.checkpoint_steps(run)[-1] > 0


FAILING = """
    import sys
    sys.path.insert(0, {here!r})
    import seca_jax, stub
    from seca_jax import algos, envs
    from seca_jax.config.words import parse

    envs.make, algos.make = stub.make_env, stub.make_algorithm
    me = int(sys.argv[-1].partition("=")[2])

    def callback(step, numbers):
        if me == 1 and step:
            raise ArithmeticError("of this process alone")

    seca_jax.train(parse(sys.argv[1:]), callback=callback)
"""


def test_an_exception_of_one_ends_all(tmp_path):
    code = textwrap.dedent(FAILING.format(here=os.path.dirname(stub.__file__)))
    words = [*SMALL, "total_steps=200_000_000", f"out={tmp_path / 'run'}"]
    begun = time.monotonic()
    (first, _, complaint), (second, _, error) = ends(start(["-c", code, *words]))
    assert second == 1 and "ArithmeticError: of this process alone" in error
    assert error.endswith("error: process 1 of 2 ends, and with it the others\n")
    assert first == 1 and complaint.startswith("error: process 0 of 2 ends, since another one has (")
    assert complaint.count("\n") == 1
    assert time.monotonic() - begun < 200


def test_bad_input_of_one_is_a_line_of_all(tmp_path):
    """Here only the first looks at the directory; and all must have been given the same."""
    full = tmp_path / "full"
    full.mkdir()
    Path(full / "file").write_text("")
    told = ends(start([stub.__file__, *SMALL, "total_steps=400", f"out={full}"]))
    complaint = f"error: out={full}: is not empty; give a new directory\n"
    assert [(status, err) for status, _, err in told] == [(2, complaint)] * 2
    command = [stub.__file__, *SMALL, f"out={tmp_path / 'run'}"]
    told = ends(start(command, own=[["total_steps=400"], ["total_steps=800"]]))
    complaint = (
        "the processes of a distributed run were started with different total_steps; give all of them "
    )
    complaint += "the same"
    assert [(status, err) for status, _, err in told] == [(2, f"error: {complaint}\n")] * 2
    assert not (tmp_path / "run").exists()


def test_nobody_at_the_coordinators_address_is_a_line(tmp_path):
    own = [f"distributed=127.0.0.1:{free_port()}", "distributed.processes=2", "distributed.process=1"]
    words = [stub.__file__, *SMALL, *own, "distributed.timeout=1", f"out={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "the processes did not meet ([Errno 111] Connection refused)" in done.stderr


def test_who_has_not_come_is_named(tmp_path):
    place = f"distributed=127.0.0.1:{free_port()}"
    words = [stub.__file__, *SMALL, place, "distributed.processes=3", "distributed.timeout=4"]
    words = [sys.executable, *words, f"out={tmp_path / 'run'}"]
    there = [
        subprocess.Popen([*words, f"distributed.process={i}"], stderr=subprocess.PIPE, text=True)
        for i in (0, 2)
    ]
    told = [process.communicate(timeout=100)[1] for process in there]
    assert [process.returncode for process in there] == [2, 2]
    assert told[0].endswith("the processes did not meet (process 0 waited in vain for 1 of 3)\n")
    assert [text.count("\n") for text in told] == [1, 1], told


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["distributed.processes=2"],
            "distributed.processes=2: goes with distributed.coordinator=HOST:PORT, the same for all",
        ),
        (
            ["distributed=here"],
            "distributed.coordinator=here: must be HOST:PORT of process 0, or auto",
        ),
        (
            ["distributed=here:1"],
            "distributed.processes is missing: how many there are, the same for all of them",
        ),
        (
            ["distributed=here:1", "distributed.processes=2"],
            "distributed.process is missing: each process has its own number, 0 to 1",
        ),
        (
            ["distributed=here:1", "distributed.processes=2", "distributed.process=2"],
            "distributed.process=2: each process has its own number, 0 to 1",
        ),
        (
            ["--multirun", "seed=0,1", "distributed=auto"],
            "--multirun: processes of distributed.* train one run; give one value a key",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_a_line(refused, words, complaint):
    assert refused("map=3m", *words) == complaint


def agree(tmp_path, game, algo, seeds, mesh):
    """Trains in two processes of four devices each, and in one process on one device."""
    settings = SIZES | {"map": game, "algo": algo, "total_steps": 192, "seeds": seeds}
    code = f"""
        settings = {settings!r}
        out = sys.argv[1]
        words = dict(word.split("=") for word in sys.argv[2:])
        np.savez(out, **numbers(settings | words))
    """
    code = textwrap.dedent(TRAIN) + textwrap.dedent(code)
    alone = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one.npz")], capture_output=True, text=True, timeout=600
    )
    assert alone.returncode == 0, alone.stderr
    told = ends(start(["-c", code, str(tmp_path / "two.npz"), f"mesh={mesh}"], devices=4), timeout=600)
    assert [status for status, *_ in told] == [0, 0], told
    expected, found = (dict(np.load(tmp_path / name)) for name in ("one.npz", "two.npz"))
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        np.testing.assert_allclose(found[name], right, rtol=1e-3, atol=1e-5, err_msg=name)


def test_gradients_are_added_up_over_processes(tmp_path):
    """One seed on eight devices of two processes."""
    agree(tmp_path, "delayed", "seca", 1, "1x8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algo", "seeds", "mesh"), [("seca", 2, "2x4"), ("qmix", 2, "2x4"), ("qmix", 1, "1x8")]
)
def test_two_processes_agree_with_one(tmp_path, algo, seeds, mesh):
    agree(tmp_path, "3m", algo, seeds, mesh)
