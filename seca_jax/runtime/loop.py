"""The host loop: many updates of all seeds per device call; logging, evaluation and checkpoints between.

A *line* is the stretch of updates between two lines of metrics.jsonl: it ends at the first update after
which every seed has passed a multiple of the line's steps, or total_steps. That depends on the config
and the state alone, so an interrupted and resumed run logs, evaluates and saves at the very updates an
uninterrupted one does. Within a line the host calls the device in slices of a second or two, never so long
that the line could end inside one, which changes no number: totals since the last line are carried on
the device and saved with the state.
"""

import math
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, NamedTuple, Protocol, Sequence

import jax
import numpy as np

from seca_jax import runs
from seca_jax.config.schema import Config
from seca_jax.runtime import processes
from seca_jax.runtime.interrupt import EXIT_INTERRUPTED
from seca_jax.runtime.log import Terminal, Tracker
from seca_jax.runtime.program import Program, Tally
from seca_jax.show import curves

EXIT_DONE, EXIT_NON_FINITE, EXIT_NOT_SAVED = 0, 3, 4
SLICE_S = 2.0  # longest wait between a signal and the reaction to it, roughly
LONG_S = 2 * 3600.0  # a longer training is worth a word at its beginning
PLOT_SHARE = 0.05  # of the wall clock that may go into redrawing curves.png

Callback = Callable[[int, dict[str, np.ndarray]], object]


def train_numbers(
    tally: Tally, steps_per_s: float, updates: np.ndarray, waiting: int = 0
) -> list[dict[str, float]]:
    """The ``train/*`` and ``perf/*`` numbers of each seed, none without an update.

    Args:
        tally: leaves ``[seeds]``.
        steps_per_s: of all seeds.
        updates: ``[seeds]``, made so far.
        waiting: a run's first updates, which have nothing to learn from yet and add noughts to the tally.
    """
    rows = []
    learned = np.minimum(tally.updates, np.maximum(updates - waiting, 0)).tolist()
    for i, made in enumerate(tally.updates.tolist()):
        if not made:
            rows.append({})
            continue
        sums = {name: float(total[i]) for name, total in tally.sums.items()}
        row = {}
        if episodes := sums["sum/episodes"]:
            row["train/win_rate"] = sums["sum/wins"] / episodes
            row["train/return"] = sums["sum/return"] / episodes
            row["train/length"] = sums["sum/length"] / episodes
        totals = {name: total for name, total in sums.items() if not name.startswith("sum/")}
        means = {name: total / learned[i] for name, total in totals.items() if learned[i]}
        row |= {f"train/{name}": mean for name, mean in means.items() if name != "finite"}
        rows.append(row | {"perf/steps_per_s": round(steps_per_s, 1)})
    return rows


