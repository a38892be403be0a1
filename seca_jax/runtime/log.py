"""Where a run's numbers go: metrics.jsonl and the terminal. Neither can stop a run."""

import contextlib
import copy
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any, Protocol, Sequence, TextIO, cast

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seca_jax import runs


class Lasting:
    """A stream whose reader may leave: what cannot be written then is lost, and nobody is told."""

    def __init__(self, stream: TextIO) -> None:
        """``stream``: where the text goes while there is a reader."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Characters of ``text``, whether they could be written or not."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: it has been closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes what can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's file descriptor."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        """The stream's; rich asks for it, to choose what it can draw."""
        return self._stream.encoding


class Terminal:
    """Progress bar and messages; plain lines where there is no terminal or ``progress`` is off.

    A terminal that has gone, or a reader that has left, costs the messages and nothing else.
    """

    def __init__(self, total_steps: int, progress: bool, quiet: bool = False, mute: bool = False) -> None:
        """Says nothing yet.

        Args:
            total_steps: of one seed, the end of the bar.
            progress: whether there is a bar.
            quiet: leave out what goes to standard output, the bar too.
            mute: leave out warnings and errors as well; another process says them.
        """
        quiet = quiet or mute
        stdout = cast(TextIO, Lasting(sys.stdout))
        self._out = Console(file=stdout, highlight=False, soft_wrap=True, quiet=quiet)
        self._err = Console(
            file=cast(TextIO, Lasting(sys.stderr)), highlight=False, soft_wrap=True, quiet=mute
        )
        self._bar: Progress | None = None
        self._total = total_steps
        self._progress = progress and not mute and self._out.is_terminal
        self._label = ""

    def labelled(self, label: str) -> "Terminal":
        """The same terminal for one of several runs: its lines begin with the label, it moves no bar."""
        own = copy.copy(self)
        own._label, own._progress = f"{label}: ", False
        return own

    def say(self, text: str) -> None:
        """One line on standard output."""
        self._out.print(f"{self._label}{text}", markup=False)

    def warn(self, text: str) -> None:
        """One line on standard error."""
        self._err.print(f"warning: {self._label}{text}", markup=False)

    def error(self, text: str) -> None:
        """One line on standard error: why the run stops."""
        self._err.print(f"error: {self._label}{text}", markup=False)

    def status(self, step: int, where: str, steps_per_s: float | None = None) -> None:
        """Moves the bar, which appears with the first call."""
        if not self._progress:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.fields[where]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>5.1f}%"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=self._out,
                expand=True,
            )
            self._task = self._bar.add_task("", total=self._total, where=where, rate="", numbers="")
            self._bar.start()
        rate = "" if steps_per_s is None else f"{steps_per_s:,.0f} steps/s"
        self._bar.update(self._task, completed=step, where=where, rate=rate)

    def numbers(self, lines: Sequence[dict[str, Any]]) -> None:
        """Shows the medians over seeds of one log point; a whole line of its own after an evaluation."""
        medians = _medians(lines)
        if self._bar is not None:
            shown = [
                ("win", medians.get("test/win_rate", medians.get("train/win_rate"))),
                ("return", medians.get("test/return", medians.get("train/return"))),
                ("entropy", medians.get("train/entropy")),
                ("critic", medians.get("train/critic_loss")),
            ]
            text = " ".join(f"{name} {value:.3g}" for name, value in shown if value is not None)
            self._bar.update(self._task, numbers=text)
        if "test/win_rate" in medians:
            shown = [
                ("test win", "test/win_rate"),
                ("return", "test/return"),
                ("train win", "train/win_rate"),
                ("entropy", "train/entropy"),
                ("credit slope", "train/credit_slope"),
                ("critic loss", "train/critic_loss"),
                ("steps/s", "perf/steps_per_s"),
            ]
            text = "  ".join(f"{name} {medians[key]:.3g}" for name, key in shown if key in medians)
            self.say(f"{medians['step']:>11,.0f} steps  {medians['wall_s']:>7.0f} s  {text}")

    def close(self) -> None:
        """Takes the bar down."""
        if self._bar is not None:
            self._bar.stop()


