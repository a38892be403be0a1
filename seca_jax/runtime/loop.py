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
from pathlib import Path
from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seca_jax.config.schema import Config, steps_per_update
from seca_jax.envs.base import Environment
from seca_jax.experience import rollout
from seca_jax.runtime import checkpoint, log
from seca_jax.runtime.devices import SeedAxis
from seca_jax.runtime.interrupt import EXIT_INTERRUPTED
from seca_jax.show import curves
from seca_jax.types import Learner

EXIT_DONE, EXIT_NON_FINITE, EXIT_NOT_SAVED = 0, 3, 4
SLICE_S = 2.0  # longest wait between a signal and the reaction to it, roughly
PLOT_SHARE = 0.05  # of the wall clock that may go into redrawing curves.png


@struct.dataclass
class Tally:
    """Totals since the last line, one seed."""

    sums: dict[str, jax.Array]  # each metric of train_step, summed over the updates
    updates: jax.Array  # int32, updates summed
    since: jax.Array  # int32, steps at the last line
    broken_at: jax.Array  # int32, steps after the first non-finite update, -1 while there is none


def fresh_tally(algorithm: Learner, state: Any) -> Tally:
    """An empty tally that starts at ``state``."""
    _, metrics = jax.eval_shape(algorithm.train_step, state)
    return Tally(
        sums={name: jnp.zeros(m.shape, jnp.float32) for name, m in metrics.items()},
        updates=jnp.zeros((), jnp.int32),
        since=jnp.asarray(state.steps, jnp.int32),
        broken_at=jnp.full((), -1, jnp.int32),
    )


def make_chunk(algorithm: Learner) -> Callable[..., tuple[Any, Tally]]:
    """``(state, tally, n) -> (state, tally)`` after ``n`` updates of one seed.

    ``n`` is traced: one compiled program serves slices of any length.
    """

    def update(_: int, carry: tuple[Any, Tally]) -> tuple[Any, Tally]:
        state, tally = carry
        state, metrics = algorithm.train_step(state)
        breaks = (metrics["finite"] < 0.5) & (tally.broken_at < 0)
        return state, Tally(
            sums=jax.tree.map(lambda total, x: total + x, tally.sums, metrics),
            updates=tally.updates + 1,
            since=tally.since,
            broken_at=jnp.where(breaks, state.steps, tally.broken_at).astype(jnp.int32),
        )

    def chunk(state: Any, tally: Tally, n: jax.Array) -> tuple[Any, Tally]:
        return jax.lax.fori_loop(0, n, update, (state, tally))

    return chunk


class Program:
    """The compiled functions of a run, each over all seeds at once.

    Attributes:
        init: ``() -> (state, tally)``, on the devices (see :class:`~seca_jax.runtime.devices.SeedAxis`).
        chunk: ``(state, tally, n) -> (state, tally)``; its arguments are donated.
        reset: ``state -> tally``.
        evaluate: ``(params, updates) -> {"won", "return", "length"}``, each ``[seeds, E]``, NumPy.
        place, fetch: anything with a seed axis from the host to the devices and back.
        abstract: ShapeDtypeStructs of ``{"state", "tally"}``, what a checkpoint holds.
        seeds: numbers of the seeds, int64; by_seed: the same on the devices, uint32.
        update_steps: most environment steps of a seed in one update.
        line_steps: a line of metrics.jsonl is written when all seeds have passed a multiple of these steps.
    """

    def __init__(self, config: Config, env: Environment, algorithm: Learner, devices: list) -> None:
        self.seeds = np.arange(config.seed, config.seed + config.seeds)
        axis = SeedAxis(devices, config.seeds)
        self.place, self.fetch = axis.place, axis.fetch
        self.update_steps = steps_per_update(config) or config.num_envs * env.max_steps
        self.line_steps = line_steps(config)
        # An inner jit, so that the three functions below share one tracing of the step
        algorithm = algorithm._replace(train_step=jax.jit(algorithm.train_step))

        def compiled(function: Callable, in_axes: tuple = (0,), **options: Any) -> Callable:
            return jax.jit(axis.map(function, in_axes), out_shardings=axis.sharding, **options)

        def keys(seed: jax.Array) -> tuple[jax.Array, jax.Array]:
            train_key, eval_key = jax.random.split(jax.random.key(seed))
            return train_key, eval_key

        def init(seed: jax.Array) -> tuple[Any, Tally]:
            state = algorithm.init(keys(seed)[0])
            # Strong types from the start: a weakly typed zero would make the second call compile again
            state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
            return state, fresh_tally(algorithm, state)

        def evaluate(seed: jax.Array, params: Any, updates: jax.Array) -> dict[str, jax.Array]:
            key = jax.random.fold_in(keys(seed)[1], updates)
            return rollout.evaluate(
                env, algorithm.act, algorithm.initial_carry, params, key, config.eval.episodes
            )

        self.by_seed = self.place(self.seeds.astype(np.uint32))
        initialise, test = compiled(init), compiled(evaluate, (0, 0, None))
        self.init = lambda: initialise(self.by_seed)
        self.chunk = compiled(make_chunk(algorithm), (0, 0, None), donate_argnums=(0, 1))
        self.reset = compiled(lambda state: fresh_tally(algorithm, state))
        self.evaluate = lambda params, updates: self.fetch(test(self.by_seed, params, np.int32(updates)))
        state, tally = jax.eval_shape(initialise, self.by_seed)
        self.abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((config.seeds, *x.shape[1:]), x.dtype),
            {"state": state, "tally": tally},
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if leaf.size == 0:  # jaxlib 0.11 dies of them, without a word, where devices share the seeds
                raise ValueError(f"the train state has an empty array: {jax.tree_util.keystr(path)}")


