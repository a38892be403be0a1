"""metrics.jsonl, the terminal and W&B: exact where they work, harmless where they do not."""

import io
import json
import os
import subprocess
import sys

import pytest
import stub

from seca_jax import runs, train
from seca_jax.runtime import log
from seca_jax.runtime import wandb as board_of

SMALL = ["map=3m", "seeds=2", "num_envs=4", "window=5", "eval.episodes=4"]
EVERY = ["log.interval=100", "eval.interval=200", "total_steps=400"]


class Recorder:
    """A terminal that keeps what it is told."""

    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def line(step, seed=0, **numbers):
    return {"step": step, "seed": seed, "wall_s": step / 10, **numbers}


def test_lines_are_appended_and_read_back(tmp_path):
    file = log.MetricsFile(tmp_path, Recorder())
    file.write([line(0), line(0, 1)])
    file.write([line(10, a=0.1)])
    assert runs.read_metrics(tmp_path) == [line(0), line(0, 1), line(10, a=0.1)]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 3


def test_trim_drops_each_seeds_later_lines_and_a_torn_one(tmp_path):
    file = log.MetricsFile(tmp_path, Recorder())
    file.write([line(0), line(0, 1), line(10), line(12, 1), line(20), line(24, 1)])
    with open(tmp_path / "metrics.jsonl", "a") as torn:
        torn.write('{"step": 30, "se')
    assert file.trim([0, 1], [20, 12]) == 2.0
    assert runs.read_metrics(tmp_path) == [line(0), line(0, 1), line(10), line(12, 1), line(20)]


def test_what_a_full_disk_refuses_is_written_later_and_reported_once(tmp_path, monkeypatch):
    terminal = Recorder()
    file = log.MetricsFile(tmp_path, terminal)
    file.write([line(0)])

    class Full(io.FileIO):
        def write(self, data):
            return super().write(data[:7])  # the disk takes seven bytes

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda path, mode, buffering: Full(path, mode))
        file.write([line(10)])
        file.write([line(20)])
    assert runs.read_metrics(tmp_path) == [line(0)]
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    assert len(terminal.warnings) == 1 and "No space left" in terminal.warnings[0]
    file.write([line(30)])
    assert runs.read_metrics(tmp_path) == [line(step) for step in (0, 10, 20, 30)]


def test_without_a_terminal_there_is_one_plain_line_per_evaluation(stubbed, tmp_path, capsys):
    assert train.main([*SMALL, *EVERY, "wandb.mode=disabled", f"out={tmp_path / 'run'}"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert (
        lines[0].startswith("seca on 3m, 2 seeds") and lines[-1] == f"done: {tmp_path / 'run' / 'curves.png'}"
    )
    assert [text.split()[0] for text in lines[1:-1]] == ["0", "200", "400"]
    assert all("test win" in text and "\x1b" not in text for text in lines[1:-1])


def test_the_bar_shows_speed_and_numbers(monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    terminal = log.Terminal(1000, progress=True)
    terminal.status(500, "training", 12_345.6)
    terminal.numbers([line(500, seed, **{"train/win_rate": 0.25, "train/entropy": 1.5}) for seed in (0, 1)])
    terminal.close()
    shown = capsys.readouterr().out
    for part in ("training", "50.0%", "12,346 steps/s", "win 0.25", "entropy 1.5"):
        assert part in shown


def test_wandb_offline_leaves_one_run_per_seed_without_account_or_network(tmp_path):
    run = tmp_path / "run"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {
        "HOME": str(tmp_path),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    words = [sys.executable, stub.__file__, *SMALL, *EVERY, "wandb.mode=offline", f"out={run}"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    stored = sorted(path.name for path in (run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(stored) == 2 and [name[-7:] for name in stored] == ["0.wandb", "1.wandb"]
    assert all(path.stat().st_size > 1000 for path in (run / "wandb").glob("offline-run-*/*.wandb"))
    assert not [line for line in done.stdout.splitlines() if line.startswith("wandb")]


@pytest.mark.parametrize("moment", ["init", "log", "finish"])
def test_a_broken_wandb_does_not_stop_training(stubbed, tmp_path, monkeypatch, capsys, metrics, moment):
    import wandb

    class Run:
        def log(self, *_, **__):
            if moment == "log":
                raise RuntimeError("the service died\nwith details")

        def finish(self, **_):
            if moment == "finish":
                raise RuntimeError("the service died\nwith details")

    def init(**_):
        if moment == "init":
            raise RuntimeError("the service died\nwith details")
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    run = tmp_path / "run"
    assert train.main([*SMALL, *EVERY, "wandb.mode=offline", f"out={run}"]) == 0
    assert max(entry["step"] for entry in metrics(run)) == 400
    expected = "warning: W&B stopped (RuntimeError: the service died); training goes on without it"
    assert set(capsys.readouterr().err.splitlines()) == {expected}


def test_wandb_online_without_a_key_or_a_network_goes_on_offline(monkeypatch, tmp_path):
    import wandb

    modes = []

    def init(mode, **_):
        modes.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("cannot connect")

    monkeypatch.setattr(wandb, "init", init)
    options = {"project": "p", "entity": "", "group": "g", "run_id": "i", "seeds": [0, 1], "config": {}}
    for key, expected in (("x" * 40, ["online", "offline", "offline"]), (None, ["offline", "offline"])):
        monkeypatch.setattr(board_of, "has_key", lambda key=key: key is not None)
        modes.clear()
        terminal = Recorder()
        board_of.Wandb(tmp_path, mode="online", terminal=terminal, **options)
        assert modes == expected
        assert len(terminal.warnings) == 1 and terminal.warnings[0].endswith("logging offline instead")


def test_wandb_gets_each_line_at_its_step_in_its_seeds_run(monkeypatch, tmp_path):
    import wandb

    logged, started = [], []

    class Run:
        def __init__(self, name):
            self.name = name

        def log(self, numbers, step):
            logged.append((self.name, numbers["seed"], step))

        def finish(self, exit_code):
            logged.append((self.name, "finish", exit_code))

    monkeypatch.setattr(wandb, "init", lambda **options: started.append(options) or Run(options["name"]))
    board = board_of.Wandb(
        tmp_path, mode="offline", project="p", entity="", group="g", run_id="i", seeds=[4, 5],
        config={"gamma": 0.9}, terminal=Recorder(),
    )  # fmt: skip
    board.log([line(20, 4), line(21, 5)])
    board.close(3)
    assert logged[:2] == [("g-seed4", 4, 20), ("g-seed5", 5, 21)]
    assert sorted(logged[2:]) == [("g-seed4", "finish", 3), ("g-seed5", "finish", 3)]
    assert {options["group"] for options in started} == {"g"}
    assert len({options["id"] for options in started}) == 2
    assert json.dumps(started[0]["config"]) == '{"gamma": 0.9, "seed": 4}'
