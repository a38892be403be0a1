"""Timing compiled programs: the environment alone, rollouts, training.

Each program contains the one before it, so their differences say where the time goes. How the
figures come about:

* ``steps_per_s``: environment steps of all seeds together per second of wall clock, the median of
  timed repeats after a warm-up. Repeats of the two simulators alternate, so that a busy moment of
  the machine hits both.
* ``compile_s``: tracing, lowering and compiling, with the compilation cache off.
* ``peak_bytes``: what XLA reserves for the program on each device it runs on: arguments, results that
  do not reuse an argument's memory, and temporaries. It is known for every row by itself, on every
  kind of device; the process's own peak would only ever grow from row to row.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax import algos, envs
from seca_jax.config.keys import replace
from seca_jax.config.schema import Config
from seca_jax.envs import registry
from seca_jax.experience import rollout
from seca_jax.runtime.session import program_of
from seca_jax.types import Carry

BACKENDS = ("core", "upstream")


class Row(NamedTuple):
    """One line of the table; the names are those of the JSON document."""

    what: str
    backend: str
    map: str
    algo: str | None
    num_envs: int
    seeds: int
    steps_per_s: float
    compile_s: float
    peak_bytes: int


class Timed(NamedTuple):
    """A compiled program to be timed."""

    advance: Callable[[int], int]  # number of iterations -> environment steps made, waits for the end
    compile_s: float
    peak_bytes: int


def compiled(jitted: Any, *arguments: Any) -> tuple[Any, float, int]:
    """(compiled function, seconds to compile it, bytes it reserves)."""
    start = time.perf_counter()
    program = jitted.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return program, seconds, int(kept + memory.temp_size_in_bytes)


def environment_alone(env: Any, num_envs: int, seeds: int) -> Timed:
    """Random available actions; every step also builds the views that learning needs."""

    def one_seed(state: Any, key: jax.Array, n: jax.Array) -> Any:
        def step(t: jax.Array, carry: Any) -> Any:
            state, _ = carry
            act_key, step_key, restart_key = jax.random.split(jax.random.fold_in(key, t), 3)
            view = env.view(state)
            noise = jax.random.uniform(act_key, view.avail.shape)
            action = jnp.argmax(jnp.where(view.avail, noise, -1.0), axis=-1).astype(jnp.int32)
            state, outcome = env.step(step_key, state, action)
            state = env.restart(restart_key, state, outcome.terminated | outcome.truncated)
            # The views are carried along: XLA leaves out what never reaches a result.
            return state, (view, outcome)

        seen = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.fori_loop(0, n, step, (state, seen))

    def look(state: Any) -> Any:
        action = jnp.zeros((num_envs, env.num_agents), jnp.int32)
        return env.view(state), env.step(jax.random.key(0), state, action)[1]

    keys = jax.random.split(jax.random.key(0), seeds)
    state = jax.jit(jax.vmap(lambda key: env.reset(key, num_envs)))(keys)
    shapes = jax.eval_shape(look, jax.tree.map(lambda x: x[0], state))
    many = jax.jit(jax.vmap(one_seed, in_axes=(0, 0, None)), donate_argnums=0)
    program, compile_s, peak = compiled(many, state, keys, jnp.int32(1))
    held = [state]

    def advance(n: int) -> int:
        held[0], _ = jax.block_until_ready(program(held[0], keys, jnp.int32(n)))
        return n * num_envs * seeds

    return Timed(advance, compile_s, peak)


def rollout_alone(config: Config, env: Any, learner: Any) -> Timed:
    """Trajectories of the untrained team, as an update would receive them."""

    def policy(params: Any, carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array) -> Any:
        return *learner.act(params, carry, obs, avail, key, False), ()

    def one_seed(params: Any, stream: Any, key: jax.Array) -> Any:
        fresh = learner.initial_carry(config.num_envs)
        if config.rollout == "stream":
            return rollout.collect_stream(env, policy, params, stream, key, config.window)
        return stream, rollout.collect_episodes(env, policy, params, fresh, key, config.num_envs)

    def start(key: jax.Array) -> Any:
        init_key, env_key, key = jax.random.split(key, 3)
        fresh = learner.initial_carry(config.num_envs)
        stream = rollout.start_stream(env, fresh, env_key, config.num_envs)
        return learner.init(init_key).params, stream, key

    params, stream, keys = jax.jit(jax.vmap(start))(jax.random.split(jax.random.key(0), config.seeds))
    program, compile_s, peak = compiled(jax.jit(jax.vmap(one_seed), donate_argnums=1), params, stream, keys)
    held = [stream]

    def advance(n: int) -> int:
        steps = 0
        for i in range(n):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            held[0], trajectory = program(params, held[0], own)
            steps += int(jnp.sum(trajectory.mask))
        return steps

    return Timed(advance, compile_s, peak)


def training(config: Config, devices: list) -> Timed:
    """The very program that ``seca_jax.train`` runs, without logging, evaluation and checkpoints."""
    trainer = program_of(config, devices)
    held = list(trainer.init())
    program, compile_s, peak = compiled(trainer.functions.chunk, trainer.rates, *held, np.int32(1))
    made = [0]

    def advance(n: int) -> int:
        held[:] = program(trainer.rates, *held, np.int32(n))
        total = int(trainer.fetch(held[0].steps).sum())
        steps, made[0] = total - made[0], total
        return steps

    return Timed(advance, compile_s, peak)


def rates(programs: list[Timed], repeats: int, seconds: float) -> list[float]:
    """Steps per second of each program: medians over repeats that take turns."""
    lengths = []
    for program in programs:
        n, last, took = 1, 1, 0.0
        program.advance(1)
        # Double until a call is long enough to extrapolate from.
        while took < seconds / 4:
            start = time.perf_counter()
            program.advance(n)
            took = time.perf_counter() - start
            last, n = n, n * 2
        lengths.append(max(1, math.ceil(last * seconds / took)))
    samples = [[] for _ in programs]
    for _ in range(repeats):
        for program, n, own in zip(programs, lengths, samples, strict=True):
            start = time.perf_counter()
            steps = program.advance(n)
            own.append(steps / (time.perf_counter() - start))
    return [statistics.median(own) for own in samples]


def simulators(config: Config) -> dict[str, Any]:
    """The environments of a map by backend; SMAX maps have two, as far as upstream knows them."""
    if registry.scenario(config) is None:
        return {config.env.backend: envs.make(config)}
    found = {}
    for backend in BACKENDS:
        try:
            found[backend] = envs.make(replace(config, "env.backend", backend))
        except ValueError:  # not every map is jaxmarl's
            if backend == config.env.backend:
                raise
    return found


def measure(
    config: Config,
    whats: Sequence[str],
    devices: list,
    *,
    repeats: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Row]:
    """Rows of one configuration.

    Args:
        config: what to measure; ``env`` rows ignore the learner's part of it.
        whats: of ``env`` (every simulator that knows the map), ``rollout`` and ``train``.
        devices: to train on.
        repeats: timed repeats of each row.
        seconds: length of one repeat that is aimed at.
        say: told of each row as it comes.
    """
    rows = []

    def add(what: str, backend: str, algo: str | None, timed: Timed, rate: float) -> None:
        sizes = (config.num_envs, config.seeds)
        rows.append(Row(what, backend, config.map, algo, *sizes, rate, timed.compile_s, timed.peak_bytes))
        named = " ".join(word for word in (what, backend, config.map, algo) if word)
        say(f"{named} {config.num_envs} x {config.seeds}: {rate:,.0f} steps/s")

    if "env" in whats:
        timed = {
            backend: environment_alone(env, config.num_envs, config.seeds)
            for backend, env in simulators(config).items()
        }
        found = rates(list(timed.values()), repeats, seconds)
        for (backend, program), rate in zip(timed.items(), found, strict=True):
            add("env", backend, None, program, rate)
    if {"rollout", "train"} & set(whats):
        env = envs.make(config)
        learner = algos.make(config, env)
        makers = {
            "rollout": lambda: rollout_alone(config, env, learner),
            "train": lambda: training(config, devices),
        }
        for what in makers:
            if what in whats:
                program = makers[what]()
                (rate,) = rates([program], repeats, seconds)
                add(what, config.env.backend, config.algo, program, rate)
    return rows
