"""Runs of a sweep side by side: rows of one program, a run directory for each.

Runs whose programs are the same (see :func:`~seca_jax.runtime.program.shape`: they differ in learning
rates, gradient clips, discounts, entropy, clip ranges or seeds) need not wait for one another. Each keeps the
files that it would have alone, and may be resumed alone.
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax import runs
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import replace
from seca_jax.config.schema import Config
from seca_jax.runtime import interrupt, loop, memory, session
from seca_jax.runtime.devices import is_key
from seca_jax.runtime.log import Terminal
from seca_jax.runtime.program import Program, shape
from seca_jax.runtime.provenance import described, provenance

HOSTS = ("eval", "log", "checkpoint")  # groups of keys that the host's loop follows, for all rows alike


def kin(config: Config) -> tuple[Any, ...]:
    """What runs side by side have in common: their program, what their loop does and when, where they are."""
    loops = tuple(getattr(config, group) for group in HOSTS)
    step = max(runs.checkpoint_steps(config.out), default=-1) if config.resume else -1
    return shape(config), *loops, config.device, step


class Member(NamedTuple):
    """One run among others."""

    config: Config
    rows: slice  # of the program
    equipment: session.Equipment
    start: Callable[[Any], Any] | None
    saved: Any

    def own(self, tree: Any) -> Any:
        """Its rows of a tree, leaves [rows, ...]."""
        return jax.tree.map(lambda x: x[self.rows], tree)


class Reporters:
    """A :class:`~seca_jax.runtime.loop.Reporter` for each run."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Takes the members' own."""
        self._members = members

    def resume(self, seeds: np.ndarray, steps: np.ndarray) -> None:
        """See there."""
        for m in self._members:
            m.equipment.reporter.resume(seeds[m.rows], steps[m.rows])

    def log(self, seeds: np.ndarray, steps: np.ndarray, numbers: list[dict], news: np.ndarray) -> None:
        """See there."""
        for m in self._members:
            m.equipment.reporter.log(seeds[m.rows], steps[m.rows], numbers[m.rows], news[m.rows])

    def plot(self, force: bool = False) -> None:
        """See there."""
        for m in self._members:
            m.equipment.reporter.plot(force)

    def close(self) -> bool:
        """See there; false where one of them failed."""
        closed = [m.equipment.reporter.close() for m in self._members]
        return all(closed)


class Savers:
    """A :class:`~seca_jax.runtime.saving.Saver` for each run."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Takes the members' own."""
        self._members = members

    def save(self, step: int, tree: Any) -> bool:
        """See there; false where one of them failed."""
        saved = [m.equipment.saver.save(step, m.own(tree)) for m in self._members]
        return all(saved)

    def wait(self) -> bool:
        """Waits until the last saves are on disk; false where one of them failed."""
        waited = [m.equipment.saver.wait() for m in self._members]
        return all(waited)

    def due(self) -> bool:
        """Whether a checkpoint of any is due."""
        return any(m.equipment.saver.due() for m in self._members)

    def last(self) -> str:
        """Where the newest checkpoints are."""
        return "those of each run"

    def close(self) -> bool:
        """Waits for the last saves and closes; false where one of them failed."""
        closed = [m.equipment.saver.close() for m in self._members]
        return all(closed)


class Bests:
    """A :class:`~seca_jax.runtime.saving.Best` for each run."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Takes the members' own."""
        self._own = [(m, best) for m in members if (best := m.equipment.best) is not None]

    def offer(self, step: int, tested: Sequence[dict[str, Any]], tree: Callable[[], Any]) -> None:
        """See there."""
        for member, best in self._own:
            best.offer(step, tested[member.rows], lambda member=member: member.own(tree()))

    def close(self) -> bool:
        """Waits for the last saves and closes; false where one of them failed."""
        closed = [best.close() for _, best in self._own]
        return all(closed)


UNFINISHED, REFUSED = -1, 2