def line_steps(config: Config) -> int:
    """Steps of a seed from one line of metrics.jsonl to the next.

    The smaller of log.interval and eval.interval, in whole updates where these have a fixed length. Updates
    of whole episodes have none: there a line ends with the first update past the multiple.
    """
    interval, update = min(config.log.interval, config.eval.interval), steps_per_update(config)
    return max(1, interval // update) * update if update else interval


def train_numbers(tally: Tally, steps_per_s: float) -> list[dict[str, float]]:
    """The ``train/*`` and ``perf/*`` numbers of each seed; leaves of ``tally`` are ``[seeds]``."""
    rows = []
    for i, updates in enumerate(tally.updates.tolist()):
        sums = {name: float(total[i]) for name, total in tally.sums.items()}
        row = {}
        if episodes := sums["sum/episodes"]:
            row["train/win_rate"] = sums["sum/wins"] / episodes
            row["train/return"] = sums["sum/return"] / episodes
            row["train/length"] = sums["sum/length"] / episodes
        means = {name: total / updates for name, total in sums.items() if not name.startswith("sum/")}
        row |= {f"train/{name}": mean for name, mean in means.items() if name != "finite"}
        rows.append(row | {"perf/steps_per_s": round(steps_per_s, 1)})
    return rows


def test_numbers(result: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """The ``test/*`` numbers of each seed from its greedy episodes, ``[seeds, E]``."""
    names = {"won": "test/win_rate", "return": "test/return", "length": "test/length"}
    means = {name: result[key].mean(axis=1).tolist() for key, name in names.items()}
    return [dict(zip(means, own, strict=True)) for own in zip(*means.values(), strict=True)]


class Reporter:
    """Log points: into metrics.jsonl, W&B, the terminal and, now and then, curves.png."""

    def __init__(self, config: Config, run_dir: str | Path, terminal: log.Terminal, wandb: log.Wandb) -> None:
        self._metrics = log.MetricsFile(run_dir, terminal)
        self._run_dir, self._terminal, self._wandb = run_dir, terminal, wandb
        self._title = f"{config.algo} on {config.map}"
        self._started = time.monotonic()
        self._plotted_at, self._plot_cost = -math.inf, 0.0

    def resume(self, seeds: np.ndarray, steps: np.ndarray) -> None:
        """Forgets what was logged after ``steps`` and lets the clock go on from there."""
        self._started -= self._metrics.trim(seeds.tolist(), steps.tolist())

    def log(self, seeds: np.ndarray, steps: np.ndarray, numbers: list[dict[str, float]]) -> None:
        """One line per seed."""
        wall_s = round(time.monotonic() - self._started, 3)
        lines = [
            {"step": step, "seed": seed, "wall_s": wall_s, **own}
            for seed, step, own in zip(seeds.tolist(), steps.tolist(), numbers, strict=True)
        ]
        self._metrics.write(lines)
        self._wandb.log(lines)
        self._terminal.numbers(lines)

    def plot(self, force: bool = False) -> None:
        """Redraws curves.png, unless drawing has had its share of the time already."""
        begun = time.monotonic()
        if not force and begun - self._plotted_at < self._plot_cost / PLOT_SHARE:
            return
        try:
            curves.curves(self._run_dir, log.read_metrics(self._run_dir), self._title)
        except OSError as error:
            self._terminal.warn(f"{curves.CURVES} could not be written ({error}); training goes on")
        self._plotted_at = time.monotonic()
        self._plot_cost = self._plotted_at - begun


def run(
    config: Config,
    run_dir: str | Path,
    program: Program,
    saved: Any = None,
    *,
    terminal: log.Terminal,
    wandb: log.Wandb,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Trains until every seed has ``total_steps`` steps.

    Args:
        config: checked.
        run_dir: existing directory; metrics.jsonl, curves.png and checkpoints/ go there.
        program: of this config.
        saved: what ``checkpoint.restore`` returned for ``program.abstract``, to continue from there.
        terminal: where to report.
        wandb: where to log, besides metrics.jsonl.
        stop: asked between slices; true saves and returns.

    Returns:
        The exit status: 0 done, 3 non-finite, 4 the last checkpoint could not be written,
        130 stopped on request.
    """
    reporter = Reporter(config, run_dir, terminal, wandb)
    saver = checkpoint.Saver(run_dir, config.checkpoint.keep, terminal.warn)
    if saved is None:
        state, tally = program.init()
    else:
        state, tally = program.place(saved["state"]), program.place(saved["tally"])
        reporter.resume(program.seeds, saved["state"].steps)
    steps, updates = program.fetch(state.steps), int(program.fetch(state.updates)[0])
    line, update = program.line_steps, program.update_steps

    terminal.status(int(steps.min()), "compiling")
    state, tally = program.chunk(state, tally, np.int32(0))  # compiles, updates nothing
    if saved is None:
        reporter.log(program.seeds, steps, test_numbers(program.evaluate(state.params, updates)))

    status = EXIT_DONE
    slice_updates = 1
    train_s, trained = 0.0, 0  # seconds spent and steps made by updates since the last line
    while status == EXIT_DONE and steps.min() < config.total_steps:
        last = int(program.fetch(tally.since).min())
        target = min((last // line + 1) * line, config.total_steps)
        while steps.min() < target and status == EXIT_DONE and not stop():
            clock, before = time.monotonic(), steps
            size = max(1, min(slice_updates, (target - int(steps.min())) // update))
            state, tally = jax.block_until_ready(program.chunk(state, tally, np.int32(size)))
            took = max(time.monotonic() - clock, 1e-6)
            slice_updates = max(1, min(2 * slice_updates, int(size * SLICE_S / took)))
            steps, updates = program.fetch((state.steps, state.updates))
            updates = int(updates[0])
            made = int((steps - before).sum())
            train_s, trained = train_s + took, trained + made
            terminal.status(int(steps.min()), "training", made / took)
            if (program.fetch(tally.broken_at) >= 0).any():
                status = EXIT_NON_FINITE
        step = int(steps.min())
        if status == EXIT_NON_FINITE:
            terminal.error(_non_finite(program.seeds, program.fetch(tally.broken_at), saver))
        elif step < target:  # asked to stop, in the middle of a line
            saver.save(step, program.fetch({"state": state, "tally": tally}))
            status = EXIT_INTERRUPTED
        else:
            ends = step >= config.total_steps
            # Nothing was trained where lines were longer when the run was interrupted
            rate = trained / train_s if train_s else 0.0
            numbers = train_numbers(program.fetch(tally), rate)
            evaluates = ends or step // config.eval.interval > last // config.eval.interval
            if evaluates:
                terminal.status(step, "evaluating")
                tested = test_numbers(program.evaluate(state.params, updates))
                numbers = [test | train for test, train in zip(tested, numbers, strict=True)]
            reporter.log(program.seeds, steps, numbers)
            if evaluates:
                reporter.plot()
            tally, train_s, trained = program.reset(state), 0.0, 0
            if ends or step // config.checkpoint.interval > last // config.checkpoint.interval:
                saver.save(step, program.fetch({"state": state, "tally": tally}))

    reporter.plot(force=True)
    if not saver.close() and status != EXIT_NON_FINITE:
        status = EXIT_NOT_SAVED
    return status


def _non_finite(seeds: np.ndarray, broken_at: np.ndarray, saver: checkpoint.Saver) -> str:
    saver.wait()
    first = int(np.argmax(broken_at >= 0))
    last = "none" if saver.latest is None else saver.directory / str(saver.latest)
    return (
        f"non-finite loss or parameters: seed {seeds[first]}, step {broken_at[first]}; "
        f"last good checkpoint: {last}"
    )
