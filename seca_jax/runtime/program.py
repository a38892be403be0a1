"""The compiled functions of a run: updates of all seeds at once, evaluation, what a checkpoint holds."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seca_jax.config.check import shareable
from seca_jax.config.keys import get, replace
from seca_jax.config.schema import Config, mesh_of, steps_per_update, traced
from seca_jax.envs.base import Environment
from seca_jax.experience import rollout
from seca_jax.runtime.devices import SeedAxis, arranged
from seca_jax.types import Learner

# What a program never sees, or is told when it is called
UNSEEN = ("preset", "seed", "device", "out", "name", "resume", "eval.interval")


@struct.dataclass
class Tally:
    """Totals since the last line, one seed."""

    sums: dict[str, jax.Array]  # each metric of train_step, summed over the updates
    updates: jax.Array  # int32, updates summed
    since: jax.Array  # int32, steps at the last line
    broken_at: jax.Array  # int32, steps after the first non-finite update, -1 while there is none


def fresh_tally(learner: Learner, state: Any) -> Tally:
    """An empty tally that starts at ``state``."""
    _, metrics = jax.eval_shape(learner.train_step, state)
    return Tally(
        sums={name: jnp.zeros(m.shape, jnp.float32) for name, m in metrics.items()},
        updates=jnp.zeros((), jnp.int32),
        since=jnp.asarray(state.steps, jnp.int32),
        broken_at=jnp.full((), -1, jnp.int32),
    )


def make_chunk(learner: Learner, budget: int | None = None) -> Callable[..., tuple[Any, Tally]]:
    """``(state, tally, n) -> (state, tally)`` after ``n`` updates of one seed.

    ``n`` is traced: one compiled program serves slices of any length.

    Args:
        learner: whose ``train_step`` is one update.
        budget: a seed with that many steps rests, whatever ``n``; None: seeds go on.
    """

    def update(_: int, carry: tuple[Any, Tally]) -> tuple[Any, Tally]:
        state, tally = carry
        after, metrics = learner.train_step(state)
        breaks = (metrics["finite"] < 0.5) & (tally.broken_at < 0)
        grown = Tally(
            sums=jax.tree.map(lambda total, x: total + x, tally.sums, metrics),
            updates=tally.updates + 1,
            since=tally.since,
            broken_at=jnp.where(breaks, after.steps, tally.broken_at).astype(jnp.int32),
        )
        if budget is None:
            return after, grown
        works = state.steps < budget
        return rested(works, after, state), jax.tree.map(partial(jnp.where, works), grown, tally)

    def chunk(state: Any, tally: Tally, n: jax.Array) -> tuple[Any, Tally]:
        return jax.lax.fori_loop(0, n, update, (state, tally))

    return chunk


def rested(works: jax.Array, after: Any, before: Any) -> Any:
    """The state ``after`` an update where ``works`` [], else the one ``before``.

    A replay buffer's storage, hundreds of MiB that a choice would copy, is taken as it is after the
    update: without its counter that wrote where the seed's next update writes anyway.
    """
    chosen = jax.tree.map(partial(jnp.where, works), after, before)
    if not hasattr(chosen, "replay"):
        return chosen
    replay = chosen.replay.replace(experience=after.replay.experience)
    return chosen.replace(replay=replay)


def shape(config: Config) -> Config:
    """The config without what compiled programs take as arguments or never see: alike, they are shared."""
    default = Config()
    for name in (*traced(), *UNSEEN):
        config = replace(config, name, get(default, name))
    for group in ("log", "checkpoint", "distributed", "wandb"):
        config = replace(config, group, getattr(default, group))
    return config


class Functions:
    """What is compiled for all runs of one :func:`shape`, each function over all seeds at once.

    ``rates`` are the values of the traced keys, ``[seeds]`` each: a seed may have rates of its own.

    Attributes:
        init: ``seeds -> (state, tally)``, on the devices (see :class:`~seca_jax.runtime.devices.SeedAxis`).
        chunk: ``(rates, state, tally, n) -> (state, tally)``; state and tally are donated. A seed that has
            ``total_steps`` steps rests while the others go on.
        reset: ``state -> tally``.
        test: ``(seeds, params, updates) -> {"won", "return", "length"}``, each ``[seeds, E]``.
        place, fetch: anything with a seed axis from the host to the devices and back.
        abstract: ShapeDtypeStructs of ``{"state", "tally"}``, what a checkpoint holds.
        update_steps: most environment steps of a seed in one update.
        arguments: ShapeDtypeStructs of what ``chunk`` is called with, [rows, ...].
        mesh: the devices, [along the seeds, sharing a seed's environments].
    """

    def __init__(
        self, config: Config, env: Environment, make: Callable[[Config, Environment], Learner], devices: list
    ) -> None:
        """Traces the initial state; a function is compiled when it is called first.

        Args:
            config: checked; traced keys, seeds' numbers and what a run's host alone reads do not matter.
            env: the config's.
            make: the learner of a config, whose traced keys may be tracers.
            devices: see :func:`~seca_jax.runtime.devices.configure`.

        Raises:
            ValueError: the train state has an empty array.
        """
        self.mesh = arranged(devices, config.seeds, shareable(config), mesh_of(config))
        axis = SeedAxis(self.mesh, config.seeds)
        self.place, self.fetch = axis.place, axis.fetch
        self.update_steps = steps_per_update(config) or config.num_envs * env.max_steps
        learner = make(config, env)

        # An inner jit, so that the functions below share one tracing of the step
        @jax.jit
        def train_step(rates: dict[str, jax.Array], state: Any) -> tuple[Any, dict[str, jax.Array]]:
            own = config
            for name, value in rates.items():
                own = replace(own, name, value)
            return make(own, env).train_step(state)

        def stepping(rates: dict[str, jax.Array]) -> Learner:
            return learner._replace(train_step=partial(train_step, rates))

        def compiled(function: Callable, in_axes: tuple = (0,), **options: Any) -> Callable:
            return jax.jit(axis.map(function, in_axes), out_shardings=axis.sharding, **options)

        def keys(seed: jax.Array) -> tuple[jax.Array, jax.Array]:
            train_key, eval_key = jax.random.split(jax.random.key(seed))
            return train_key, eval_key

        # The metrics' names do not depend on the rates
        some = stepping({name: jnp.asarray(get(config, name), jnp.float32) for name in traced()})

        def init(seed: jax.Array) -> tuple[Any, Tally]:
            state = learner.init(keys(seed)[0])
            # Strong types from the start: a weakly typed zero would make the second call compile again
            state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
            return state, fresh_tally(some, state)

        def evaluate(seed: jax.Array, params: Any, updates: jax.Array) -> dict[str, jax.Array]:
            key = jax.random.fold_in(keys(seed)[1], updates)
            return rollout.evaluate(
                env, learner.act, learner.initial_carry, params, key, config.eval.episodes
            )

        # Where updates have a fixed length, all seeds end together
        budget = config.total_steps if steps_per_update(config) is None else None

        def chunk(rates: dict[str, jax.Array], state: Any, tally: Tally, n: jax.Array) -> tuple[Any, Tally]:
            return make_chunk(stepping(rates), budget)(state, tally, n)

        self.init, self.test = compiled(init), compiled(evaluate, (0, 0, 0))
        self.chunk = compiled(chunk, (0, 0, 0, None), donate_argnums=(1, 2))
        self.reset = compiled(lambda state: fresh_tally(some, state))
        state, tally = jax.eval_shape(self.init, self.place(np.zeros(config.seeds, np.uint32)))
        self.by_seed = jax.ShapeDtypeStruct((axis.rows,), jnp.uint32)
        rates = {name: jax.ShapeDtypeStruct((axis.rows,), jnp.float32) for name in traced()}
        self.arguments = rates, state, tally, jax.ShapeDtypeStruct((), jnp.int32)
        self.abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((config.seeds, *x.shape[1:]), x.dtype),
            {"state": state, "tally": tally},
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if leaf.size == 0:  # jaxlib 0.11 dies of them, without a word, where devices share the seeds
                raise ValueError(f"the train state has an empty array: {jax.tree_util.keystr(path)}")


class Program:
    """The compiled functions of one run, its seeds and rates in place; the rest as :class:`Functions` has it.

    Attributes:
        init: ``() -> (state, tally)``.
        chunk: ``(state, tally, n) -> (state, tally)``.
        reset: ``state -> tally``.
        evaluate: ``state -> {"won", "return", "length"}``, each ``[seeds, E]``, NumPy.
        functions: what is compiled; place, fetch, abstract, update_steps: the same as there.
        seeds: numbers of the seeds, int64; by_seed: the same on the devices, uint32.
        rates: values of the traced keys on the devices, ``[seeds]``.
        line_steps: a line of metrics.jsonl is written when all seeds have passed a multiple of these steps.
    """

    def __init__(self, configs: Config | Sequence[Config], functions: Functions) -> None:
        """A run's, or that of several side by side, whose seeds follow one another.

        Args:
            configs: checked, of one shape but for the number of seeds.
            functions: of that shape, with as many seeds as all have together.
        """
        configs = [configs] if isinstance(configs, Config) else configs
        self.functions = functions
        self.place, self.fetch = functions.place, functions.fetch
        self.abstract, self.update_steps = functions.abstract, functions.update_steps
        self.line_steps = line_steps(configs[0])
        self.seeds = np.concatenate([np.arange(own.seed, own.seed + own.seeds) for own in configs])
        self.by_seed = self.place(self.seeds.astype(np.uint32))
        sizes = [own.seeds for own in configs]
        self.rates = self.place(
            {
                name: np.repeat(np.array([get(own, name) for own in configs], np.float32), sizes)
                for name in traced()
            }
        )
        self.init = lambda: functions.init(self.by_seed)
        self.chunk = partial(functions.chunk, self.rates)
        self.reset = functions.reset
        self.evaluate = lambda state: self.fetch(functions.test(self.by_seed, state.params, state.updates))


def line_steps(config: Config) -> int:
    """Steps of a seed from one line of metrics.jsonl to the next.

    The smaller of log.interval and eval.interval, in whole updates where these have a fixed length. Updates
    of whole episodes have none: there a line ends with the first update past the multiple.
    """
    interval, update = min(config.log.interval, config.eval.interval), steps_per_update(config)
    return max(1, interval // update) * update if update else interval
