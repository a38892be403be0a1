"""Where a run's numbers go: metrics.jsonl, Weights & Biases, the terminal. None can stop a run."""

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

METRICS = "metrics.jsonl"
WANDB_PATIENCE_S = 30.0  # how long a dead network may delay the end of a run, per seed


class Terminal:
    """Progress bar and messages; plain lines where there is no terminal or ``progress`` is off."""

    def __init__(self, total_steps: int, progress: bool) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        if progress and self._out.is_terminal:
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
            self._task = self._bar.add_task("", total=total_steps, where="compiling", rate="", numbers="")
            self._bar.start()

    def say(self, text: str) -> None:
        """One line on standard output."""
        self._out.print(text, markup=False)

    def warn(self, text: str) -> None:
        """One line on standard error."""
        self._err.print(f"warning: {text}", markup=False)

    def error(self, text: str) -> None:
        """One line on standard error: why the run stops."""
        self._err.print(f"error: {text}", markup=False)

    def status(self, step: int, where: str, steps_per_s: float | None = None) -> None:
        """Moves the bar."""
        if self._bar is not None:
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


def read_metrics(run_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """All lines of a run's metrics.jsonl; a last line that was cut by a crash is ignored."""
    path = Path(run_dir) / METRICS
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


class MetricsFile:
    """metrics.jsonl: one write per log point; what a full disk refuses is kept and tried again."""

    def __init__(self, run_dir: str | os.PathLike, terminal: Terminal) -> None:
        self._path = Path(run_dir) / METRICS
        self._terminal = terminal
        self._unwritten = b""
        self._failing = False

    def trim(self, seeds: Sequence[int], steps: Sequence[int]) -> float:
        """Drops the lines after ``steps[i]`` of ``seeds[i]``; returns the last wall_s that is left."""
        last = dict(zip(seeds, steps))
        kept = [
            line for line in read_metrics(self._path.parent) if line["step"] <= last.get(line["seed"], -1)
        ]
        draft = self._path.with_suffix(".tmp")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(draft, self._path)
        return max((line["wall_s"] for line in kept), default=0.0)

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Appends the lines with a single write."""
        self._unwritten += "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            with open(self._path, "ab", buffering=0) as file:
                start = file.seek(0, os.SEEK_END)
                if file.write(self._unwritten) != len(self._unwritten):
                    file.truncate(start)  # never leave half a line behind
                    raise OSError("No space left on device")
            self._unwritten, self._failing = b"", False
        except OSError as error:
            if not self._failing:
                self._terminal.warn(f"{self._path} could not be written ({error}); training goes on")
            self._failing = True


def has_wandb_key() -> bool:
    """Whether W&B finds an API key, in the environment or where ``wandb login`` left it."""
    import wandb

    return bool(wandb.api.api_key)


class Wandb:
    """One W&B run per seed, in one group. Any failure is reported once and training goes on."""

    def __init__(
        self,
        run_dir: str | os.PathLike,
        *,
        mode: str,
        project: str,
        entity: str,
        group: str,
        run_id: str,
        seeds: Sequence[int],
        config: dict[str, Any],
        terminal: Terminal,
    ) -> None:
        self._terminal = terminal
        self._runs: dict[int, Any] = {}
        if mode == "disabled":
            return
        try:
            self._start(run_dir, mode, project, entity, group, run_id, seeds, config)
        except Exception as error:  # wandb's own errors, but also whatever breaks inside it
            self._give_up(error)

    def _start(
        self,
        run_dir: str | os.PathLike,
        mode: str,
        project: str,
        entity: str,
        group: str,
        run_id: str,
        seeds: Sequence[int],
        config: dict[str, Any],
    ) -> None:
        import wandb  # a second of import that a disabled logger does not pay

        # wandb logs into the run's directory too: a full disk is no reason to print stack traces
        logging.raiseExceptions = False
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=WANDB_PATIENCE_S,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
        )
        if mode == "online" and not has_wandb_key():  # else wandb would stop and ask for one
            self._terminal.warn("wandb.mode=online: no API key (run wandb login); logging offline instead")
            mode = "offline"
        for seed in seeds:
            options = {
                "project": project,
                "entity": entity or None,
                "group": group,
                "name": f"{group}-seed{seed}",
                "id": f"{run_id}-{seed}",
                "dir": str(run_dir),
                "config": {**config, "seed": seed},
                "resume": "allow",
                "reinit": "create_new",
                "settings": settings,
            }
            try:
                self._runs[seed] = wandb.init(mode=mode, **options)
            except Exception as error:
                if mode == "offline":
                    raise
                self._terminal.warn(f"W&B cannot be reached ({_first_line(error)}); logging offline instead")
                mode = "offline"
                self._runs[seed] = wandb.init(mode=mode, **options)

    def log(self, lines: Sequence[dict[str, Any]]) -> None:
        """Sends each line to the run of its seed."""
        try:
            for line in lines:
                if line["seed"] in self._runs:
                    self._runs[line["seed"]].log(line, step=line["step"])
        except Exception as error:
            self._give_up(error)

    def close(self, exit_code: int) -> None:
        """Finishes the runs, waiting a bounded time for the network."""

        def finish(run: Any) -> None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                self._give_up(error)

        threads = [threading.Thread(target=finish, args=(run,), daemon=True) for run in self._runs.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WANDB_PATIENCE_S)
        if any(thread.is_alive() for thread in threads):
            self._terminal.warn(
                "W&B is still uploading; `wandb sync` on the run's wandb/ directory completes it"
            )

    def _give_up(self, error: Exception) -> None:
        self._terminal.warn(f"W&B stopped ({_first_line(error)}); training goes on without it")
        self._runs = {}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:150]}"
