"""A run's directory: what is read from it, what is written into it, who may write there."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from seca_jax import runs
from seca_jax.config.check import ConfigError


def line(step, seed=0, **numbers):
    return {"step": step, "seed": seed, "wall_s": step / 10, **numbers}


def stored(lines):
    return "".join(json.dumps(each) + "\n" for each in lines).encode()


@pytest.mark.parametrize(
    ("content", "kept", "told"),
    [
        (b"", [], None),
        (stored([line(0), line(1)]), [0, 1], None),
        (stored([line(0)]) + b'{"step": 1, "se', [0], None),  # a crash cut it
        (stored([line(0)]) + b'{"step": 1, "se\n' + stored([line(2)]), [0, 2], "line 2 is left out"),
        (
            stored([line(0)]) + b"\x00\xff{}\n[1]\n3\n" + stored([line(2)]),
            [0, 2],
            "lines 2, 3, 4 are left out",
        ),
        (b'{"step": 1}\n', [], "line 1 is left out"),
        (b"\xff\xfe", [], "line 1 is left out"),
        (b"x\n" * 8, [], "lines 1, 2, 3, 4, 5 and 3 more are left out"),
    ],
)
def test_damaged_lines_are_left_out_and_named_once(tmp_path, content, kept, told):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    reports = []
    assert [each["step"] for each in runs.read_metrics(tmp_path, reports.append)] == kept
    assert reports == ([] if told is None else [f"{tmp_path / 'metrics.jsonl'} is damaged: {told}"])


def test_a_run_without_metrics_has_none(tmp_path):
    assert runs.read_metrics(tmp_path, pytest.fail) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    runs.write_atomically(path, "old")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        runs.write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_directory_has_one_owner_at_a_time(tmp_path):
    run = tmp_path / "run"
    with runs.locked(run, "out"):
        for word in ("out", "resume"):
            with pytest.raises(ConfigError) as refused, runs.locked(run, word):
                pass
            expected = f"{word}={run}: process {os.getpid()} on {os.uname().nodename} is training there; "
            assert str(refused.value) == expected + "wait for its end or stop it"
        runs.check_vacant(run)  # its own lock does not make a directory a run's
        (run / "config.yaml").touch()
    with runs.locked(run, "resume"):
        assert (run / runs.LOCK).exists()
    assert [path.name for path in run.iterdir()] == ["config.yaml"]


def test_what_has_stayed_empty_is_removed_again(tmp_path):
    with pytest.raises(KeyError), runs.locked(tmp_path / "a" / "b" / "run", "out"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    refused = pytest.raises(ConfigError, match=r"out=.*/file/run: cannot be created \(Not a directory\)")
    with refused, runs.locked(tmp_path / "file" / "run", "out"):
        pass


HOLDER = """
    import sys, time
    from seca_jax import runs

    with runs.locked(sys.argv[1], "out"):
        open(sys.argv[1] + "/config.yaml", "w").close()
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_killed_owner_leaves_a_directory_that_is_free(tmp_path):
    run = tmp_path / "run"
    words = [sys.executable, "-c", textwrap.dedent(HOLDER), str(run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = pytest.raises(ConfigError, match=f"process {holder.pid} on .* is training there")
        with refused, runs.locked(run, "out"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (run / runs.LOCK).exists()
    with runs.locked(run, "resume"):
        pass
    assert not (run / runs.LOCK).exists()


TURNS = """
    import random, sys, time
    from seca_jax import runs
    from seca_jax.config.check import ConfigError

    entered = 0
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            with runs.locked(sys.argv[1], "out"):
                with open(sys.argv[2], "a") as log:
                    log.write("+")
                    log.flush()
                    time.sleep(random.random() * 0.002)
                    log.write("-")
                entered += 1
        except ConfigError:
            pass
    print(entered)
"""


def test_nobody_shares_a_directory_however_often_it_comes_and_goes(tmp_path):
    """Processes make, lock, leave and remove the same directory as fast as they can."""
    words = [sys.executable, "-c", textwrap.dedent(TURNS), str(tmp_path / "run"), str(tmp_path / "log")]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    entered = [int(process.communicate(timeout=60)[0]) for process in processes]
    log = (tmp_path / "log").read_text()
    assert sum(entered) == len(log) // 2 > 10
    assert log == "+-" * (len(log) // 2)


def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("No locks available")

    monkeypatch.setattr(runs.fcntl, "flock", none)
    with runs.locked(tmp_path / "run", "out"):
        assert (tmp_path / "run").is_dir()
