"""Disks that fill, go away or lie, clocks that jump, kills: a line says so, and what was saved is not lost.

The long form of the kills is experiments/durability.py; kills of starts and crowds are in test_survival.py.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stub
from test_checkpoint import equal
from test_log import SMALL

from seca_jax import runs, train
from seca_jax.config import compose
from seca_jax.runtime import checkpoint, saving, session

EVERY = ["log.interval=100", "eval.interval=400", "checkpoint.interval=200", "total_steps=1200"]
WORDS = [*SMALL, *EVERY, "wandb.mode=disabled"]
EXPERIMENTS = Path(__file__).resolve().parent.parent.parent / "experiments"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody has disturbed."""
    path = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run([sys.executable, stub.__file__, *WORDS, f"out={path}"], check=True, capture_output=True)
    return path


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount")
    full = shutil.disk_usage(place).total
    if full > 2**22:
        subprocess.run(["umount", place])
        pytest.skip("a small disk is not small here")
    yield place
    for _ in range(2):  # and what a test has mounted over it
        subprocess.run(["umount", "--lazy", place], capture_output=True)


@pytest.fixture
def when(monkeypatch):
    """Lets something happen in the middle of training, just before a checkpoint is saved."""

    def happens(step, action):
        save, actions = saving.Saver.save, [action]

        def told(self, now, tree):
            if now == step and actions:
                self.wait()
                actions.pop()()
            return save(self, now, tree)

        monkeypatch.setattr(saving.Saver, "save", told)

    return happens


def same(run, whole, metrics):
    """Whether a run has come to what the undisturbed one has come to."""
    program = session.program_of(compose.load(whole)[0], session.prepare(compose.load(whole)[0])[0])
    ours, theirs = (checkpoint.restore(place, program.abstract) for place in (run, whole))
    assert ours[0] == theirs[0]
    equal(ours[1], theirs[1])
    return metrics(run, timing=False) == metrics(whole, timing=False)