def test_numbers(result: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """The ``test/*`` numbers of each seed from its greedy episodes, ``[seeds, E]``."""
    names = {"won": "test/win_rate", "return": "test/return", "length": "test/length"}
    means = {name: result[key].mean(axis=1).tolist() for key, name in names.items()}
    return [dict(zip(means, own, strict=True)) for own in zip(*means.values(), strict=True)]


class Metrics(Protocol):
    """Where lines are kept, each with ``step``, ``seed`` and ``wall_s``."""

    def trim(self, seeds: Sequence[int], steps: Sequence[int]) -> float:
        """Drops the lines after ``steps[i]`` of ``seeds[i]``; returns the last wall_s that is left."""
        ...

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Appends the lines of one log point."""
        ...

    def close(self) -> bool:
        """Whether all lines are where they belong."""
        ...


class Reports(Protocol):
    """What is told of log points, see :class:`Reporter`."""

    def resume(self, seeds: np.ndarray, steps: np.ndarray) -> None:
        """Forgets what was logged after ``steps``, both [seeds]."""
        ...

    def log(
        self, seeds: np.ndarray, steps: np.ndarray, numbers: list[dict[str, float]], news: np.ndarray
    ) -> None:
        """One line per seed."""
        ...

    def plot(self, force: bool = False) -> None:
        """Redraws what is drawn."""
        ...

    def close(self) -> bool:
        """Whether all that was logged is where it belongs."""
        ...


class Saves(Protocol):
    """What keeps checkpoints, see :class:`~seca_jax.runtime.saving.Saver`."""

    def save(self, step: int, tree: Any) -> bool:
        """Starts saving; false where that failed."""
        ...

    def wait(self) -> bool:
        """Waits until the last save is on disk; false where it failed."""
        ...

    def due(self) -> bool:
        """Whether it is time to save again."""
        ...

    def last(self) -> str:
        """Where the newest checkpoint is; waits until it is there."""
        ...

    def close(self) -> bool:
        """Waits for the last save and closes; false where it failed."""
        ...


class Offers(Protocol):
    """What keeps the best checkpoint, see :class:`~seca_jax.runtime.saving.Best`."""

    def offer(self, step: int, tested: Sequence[dict[str, Any]], tree: Callable[[], Any]) -> None:
        """Takes the numbers of an evaluation, and ``tree()`` where it is to be kept."""
        ...

    def close(self) -> bool:
        """Waits for the last save and closes; false where it failed."""
        ...


class Ending(NamedTuple):
    """How training has ended."""

    status: int  # 0 done, 3 non-finite, 4 the last checkpoint or lines not written, 130 stopped on request
    state: Any  # on the devices
    broken: np.ndarray  # [seeds] bool, whose loss or parameters are not finite


class Reporter:
    """Log points: to where lines are kept, to trackers, the terminal and, now and then, into curves.png."""

    def __init__(
        self,
        config: Config,
        metrics: Metrics,
        terminal: Terminal,
        trackers: Sequence[Tracker] = (),
        run_dir: str | Path | None = None,
    ) -> None:
        """The clock of ``wall_s`` starts here; ``run_dir`` is where curves.png goes, None: nowhere."""
        self._metrics, self._run_dir = metrics, run_dir
        self._terminal, self._trackers = terminal, trackers
        self._title = f"{config.algo} on {config.map}"
        self._started = time.monotonic()
        self._plotted_at, self._plot_cost = -math.inf, 0.0

    def resume(self, seeds: np.ndarray, steps: np.ndarray) -> None:
        """Forgets what was logged after ``steps`` and lets the clock go on from there."""
        self._started -= self._metrics.trim(seeds.tolist(), steps.tolist())
        if self._trackers and self._run_dir is not None and (kept := runs.read_metrics(self._run_dir)):
            for tracker in self._trackers:
                tracker.resume(kept)

    def log(
        self, seeds: np.ndarray, steps: np.ndarray, numbers: list[dict[str, float]], news: np.ndarray
    ) -> None:
        """One line per seed; those without ``news`` [seeds] are for the terminal's medians alone."""
        wall_s = round(time.monotonic() - self._started, 3)
        lines = [
            {"step": step, "seed": seed, "wall_s": wall_s, **own}
            for seed, step, own in zip(seeds.tolist(), steps.tolist(), numbers, strict=True)
        ]
        new = [line for line, fresh in zip(lines, news.tolist(), strict=True) if fresh]
        self._metrics.write(new)
        for tracker in self._trackers:
            tracker.log(new)
        self._terminal.numbers(lines)

    def plot(self, force: bool = False) -> None:
        """Redraws curves.png, unless drawing has had its share of the time already."""
        if self._run_dir is None:
            return
        begun = time.monotonic()
        if not force and begun - self._plotted_at < self._plot_cost / PLOT_SHARE:
            return
        try:
            curves.curves(self._run_dir, runs.read_metrics(self._run_dir), self._title)
        except OSError as error:
            self._terminal.warn(f"{runs.CURVES} could not be written ({error}); training goes on")
        self._plotted_at = time.monotonic()
        self._plot_cost = self._plotted_at - begun

    def close(self) -> bool:
        """Whether all lines are where they belong; where they are not, it has been reported."""
        return self._metrics.close()


class Pace:
    """How fast updates are: how many of them make a slice, and when training will end."""

    def __init__(self, config: Config, program: Program, terminal: Terminal) -> None:
        """Nothing is measured yet: the first slice is one update."""
        self._total, self._update_steps, self._terminal = config.total_steps, program.update_steps, terminal
        self._updates = 1  # of the next slice
        self._seconds, self._steps = 0.0, 0  # of all slices so far, and of all seeds in them
        self._line = (0.0, 0)  # the same at the last line
        self._told = False

    def updates(self, room: int) -> int:
        """Updates of the next slice, where a seed may make ``room`` more steps."""
        return max(1, min(self._updates, room // self._update_steps))

    def add(self, updates: int, seconds: float, before: np.ndarray, steps: np.ndarray) -> float:
        """A slice is done: ``before`` and ``steps`` [seeds] frame it; returns its steps per second."""
        seconds = max(seconds, 1e-6)
        made = int((steps - before).sum())
        self._updates = max(1, min(2 * self._updates, int(updates * SLICE_S / seconds)))
        self._seconds, self._steps = self._seconds + seconds, self._steps + made
        if not self._told and self._seconds >= SLICE_S and self._steps:
            self._told = True
            rate = self._steps / self._seconds
            left = float(np.maximum(self._total - steps, 0).sum()) / rate
            if left > LONG_S:
                end = (datetime.now() + timedelta(seconds=left)).strftime("%a %d %b %Y, %H:%M")
                span = f"{left / 3600:.0f} hours" if left < 2 * 86400 else f"{left / 86400:.0f} days"
                self._terminal.say(f"{rate:,.0f} steps/s: about {span} to go, until {end}")
        return made / seconds

    def line(self) -> float:
        """Steps per second since the last line, evaluations and the like left out; 0: nothing trained."""
        seconds, made = self._seconds - self._line[0], self._steps - self._line[1]
        self._line = (self._seconds, self._steps)
        return made / seconds if seconds else 0.0


def run(
    config: Config,
    program: Program,
    saved: Any = None,
    *,
    reporter: Reports,
    saver: Saves,
    terminal: Terminal,
    best: Offers | None = None,
    start: Callable[[Any], Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    callback: Callback | None = None,
) -> Ending:
    """Trains until every seed has ``total_steps`` steps.

    Args:
        config: checked.
        program: of this config.
        saved: what ``checkpoint.restore`` returned for ``program.abstract``, to continue from there.
        reporter: of log points.
        saver: of checkpoints.
        terminal: where to report.
        best: keeps the checkpoint with the highest test win rate.
        start: what a fresh train state, leaves ``[seeds, ...]`` on the host, is changed into.
        stop: asked between slices; true saves and returns.
        callback: told of every log point: the steps of the slowest seed, and by name the numbers of every
            seed, ``[seeds]``, NaN where a seed has none; true saves and returns.
    """

    def snapshot() -> Any:
        return program.fetch({"state": state, "tally": tally})

    if saved is None:
        state, tally = program.init()
        if start is not None:
            state = program.place(start(program.fetch(state)))
        saver.save(0, snapshot())
    else:
        state, tally = program.place(saved["state"]), program.place(saved["tally"])
    steps = program.fetch(state.steps)
    fresh = not program.fetch(state.updates).any()
    # Of a run that was stopped before its first update not even the line of step 0 may be there
    reporter.resume(program.seeds, np.full_like(steps, -1) if fresh else steps)
    line = program.line_steps

    terminal.status(int(steps.min()), "compiling")
    state, tally = program.chunk(state, tally, np.int32(0))  # compiles, updates nothing
    halt = False

    def log(numbers: list[dict[str, float]], news: np.ndarray) -> bool:
        """Reports a log point; true where the callback wants no more."""
        reporter.log(program.seeds, steps, numbers, news)
        return callback is not None and bool(callback(int(steps.min()), by_name(numbers)))

    if fresh:
        halt = log(test_numbers(program.evaluate(state)), steps >= 0)

    status = EXIT_DONE
    pace = Pace(config, program, terminal)
    while status == EXIT_DONE and steps.min() < config.total_steps:
        last = int(program.fetch(tally.since).min())
        target = min((last // line + 1) * line, config.total_steps)
        while steps.min() < target and status == EXIT_DONE:
            if processes.any_of(halt or stop()):
                break
            clock, before = time.monotonic(), steps
            size = processes.of_first(pace.updates(target - int(steps.min())))
            state, tally = jax.block_until_ready(program.chunk(state, tally, np.int32(size)))
            steps = program.fetch(state.steps)
            rate = pace.add(size, time.monotonic() - clock, before, steps)
            terminal.status(int(steps.min()), "training", rate)
            if (program.fetch(tally.broken_at) >= 0).any():
                status = EXIT_NON_FINITE
            elif steps.min() < target and processes.any_of(saver.due()):
                saver.save(int(steps.min()), snapshot())
        step = int(steps.min())
        if status == EXIT_NON_FINITE:
            terminal.error(_non_finite(program.seeds, program.fetch(tally.broken_at), saver))
        elif step < target:  # asked to stop, in the middle of a line
            saver.save(step, snapshot())
            status = EXIT_INTERRUPTED
        else:
            ends = step >= config.total_steps
            totals = program.fetch(tally)
            numbers = train_numbers(totals, pace.line(), program.fetch(state.updates), config.lookahead)
            evaluates = ends or step // config.eval.interval > last // config.eval.interval
            if evaluates:
                terminal.status(step, "evaluating")
                tested = test_numbers(program.evaluate(state))
                numbers = [test | train for test, train in zip(tested, numbers, strict=True)]
                if best is not None:
                    # The first process decides, and all of them have to hand over what they hold
                    held = snapshot() if processes.count() > 1 else None
                    best.offer(step, tested, snapshot if held is None else lambda held=held: held)
            # Training goes on while a checkpoint is written, but no further than a line: a kill then costs no
            # more of what has been logged than there is between two checkpoints
            saver.wait()
            # A seed that had its steps before the last line has nothing to add but the final evaluation
            halt = log(numbers, (totals.updates > 0) | ends)
            if evaluates:
                reporter.plot()
            tally = program.reset(state)
            passed = step // config.checkpoint.interval > last // config.checkpoint.interval
            if ends or passed or processes.any_of(saver.due()):
                saver.save(step, snapshot())

    reporter.plot(force=True)
    written = [saver.close(), best is None or best.close(), reporter.close()]
    if processes.any_of(not all(written)) and status != EXIT_NON_FINITE:
        status = EXIT_NOT_SAVED
    return Ending(status, state, program.fetch(tally.broken_at) >= 0)


def by_name(numbers: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """``[seeds]`` of every number that a seed has, NaN where another has none."""
    names = dict.fromkeys(name for own in numbers for name in own)
    return {name: np.array([own.get(name, math.nan) for own in numbers]) for name in names}


def _non_finite(seeds: np.ndarray, broken_at: np.ndarray, saver: Saves) -> str:
    first = int(np.argmax(broken_at >= 0))
    return (
        f"non-finite loss or parameters: seed {seeds[first]}, step {broken_at[first]}; "
        f"last good checkpoint: {saver.last()}"
    )
