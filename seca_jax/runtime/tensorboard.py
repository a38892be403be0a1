"""TensorBoard: the run's numbers as event files in its directory, by tensorboardX. It cannot stop a run."""

import os
import shutil
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seca_jax import runs
from seca_jax.config.check import ConfigError
from seca_jax.config.schema import Config
from seca_jax.runtime.log import Terminal

FLUSH_S = 10  # how far TensorBoard may lag behind training


def check(config: Config) -> None:
    """Raises ConfigError if event files are asked for and tensorboardX is not installed."""
    if config.log.tensorboard and find_spec("tensorboardX") is None:
        raise ConfigError(
            "log.tensorboard=true: tensorboardX is not installed; pip install 'seca_jax[tensorboard]'"
        )


class TensorBoard:
    """Event files of every seed in ``tensorboard/seed<number>/``, which say what metrics.jsonl says."""

    def __init__(self, run_dir: str | os.PathLike, terminal: Terminal) -> None:
        """Writes nothing yet; ``terminal`` is warned of what breaks."""
        self._directory, self._terminal = Path(run_dir) / runs.TENSORBOARD, terminal
        self._writers: dict[int, Any] = {}
        self._zero: float | None = None  # the clock when wall_s was 0
        self._working = True
        self._flushed_at = -float("inf")

    def resume(self, lines: Sequence[dict[str, Any]]) -> None:
        """Writes the files anew from the ``lines`` that a resumed run keeps: what came later is void."""
        self._zero = time.time() - max(line["wall_s"] for line in lines)
        shutil.rmtree(self._directory, ignore_errors=True)
        self.log(lines)

    def log(self, lines: Sequence[dict[str, Any]]) -> None:
        """Adds every number of the lines at its step."""
        try:
            for line in lines if self._working else ():
                self._add(line)
            self._flush()
        except Exception as error:  # a full disk, or whatever breaks inside the library
            self._give_up(error)

    def _add(self, line: dict[str, Any]) -> None:
        # Not by SummaryWriter: when its thread has died of a full disk, it waits for that thread for ever
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar

        events: Any = event_pb2  # made when it is imported
        if self._zero is None:
            self._zero = time.time() - line["wall_s"]
        seed = line["seed"]
        if seed not in self._writers:
            place = self._directory / f"seed{seed}"
            place.mkdir(parents=True, exist_ok=True)
            self._writers[seed] = EventsWriter(str(place / "events"))
        clock = self._zero + line["wall_s"]
        for name, value in line.items():
            if name not in ("seed", "step"):
                event = events.Event(summary=scalar(name, value), step=line["step"], wall_time=clock)
                self._writers[seed].write_event(event)

    def _flush(self) -> None:
        if time.monotonic() - self._flushed_at >= FLUSH_S:
            for writer in self._writers.values():
                writer.flush()
            self._flushed_at = time.monotonic()

    def close(self, exit_code: int) -> None:
        """Writes what is still to be written."""
        try:
            for writer in self._writers.values():
                writer.close()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        told = " ".join(str(error).split())[:150]
        self._terminal.warn(
            f"TensorBoard stopped ({type(error).__name__}: {told}); training goes on without it"
        )
        self._working, self._writers = False, {}
