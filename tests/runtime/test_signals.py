"""What signals, kills and lost terminals do to a run: it saves, or it goes on from where it had saved."""

import os
import signal
import subprocess
import sys
import time

import pytest
import stub

from seca_jax import runs, train

SMALL = ["map=3m", "seeds=2", "num_envs=4", "window=5", "eval.episodes=6", "wandb.mode=disabled"]
# 20 steps an update: a line every 5 updates, evaluations every 10, checkpoints every 15
EVERY = ["log.interval=100", "eval.interval=200", "checkpoint.interval=300"]


def command(*words):
    return [sys.executable, stub.__file__, *SMALL, *EVERY, *words]


def wait_for(path, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_sigterm_saves_and_a_resumed_run_goes_on(tmp_path, metrics):
    run = tmp_path / "run"
    words = command("total_steps=2_000_000_000", "log.interval=2_000_000", f"out={run}")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(run / "metrics.jsonl", process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"resume={run}" in out
    assert (run / "curves.png").stat().st_size > 10_000
    assert runs.checkpoint_steps(run)


def test_a_signal_before_the_first_update_leaves_a_run_that_goes_on(stubbed, tmp_path, monkeypatch, metrics):
    words = [*SMALL, *EVERY, "total_steps=400"]
    assert train.main([*words, f"out={tmp_path / 'whole'}"]) == 0

    def starting(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("seca_jax.runtime.wandb.Wandb._start", starting)
        words = [word for word in words if word != "wandb.mode=disabled"]
        assert train.main([*words, f"out={tmp_path / 'run'}"]) == 130
    assert runs.checkpoint_steps(tmp_path / "run") == [0]
    assert train.main([f"resume={tmp_path / 'run'}", "wandb.mode=disabled"]) == 0
    assert metrics(tmp_path / "run", timing=False) == metrics(tmp_path / "whole", timing=False)


def test_an_interrupt_before_the_run_has_begun_leaves_nothing(stubbed, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("seca_jax.runtime.session.Program", interrupted)
    assert train.main([*SMALL, f"out={tmp_path / 'run'}"]) == 130
    assert capsys.readouterr().err == "" and not (tmp_path / "run").exists()


def test_second_interrupt_aborts_at_once(tmp_path):
    run = tmp_path / "run"
    words = command("total_steps=2_000_000_000", "log.interval=2_000_000", f"out={run}")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(run / "metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130


def test_kill_in_the_middle_of_a_run_costs_no_more_than_the_work_since_the_last_checkpoint(tmp_path, metrics):
    run = tmp_path / "run"
    words = command("total_steps=4000", f"out={run}")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(run / "checkpoints" / "900", process)
    process.kill()
    process.wait()
    saved = runs.checkpoint_steps(run)
    assert saved and saved[-1] < 4000
    done = subprocess.run(command()[:2] + [f"resume={run}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (
        subprocess.run(command("total_steps=4000", f"out={tmp_path / 'whole'}"), timeout=120).returncode == 0
    )
    assert metrics(run, timing=False) == metrics(tmp_path / "whole", timing=False)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no hang-ups here")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_hang_up_saves_unless_the_parent_ignores_it(tmp_path, ignored):
    run = tmp_path / "run"
    words = command("total_steps=2_000_000_000", "log.interval=2_000_000", f"out={run}")
    process = subprocess.Popen(
        ["nohup", *words] if ignored else words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(run / "metrics.jsonl", process)
    process.send_signal(signal.SIGHUP)
    if ignored:
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopping after the steps under way, then saving" in err
    assert out.endswith(f"interrupted; continue with resume={run}\n")


def test_a_terminal_that_has_gone_costs_no_steps(tmp_path):
    """Progress bar and all: it is closed in the middle of training, which saves and ends."""
    run = tmp_path / "run"
    ours, theirs = os.openpty()
    words = command("total_steps=2_000_000_000", "log.interval=2_000_000", f"out={run}")
    launch = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    launch += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    process = subprocess.Popen(
        [sys.executable, "-c", launch, *words[1:]],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"steps/s" not in shown:
        shown += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(60) == 130
    assert runs.checkpoint_steps(run)[-1] > 0


def test_a_reader_that_has_left_costs_no_steps(tmp_path, metrics):
    """As of ``train | head -1``."""
    run = tmp_path / "run"
    process = subprocess.Popen(
        command("total_steps=4000", f"out={run}"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == ""
    assert metrics(run)[-1]["step"] == 4000
