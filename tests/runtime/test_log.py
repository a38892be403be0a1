"""metrics.jsonl and the terminal: exact where they work, harmless where they do not."""

import io

from seca_jax import runs, train
from seca_jax.runtime import log

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
    assert lines[1].startswith("memory: about ")
    assert [text.split()[0] for text in lines[2:-1]] == ["0", "200", "400"]
    assert all("test win" in text and "\x1b" not in text for text in lines[2:-1])


def test_a_line_says_how_right_credit_is(capsys):
    log.Terminal(1000, progress=False).numbers(
        [line(500, **{"test/win_rate": 0.5, "train/credit_slope": 0.62})]
    )
    assert "test win 0.5" in (shown := capsys.readouterr().out) and "credit slope 0.62" in shown


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