def fill(disk):
    """Leaves no room."""
    with open(disk / "fill", "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(512))
            except OSError:
                return


def lost(run, step, cause):
    kept = run / "checkpoints" / "400"
    return f"warning: checkpoint {step} could not be written ({cause}); kept: {kept}"


def test_a_disk_that_stays_full_ends_in_status_4_and_costs_no_steps(
    stubbed, disk, whole, when, capsys, metrics
):
    run = disk / "run"
    when(600, lambda: fill(disk))
    assert train.main([*WORDS, "log.tensorboard=true", f"out={run}"]) == 4
    said = capsys.readouterr().err.splitlines()
    said = [line for line in said if not line.startswith("warning: TensorBoard stopped (OSError: ")]
    cause = "No space left on device"
    assert said[-1].startswith(f"error: {run / 'metrics.jsonl'} lacks its last ")
    assert [line for line in said if "checkpoint" in line] == [
        lost(run, step, cause) for step in (600, 800, 1000, 1200)
    ]
    assert len(said) == 6, said  # and one of metrics.jsonl
    assert runs.checkpoint_steps(run) == [200, 400]
    assert train.main([f"resume={run}"]) == 2
    assert capsys.readouterr().err == f"error: resume={run}: cannot be written ({cause})\n"
    (disk / "fill").unlink()
    assert train.main([f"resume={run}", "log.tensorboard=false"]) == 0
    assert same(run, whole, metrics)


def test_a_disk_that_was_full_for_a_while_costs_nothing(stubbed, disk, whole, when, capsys, metrics):
    run = disk / "run"
    when(600, lambda: fill(disk))
    when(1000, (disk / "fill").unlink)
    assert train.main([*WORDS, f"out={run}"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "checkpoint" in line]
    assert said == [lost(run, step, "No space left on device") for step in (600, 800)]
    assert same(run, whole, metrics)


def test_a_directory_that_turns_read_only(stubbed, disk, whole, when, capsys, metrics):
    run = disk / "run"

    def turn():
        subprocess.run(["mount", "--bind", disk, disk], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)

    when(600, turn)
    assert train.main([*WORDS, f"out={run}"]) == 4
    said = capsys.readouterr().err.splitlines()
    cause = "Read-only file system"
    assert [line for line in said if "checkpoint" in line] == [
        lost(run, step, cause) for step in (600, 800, 1000, 1200)
    ]
    assert train.main([f"resume={run}"]) == 2
    assert capsys.readouterr().err == f"error: resume={run}: cannot be written ({cause})\n"
    assert train.main([*WORDS, f"out={disk / 'new'}"]) == 2
    assert capsys.readouterr().err == (
        f"error: out={disk / 'new'}: cannot write in {disk}; give a directory you may write to\n"
    )
    subprocess.run(["umount", disk], check=True)
    assert train.main([f"resume={run}"]) == 0
    assert same(run, whole, metrics)


def test_a_directory_that_goes_away_is_not_made_anew(stubbed, tmp_path, whole, when, capsys, metrics):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    when(600, lambda: run.rename(elsewhere))
    assert train.main([*WORDS, f"out={run}"]) == 4
    assert not run.exists()
    assert lost(run, 1200, "No such file or directory") in capsys.readouterr().err
    assert train.main([f"resume={elsewhere}"]) == 0
    assert same(elsewhere, whole, metrics)


def damages(content):
    """What a file may become; None: it is lost."""
    middle = len(content) // 2
    yield from (None, b"", content[:middle], content[:-1])
    for at in sorted({0, middle, len(content) - 1}):
        yield content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def test_whatever_file_of_a_checkpoint_is_damaged_its_numbers_are_right_or_refused(
    stubbed, tmp_path, whole, capfd
):
    run = shutil.copytree(whole, tmp_path / "run")
    config, _ = compose.load(run)
    program = session.program_of(config, session.prepare(config)[0])
    _, right = checkpoint.restore(run, program.abstract)
    _, before = checkpoint.restore(run, program.abstract, step="1000")
    newest = run / "checkpoints" / "1200"
    files = [path for path in sorted(newest.rglob("*")) if path.is_file()]
    kinds = {"_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt", "commit_success.txt"}
    assert kinds < {path.name for path in files}
    refused = 0
    for path in files:
        content = path.read_bytes()
        for damaged in damages(content) if content else [None]:
            path.unlink() if damaged is None else path.write_bytes(damaged)
            said = []
            step, tree = checkpoint.restore(run, program.abstract, said.append)
            equal(tree, right if step == 1200 else before)
            assert len(said) == (step != 1200)
            refused += step != 1200
            path.write_bytes(content)
    assert refused > 10
    assert capfd.readouterr().err == ""


def changed_digit(content):
    at = content.index(b'"test/return": ') + len(b'"test/return": ')
    return content[:at] + b"7" + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [changed_digit, lambda content: content[: len(content) // 2], lambda _: b""],
    ids=["a digit", "half", "all"],
)
def test_metrics_that_no_longer_are_what_a_checkpoint_remembers_are_told_of(
    stubbed, tmp_path, whole, capsys, damage
):
    run = shutil.copytree(whole, tmp_path / "run")
    path = run / "metrics.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):  # it is what it is from then on
        assert train.main([f"resume={run}", "total_steps=1400"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "metrics.jsonl" in line]
    assert said == [
        f"warning: {path} is not what it was when checkpoint 1200 was written: "
        "lines up to there are lost or changed"
    ]


def test_a_clock_that_jumps_changes_nothing(stubbed, tmp_path, whole, when, monkeypatch, metrics):
    real, off = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + off[0])
    run, saved = tmp_path / "run", []
    save = saving.Saver.save
    monkeypatch.setattr(saving.Saver, "save", lambda self, *a: saved.append(a[0]) or save(self, *a))
    when(400, lambda: off.__setitem__(0, 3e7))  # a year ahead
    when(800, lambda: off.__setitem__(0, -3e7))  # and two back
    assert train.main([*WORDS, "checkpoint.minutes=60", "log.tensorboard=true", f"out={run}"]) == 0
    assert saved == list(range(0, 1201, 200))
    clock = [line["wall_s"] for line in metrics(run)]
    assert clock == sorted(clock) and 0 <= clock[-1] < 600
    assert same(run, whole, metrics)


@pytest.mark.slow
@pytest.mark.parametrize("grace", [0.0, 0.05, 0.2, 0.5, 1.0, 3.0])
def test_a_scheduler_that_asks_and_then_kills(tmp_path, metrics, grace):
    """SIGTERM, and SIGKILL after a grace that may be too short."""
    words = [*SMALL, "log.interval=100_000", "checkpoint.interval=400_000", "total_steps=4_000_000"]
    words = [sys.executable, stub.__file__, *words, "eval.interval=2_000_000", "wandb.mode=disabled"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    subprocess.run([*words, f"out={whole}"], check=True, capture_output=True)
    draw, statuses = random.Random(grace), []
    for _ in range(20):
        again = [*words[:2], f"resume={run}"] if (run / runs.CONFIG).exists() else [*words, f"out={run}"]
        process = subprocess.Popen(again, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            process.wait(draw.uniform(2.0, 8.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
        _, err = process.communicate()
        statuses.append(process.returncode)
        assert process.returncode in (0, 130, -signal.SIGTERM, -signal.SIGKILL), err
        if process.returncode == 0:
            break
    assert statuses[-1] == 0, statuses
    assert metrics(run, timing=False) == metrics(whole, timing=False)


@pytest.mark.slow
def test_kills_at_random_moments_of_training_and_saving(tmp_path):
    """experiments/durability.py in small."""
    words = [
        sys.executable,
        str(EXPERIMENTS / "durability.py"),
        "--kills",
        "4",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=900, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stored = json.loads((tmp_path / "out.json").read_text())
    assert len(stored["kills"]) == 4 and stored["finished"] >= 1 and stored["wrong"] == []
    assert "4 kills" in (tmp_path / "out.md").read_text()
