"""Checkpoints as they are written: in the background, when they are due, and the best one apart."""

import contextlib
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np

from seca_jax import runs
from seca_jax.runtime.checkpoint import CHECKSUMS, LINES, brief, checksums, manager, to_leaves


class Saver:
    """Saves in the background, keeps the newest few, reports failures instead of raising them."""

    def __init__(
        self,
        run_dir: str | os.PathLike,
        keep: int,
        report: Callable[[str], None],
        minutes: float = math.inf,
        name: str = runs.CHECKPOINTS,
        lines: Callable[[], np.ndarray] | None = None,
    ) -> None:
        """Takes over the checkpoints that ``run_dir`` has.

        Args:
            run_dir: directory of the run.
            keep: newest checkpoints kept.
            report: is told in a line what could not be saved.
            minutes: after so many since the last one a checkpoint is due, whatever its step.
            name: of their directory inside the run's.
            lines: brings metrics.jsonl onto the disk and says what it is then, [2] int64: size, CRC-32.
        """
        self.directory = Path(run_dir) / name
        self._keep = keep
        self._report = report
        self._minutes, self._saved_at = minutes, time.monotonic()
        self._lines = lines
        self._manager: Any = None
        self._pending: int | None = None
        self._failing = False
        self.latest: int | None = max(runs.checkpoint_steps(run_dir, name), default=None)

    def save(self, step: int, tree: Any) -> bool:
        """Starts saving ``tree`` under ``step``; false where that failed (it has been reported)."""
        import orbax.checkpoint as ocp

        self.wait()
        self._saved_at = time.monotonic()
        if step == self.latest:
            return True
        try:
            self._pending = step
            if self._manager is None:
                self.directory.mkdir(exist_ok=True)  # not the run's own: where that has gone, nothing is made
                self._manager = manager(self.directory, self._keep)
            leaves = to_leaves(tree)
            if self._lines is not None:
                leaves[LINES] = self._lines()
            leaves[CHECKSUMS] = checksums(leaves)
            needed = sum(leaf.nbytes for leaf in leaves.values())
            if shutil.disk_usage(self.directory).free < needed:  # else orbax's threads fail one by one
                raise OSError("No space left on device")
            self._manager.save(step, args=ocp.args.StandardSave(leaves), force=True)
        except Exception as error:  # a full disk surfaces as OSError, ValueError, XlaRuntimeError, ...
            self._failed(error)
            return False
        return True

    def due(self) -> bool:
        """Whether ``minutes`` have passed since the last save."""
        return time.monotonic() - self._saved_at >= 60 * self._minutes

    def last(self) -> str:
        """Where the newest checkpoint is; waits until it is there."""
        self.wait()
        return "none" if self.latest is None else str(self.directory / str(self.latest))

    def wait(self) -> bool:
        """Waits until the last save is on disk; false where it failed (it has been reported)."""
        if self._pending is None:
            return True
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # raised in orbax's threads, of any type
            self._failed(error)
            return False
        self.latest, self._pending, self._failing = self._pending, None, False
        return True

    def _failed(self, error: Exception) -> None:
        kept = "no checkpoint yet" if self.latest is None else f"kept: {self.directory / str(self.latest)}"
        self._report(f"checkpoint {self._pending} could not be written ({brief(error)}); {kept}")
        self._pending, self._failing = None, True
        # The manager raises its error again when it is closed; the next save opens a new one
        failed, self._manager = self._manager, None
        if failed is not None:
            with contextlib.suppress(Exception):
                failed.close()
        self._clear_drafts()

    def _clear_drafts(self) -> None:
        """Gives back the space of unfinished checkpoints.

        Orbax's threads may still be writing into one whose save has failed, so what was deleted can
        be there again a moment later.
        """
        for _ in range(40):
            drafts = list(self.directory.glob("*.orbax-checkpoint-tmp*"))
            if not drafts:
                return
            for draft in drafts:
                shutil.rmtree(draft, ignore_errors=True)
            time.sleep(0.05)

    def close(self) -> bool:
        """Waits for the last save and closes; false where it failed (it has been reported)."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
        if self._failing:
            self._clear_drafts()
        return not self._failing


class Unsaved:
    """In the place of a :class:`Saver` or :class:`Best`: of a run that leaves no directory, or of a process
    beside the one that saves."""

    def save(self, step: int, tree: Any) -> bool:
        """Does nothing."""
        return True

    def wait(self) -> bool:
        """There is nothing to wait for."""
        return True

    def due(self) -> bool:
        """Never."""
        return False

    def last(self) -> str:
        """There is none."""
        return "none"

    def offer(self, step: int, tested: Sequence[dict[str, Any]], tree: Callable[[], Any]) -> None:
        """Does nothing."""

    def close(self) -> bool:
        """There is nothing to close."""
        return True


class Best:
    """Keeps the checkpoint with the highest test win rate, mean over seeds; the mean return decides ties."""

    def __init__(self, run_dir: str | os.PathLike, report: Callable[[str], None]) -> None:
        """Takes over what ``run_dir`` has; ``report`` is told in a line what could not be saved."""
        self._saver = Saver(run_dir, 1, report, name=runs.BEST)
        # What a resumed run has to beat: its numbers are in metrics.jsonl
        lines = [line for line in runs.read_metrics(run_dir) if line["step"] == self._saver.latest]
        self._score = self._mean(lines)

    @staticmethod
    def _mean(numbers: Sequence[dict[str, Any]]) -> tuple[float, ...]:
        told = [own for own in numbers if "test/win_rate" in own]
        names = ("test/win_rate", "test/return")
        return tuple(float(np.mean([own[name] for own in told])) for name in names) if told else ()

    def offer(self, step: int, tested: Sequence[dict[str, Any]], tree: Callable[[], Any]) -> None:
        """Saves ``tree()`` under ``step`` if the seeds' numbers ``tested`` are the best so far."""
        score = self._mean(tested)
        if score > self._score and self._saver.save(step, tree()):
            self._score = score

    def close(self) -> bool:
        """Waits for the last save and closes; false where it failed (it has been reported)."""
        return self._saver.close()