def run(configs: Sequence[Config], labels: Sequence[str], argv: Sequence[str]) -> list[int]:
    """Trains side by side; the exit status of each, 2 where another process trains in its directory.

    Args:
        configs: checked, each with a directory of its own; :func:`kin` is the same for all.
        labels: what each is called on the terminal.
        argv: words of the command, for the provenance.

    Raises:
        ConfigError: they cannot start, all of them.
    """
    statuses = [UNFINISHED] * len(configs)
    with contextlib.ExitStack() as stack:
        for i, config in enumerate(configs):
            try:
                stack.enter_context(runs.locked(Path(config.out), "resume" if config.resume else "out"))
                if not config.resume:
                    runs.check_vacant(config.out)
            except ConfigError as error:
                print(f"error: {error}", file=sys.stderr)
                statuses[i] = REFUSED
        mine = [i for i, status in enumerate(statuses) if status == UNFINISHED]
        if not mine:
            return statuses
        told = _train([configs[i] for i in mine], [labels[i] for i in mine], argv)
        for i, status in zip(mine, told, strict=True):
            statuses[i] = status
    # Those that another's fault has stopped go on without it, from their own checkpoints
    left = [i for i, status in enumerate(statuses) if status == UNFINISHED]
    if left:
        again = [changed(configs[i], resume=configs[i].out) for i in left]
        for i, status in zip(left, run(again, [labels[i] for i in left], argv), strict=True):
            statuses[i] = status
    return statuses


def _train(configs: Sequence[Config], labels: Sequence[str], argv: Sequence[str]) -> list[int]:
    """The training, in directories that are locked; UNFINISHED for runs that another's end has ended."""
    seeds = [config.seeds for config in configs]
    whole = replace(configs[0], "seeds", sum(seeds))
    ends = np.cumsum(seeds).tolist()
    rows = [slice(end - size, end) for end, size in zip(ends, seeds, strict=True)]
    devices, _, _ = session.prepare(whole)
    program = Program(configs, session.functions_of(whole, devices))
    size = memory.told(whole, program.functions)
    terminal = Terminal(whole.total_steps, whole.log.progress)
    try:
        members = [
            _member(config, own, label, program, provenance(devices, argv, "seca_jax.train"), terminal)
            for config, own, label in zip(configs, rows, labels, strict=True)
        ]
        terminal.say(
            f"{len(configs)} runs of {whole.algo} on {whole.map} side by side, {whole.seeds} seeds in all, "
            f"{described(devices)}, {session.meshed(program)}"
        )
        terminal.say(f"{size}; compiling")
        with interrupt.graceful(lambda: terminal.warn(session.STOPPING)) as stop:
            ending = loop.run(
                whole,
                program,
                joined([m.saved for m in members]) if members[0].saved is not None else None,
                reporter=Reporters(members),
                saver=Savers(members),
                best=Bests(members),
                terminal=terminal,
                start=partial(_started, members) if any(m.start for m in members) else None,
                stop=stop,
            )
    finally:
        terminal.close()
    statuses = []
    for member in members:
        bystander = ending.status == loop.EXIT_NON_FINITE and not ending.broken[member.rows].any()
        for tracker in member.equipment.trackers:
            tracker.close(interrupt.EXIT_INTERRUPTED if bystander else ending.status)
        statuses.append(UNFINISHED if bystander else ending.status)
        if ending.status == loop.EXIT_DONE:
            terminal.say(f"done: {Path(member.config.out) / runs.CURVES}")
    return statuses


def _member(
    config: Config, rows: slice, label: str, program: Program, origin: dict[str, Any], terminal: Terminal
) -> Member:
    """A run with its directory begun, or its checkpoint read; raises ConfigError."""
    run_dir, own = Path(config.out), terminal.labelled(label)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((config.seeds, *x.shape[1:]), x.dtype), program.abstract
    )
    start = session.start_of(config, abstract)
    if config.resume:
        saved, origin, remarks = session.resumed(config, run_dir, abstract, origin, own)
    else:
        saved, remarks = None, []
        session.save(run_dir, config, origin, f"out={run_dir}: cannot be created")
    for remark in remarks:
        own.warn(remark)
    equipment = session.equipped(config, run_dir, program.seeds[rows], origin, own)
    return Member(config, rows, equipment, start, saved)


def _started(members: Sequence[Member], state: Any) -> Any:
    """A fresh train state with every run's own start."""
    return joined([(m.start or (lambda x: x))(m.own(state)) for m in members])


def joined(trees: Sequence[Any]) -> Any:
    """Trees with leaves [seeds, ...] one after the other."""

    def join(*leaves: Any) -> Any:
        many = jnp if is_key(leaves[0]) else np
        return many.concatenate([many.asarray(leaf) for leaf in leaves])

    return jax.tree.map(join, *trees)