def _medians(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    names = {name for line in lines for name in line}
    return {name: float(np.median([line[name] for line in lines if name in line])) for name in names}


class Tracker(Protocol):
    """A service that follows training, besides metrics.jsonl. Whatever breaks in it, training goes on."""

    def resume(self, lines: Sequence[dict[str, Any]]) -> None:
        """A run is resumed that has these ``lines`` so far, at least one; what it had after them is void."""
        ...

    def log(self, lines: Sequence[dict[str, Any]]) -> None:
        """Takes the lines of one log point, each with ``step``, ``seed`` and ``wall_s``."""
        ...

    def close(self, exit_code: int) -> None:
        """Training has ended, with status ``exit_code``."""
        ...


class MetricsList:
    """The lines of a run that leaves no directory.

    Attributes:
        lines: all of them, in order.
    """

    def __init__(self) -> None:
        """No lines yet."""
        self.lines: list[dict[str, Any]] = []

    def trim(self, seeds: Sequence[int], steps: Sequence[int]) -> float:
        """There is nothing yet to be dropped: such a run is never resumed."""
        return 0.0

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Appends the lines."""
        self.lines += lines

    def close(self) -> bool:
        """There is nothing that could be lost."""
        return True


class MetricsFile:
    """metrics.jsonl: one write per log point; what a full disk refuses is kept and tried again."""

    def __init__(self, run_dir: str | os.PathLike, terminal: Terminal) -> None:
        """``terminal`` is warned of what the file refuses."""
        self._path = Path(run_dir) / runs.METRICS
        self._terminal = terminal
        self._unwritten = b""
        self._failing = False
        self._size, self._crc = 0, 0  # of what has been written

    def trim(self, seeds: Sequence[int], steps: Sequence[int]) -> float:
        """Drops the lines after ``steps[i]`` of ``seeds[i]``; returns the last wall_s that is left."""
        last = dict(zip(seeds, steps))
        kept = [
            line
            for line in runs.read_metrics(self._path.parent, self._terminal.warn)
            if line["step"] <= last.get(line["seed"], -1)
        ]
        text = "".join(json.dumps(line) + "\n" for line in kept).encode()
        runs.write_atomically(self._path, text)
        self._size, self._crc = len(text), zlib.crc32(text)
        return max((line["wall_s"] for line in kept), default=0.0)

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Appends the lines with a single write."""
        self._unwritten += "".join(json.dumps(line) + "\n" for line in lines).encode()
        self._append()

    def _append(self) -> None:
        try:
            with open(self._path, "ab", buffering=0) as file:
                start = file.seek(0, os.SEEK_END)
                if file.write(self._unwritten) != len(self._unwritten):
                    file.truncate(start)  # never leave half a line behind
                    raise OSError("No space left on device")
            self._size += len(self._unwritten)
            self._crc = zlib.crc32(self._unwritten, self._crc)
            self._unwritten, self._failing = b"", False
        except OSError as error:
            if not self._failing:
                self._terminal.warn(f"{self._path} could not be written ({error}); training goes on")
            self._failing = True

    def settle(self) -> np.ndarray:
        """Brings all lines onto the disk, as far as it takes them; the file's size in bytes and its CRC-32.

        A checkpoint remembers both: what it has behind it is then on the disk before it is itself.
        """
        if self._unwritten:
            self._append()
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            os.fsync(file.fileno())
        return np.array([self._size, self._crc], np.int64)

    def close(self) -> bool:
        """Whether all lines are on the disk; says so where they are not."""
        self.settle()
        if self._unwritten:
            lost = self._unwritten.count(b"\n")
            self._terminal.error(f"{self._path} lacks its last {lost} lines, which could not be written")
        return not self._unwritten
