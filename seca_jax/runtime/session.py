"""One run, from a checked configuration to what it has come to."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, NamedTuple

import jax
import numpy as np

from seca_jax import algos, envs, runs
from seca_jax.config import compose
from seca_jax.config.check import ConfigError, shareable
from seca_jax.config.keys import get
from seca_jax.config.learners import unread
from seca_jax.config.schema import Config, mesh_of
from seca_jax.envs.base import Environment
from seca_jax.runtime import checkpoint, initial, interrupt, loop, memory, processes, saving, tensorboard
from seca_jax.runtime import wandb as board
from seca_jax.runtime.devices import Device, configure
from seca_jax.runtime.log import MetricsFile, MetricsList, Terminal, Tracker
from seca_jax.runtime.program import Functions, Program, shape
from seca_jax.runtime.provenance import described, provenance
from seca_jax.types import Learner

STOPPING = "stopping after the steps under way, then saving; Ctrl-C now aborts without saving"
LARGE_STATE = 2**26  # bytes; more, a replay buffer mostly, is worth a word


def prepare(config: Config) -> tuple[list[Device], Environment, Learner]:
    """The devices, the environment and the learner of a checked config.

    Raises:
        ConfigError: the device is not there, map, learner and their settings do not go together, or what
            is to follow training is not installed.
    """
    tensorboard.check(config)
    devices = devices_of(config)
    try:
        env = envs.make(config)
        return devices, env, algos.make(config, env)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def devices_of(config: Config) -> list[Device]:
    """The devices of a checked config, of all processes; raises ConfigError."""
    processes = max(1, config.distributed.processes)
    return configure(config.device, config.seeds, shareable(config), mesh_of(config), processes)


def program_of(config: Config, devices: list[Device]) -> Program:
    """The compiled program of a config that :func:`prepare` accepts; runs of one shape share theirs."""
    return Program(config, functions_of(config, devices))


def functions_of(config: Config, devices: list[Device]) -> Functions:
    """What is compiled for it, kept for the next run of its shape."""
    return _functions(shape(config), envs.make, algos.make, tuple(devices))


@lru_cache(maxsize=4)
def _functions(
    config: Config,
    make_env: Callable[[Config], Environment],
    make_learner: Callable[[Config, Environment], Learner],
    devices: tuple[Device, ...],
) -> Functions:
    return Functions(config, make_env(config), make_learner, list(devices))


def meshed(program: Program) -> str:
    """How the devices are used, as the key ``mesh`` has it, in words."""
    along, sharing = program.functions.mesh.shape
    told = f", {processes.count()} processes" if processes.count() > 1 else ""
    return f"mesh={along}x{sharing}{told}"


class Outcome(NamedTuple):
    """What a run has come to."""

    status: int  # exit status
    params: Any  # leaves [seeds, ...], NumPy
    lines: list[dict[str, Any]]  # of metrics.jsonl


def run(
    config: Config,
    argv: Sequence[str],
    callback: loop.Callback | None = None,
    *,
    command_line: bool = True,
) -> Outcome:
    """Trains; with ``config.out`` in that directory, which no other process may use meanwhile.

    Args:
        config: checked; where its ``resume`` is set, the run in that directory goes on. Without ``out``
            nothing is written, neither metrics nor checkpoints, and nothing is tracked.
        argv: words of the command, for the provenance.
        callback: see :func:`seca_jax.runtime.loop.run`.
        command_line: signals save and stop, and messages are printed; else signals are the caller's affair,
            and only under ``log.progress`` anything is printed but warnings.

    Raises:
        ConfigError: it cannot start; nothing has been written.
    """
    quiet = not command_line and not config.log.progress
    if config.distributed.coordinator:
        processes.start(config)
        devices_of(config)  # the platform is settled before anything is exchanged
        config = processes.same_run(config)
    with processes.ending_together():
        return _run(config, argv, callback, quiet, command_line)


@contextlib.contextmanager
def held(config: Config, run_dir: Path) -> Iterator[None]:
    """Within the block the run's directory is this process's; raises ConfigError."""
    with runs.locked(run_dir, "resume" if config.resume else "out"):
        if not config.resume:  # another process may have been here since the configuration was checked
            runs.check_vacant(run_dir)
        yield


def _run(
    config: Config, argv: Sequence[str], callback: loop.Callback | None, quiet: bool, command_line: bool
) -> Outcome:
    """:func:`run`, where the processes have met."""
    if not config.out:
        return _in_memory(config, callback, quiet)
    run_dir = Path(config.out)
    with contextlib.ExitStack() as stack:
        processes.agreed(lambda: stack.enter_context(held(config, run_dir)), only_first=True)
        devices, _, _ = processes.agreed(lambda: prepare(config))
        terminal = Terminal(config.total_steps, config.log.progress, quiet, mute=not processes.first())
        program = program_of(config, devices)
        # While nothing is written yet: it may be refused
        size = processes.agreed(lambda: memory.told(config, program.functions))
        start = processes.agreed(lambda: start_of(config, program.abstract))
        origin = provenance(devices, argv, "seca_jax.train")
        if config.resume:
            saved, origin, remarks = resumed(config, run_dir, program.abstract, origin, terminal)
        else:
            saved, remarks = None, []
            complaint = f"out={run_dir}: cannot be created"
            processes.agreed(lambda: save(run_dir, config, origin, complaint), only_first=True)
        terminal.say(
            f"{config.algo} on {config.map}, {config.seeds} seed{'s' * (config.seeds > 1)}, "
            f"{described(devices)}, {meshed(program)}: {run_dir}"
        )
        terminal.say(f"{size}; compiling")
        for remark in remarks:
            terminal.warn(remark)
        if config.matmul == "bfloat16" and devices[0].platform == "cpu":
            terminal.warn("matmul=bfloat16: this CPU multiplies in float32, as without the key")
        signals = (
            interrupt.graceful(lambda: terminal.warn(STOPPING))
            if command_line
            else contextlib.nullcontext(lambda: False)
        )
        try:
            # From here on a signal leaves a run that can be continued, however early it comes
            with signals as stop:
                ending = _train(
                    config,
                    run_dir,
                    program,
                    saved,
                    origin,
                    terminal,
                    start=start,
                    stop=stop,
                    callback=callback,
                )
        finally:
            terminal.close()
        if ending.status == interrupt.EXIT_INTERRUPTED:
            terminal.say(f"interrupted; continue with resume={run_dir}")
        elif ending.status == 0:
            terminal.say(f"done: {run_dir / runs.CURVES}")
        return Outcome(ending.status, program.fetch(ending.state.params), runs.read_metrics(run_dir))


def _in_memory(config: Config, callback: loop.Callback | None, quiet: bool) -> Outcome:
    """A run that leaves no directory."""
    devices, _, _ = prepare(config)
    program = program_of(config, devices)
    size = processes.agreed(lambda: memory.told(config, program.functions))
    metrics = MetricsList()
    terminal = Terminal(config.total_steps, config.log.progress, quiet, mute=not processes.first())
    terminal.say(size)
    try:
        ending = loop.run(
            config,
            program,
            reporter=loop.Reporter(config, metrics, terminal),
            saver=saving.Unsaved(),
            terminal=terminal,
            start=start_of(config, program.abstract),
            callback=callback,
        )
    finally:
        terminal.close()
    return Outcome(ending.status, program.fetch(ending.state.params), metrics.lines)


def start_of(config: Config, abstract: Any) -> Callable[[Any], Any] | None:
    """What a fresh train state is changed into under ``init``; None: nothing.

    Raises:
        ConfigError: there is no such run or checkpoint, or its parameters do not fit.
    """
    if not config.init.run:
        return None
    return initial.start(config, abstract["state"])


def save(run_dir: Path, config: Config, origin: dict[str, Any], complaint: str) -> None:
    """Writes config.yaml; raises ConfigError."""
    try:
        compose.save(run_dir, config, origin)
    except OSError as error:
        raise ConfigError(f"{complaint} ({error.strerror})") from None


def resumed(
    config: Config, run_dir: Path, abstract: Any, origin: dict[str, Any], terminal: Terminal
) -> tuple[Any, dict[str, Any], list[str]]:
    """(what was saved, None: nothing yet; its provenance with this command's; what the user should know).

    Raises:
        ConfigError: the run cannot go on.
    """
    before, stored = processes.agreed(lambda: compose.load(run_dir))
    if config.total_steps < before.total_steps:  # made longer since the command line was read
        raise ConfigError(
            f"total_steps={config.total_steps}: a resumed run can only be made longer "
            f"than {before.total_steps}"
        )
    remarks = []
    found = processes.agreed(lambda: checkpoint.restore(run_dir, abstract, terminal.warn, lines=True))
    step = -1 if found is None else found[0]
    if len(set(processes.gathered(step))) > 1:
        raise ConfigError(
            f"resume={run_dir}: the processes see different checkpoints there; the directory has to be on a "
            "disk that all of them see"
        )
    if found is None:
        remarks.append(f"{run_dir} has no checkpoint yet: starting from step 0")
    elif line := rescheduled(config, before.total_steps, found[0]):
        remarks.append(line)
    known = stored.get("versions") or {}
    changed = [
        f"{name} {known.get(name)} -> {version}"
        for name, version in origin["versions"].items()
        if known.get(name) != version
    ]
    if changed:
        remarks.append(f"other versions than before, numbers may differ: {', '.join(changed)}")
    origin = {**stored, "resumed": [*stored.get("resumed", []), origin]}

    def begin() -> None:
        save(run_dir, config, origin, f"resume={run_dir}: cannot be written")
        checkpoint.set_aside(run_dir, step)

    processes.agreed(begin, only_first=True)
    return None if found is None else found[1], origin, remarks


def rescheduled(config: Config, before: int, step: int) -> str:
    """What a longer ``total_steps`` does to schedules that end with it, in a line; empty: nothing.

    Args:
        config: of the resumed run.
        before: its ``total_steps`` so far.
        step: where it goes on.
    """
    ends = {"actor.entropy": config.actor.entropy_final} if config.actor.entropy_final >= 0 else {}
    if config.lr_decay:
        ends |= dict.fromkeys(("actor.lr", "critic.lr", "q.lr"), 0.0)
    changes = []
    for name, end in ends.items():
        start = get(config, name)
        then, now = (start + (end - start) * min(step / total, 1) for total in (before, config.total_steps))
        if then != now and not unread(name, config.algo):
            changes.append(f"{name} from {then:.4g} to {now:.4g}")
    if not changes:
        return ""
    return (
        f"{config.total_steps:,} steps instead of {before:,} stretch what falls until the end; "
        f"at step {step:,} that moves {', '.join(changes)}"
    )


class Equipment(NamedTuple):
    """What follows a run that has a directory."""

    reporter: loop.Reporter
    saver: loop.Saves
    best: loop.Offers | None
    trackers: Sequence[Tracker]


def equipped(
    config: Config, run_dir: Path, seeds: np.ndarray, origin: dict[str, Any], terminal: Terminal
) -> Equipment:
    """Metrics, checkpoints and trackers of the run in a directory that holds config.yaml.

    Of a run's processes, the first has them.
    """
    if not processes.first():
        unsaved = saving.Unsaved()
        reporter = loop.Reporter(config, MetricsList(), terminal)
        return Equipment(reporter, unsaved, unsaved if config.checkpoint.best else None, ())
    wandb = board.Wandb(
        board.place(config, run_dir),
        run_id=origin["wandb_id"],
        seeds=seeds.tolist(),
        config={**asdict(config), "provenance": origin},
        terminal=terminal,
    )
    trackers: list[Tracker] = [wandb]
    if config.log.tensorboard:
        trackers.append(tensorboard.TensorBoard(run_dir, terminal))
    settings, metrics = config.checkpoint, MetricsFile(run_dir, terminal)
    return Equipment(
        reporter=loop.Reporter(config, metrics, terminal, trackers, run_dir),
        saver=saving.Saver(run_dir, settings.keep, terminal.warn, settings.minutes, lines=metrics.settle),
        best=saving.Best(run_dir, terminal.warn) if settings.best else None,
        trackers=trackers,
    )


def _train(
    config: Config,
    run_dir: Path,
    program: Program,
    saved: Any,
    origin: dict[str, Any],
    terminal: Terminal,
    **options: Any,
) -> loop.Ending:
    """The training itself, in a directory that holds config.yaml."""
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(program.abstract["state"]))
    if size > LARGE_STATE:
        terminal.say(f"the state, and every checkpoint of it, is up to {size / 2**20:,.0f} MiB")
    own = equipped(config, run_dir, program.seeds, origin, terminal)
    ending = loop.run(
        config,
        program,
        saved,
        reporter=own.reporter,
        saver=own.saver,
        best=own.best,
        terminal=terminal,
        **options,
    )
    terminal.status(config.total_steps if ending.status == 0 else 0, "closing")
    for tracker in own.trackers:
        tracker.close(ending.status)
    return ending
