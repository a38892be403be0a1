"""Rollouts: (environment, policy, parameters, key) -> trajectories, inside compiled code.

Two protocols share one step. ``stream``: environments restart themselves and carry on; every
computed step is a real one. ``episode``: every environment runs one whole episode, what follows
its end is masked, and the loop stops when all have ended.
"""

from typing import Any, Callable

import jax
import jax.numpy as jnp
from flax import struct

from seca_jax.arrays import select_rows, shared_out, sharers
from seca_jax.envs.base import Environment, batch_axes
from seca_jax.experience.batch import Rollout
from seca_jax.networks.agent import fresh_where
from seca_jax.types import Act, InitialCarry

# (params, carry, obs, avail, key) -> (action [B, N], carry, extra): extra is stacked over time
Policy = Callable[..., tuple[jax.Array, Any, Any]]
# (notes, t, record of a step, Stream after it, running [B] before it) -> notes
Note = Callable[[Any, jax.Array, dict[str, Any], "Stream", jax.Array], Any]


@struct.dataclass
class Stream:
    """Environments in the middle of their episodes, between two windows."""

    env: Any  # the environment's own state
    carry: Any  # the agents' Carry
    age: jax.Array  # [B] int32, steps since the episode's start
    returned: jax.Array  # [B], reward of the episode so far, in the environment's own unit


@jax.custom_batching.custom_vmap
def anywhere(x: jax.Array) -> jax.Array:
    """Whether any element is true, in any vmapped copy too.

    A loop or branch on it keeps one unbatched predicate under ``vmap``; a batched predicate would
    turn every iteration into a select over the whole carry, trajectory buffers included.
    """
    return jnp.any(x)


@anywhere.def_vmap
def _anywhere_batched(axis_size: int, in_batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size, in_batched
    return anywhere(x), False


def greedy(act: Act) -> Policy:
    """The policy that takes the best action."""

    def policy(params: Any, carry: Any, obs: jax.Array, avail: jax.Array, key: jax.Array) -> tuple:
        return *act(params, carry, obs, avail, key, True), ()

    return policy


def sampled(act: Act) -> Policy:
    """The policy that draws its actions, as in training."""

    def policy(params: Any, carry: Any, obs: jax.Array, avail: jax.Array, key: jax.Array) -> tuple:
        return *act(params, carry, obs, avail, key, False), ()

    return policy


def start_stream(env: Environment, carry: Any, key: jax.Array, num_envs: int) -> Stream:
    """``num_envs`` fresh episodes; ``carry`` is the agents' Carry at an episode's start."""
    return Stream(
        env=env.reset(key, num_envs),
        carry=carry,
        age=jnp.zeros(num_envs, jnp.int32),
        returned=jnp.zeros(num_envs),
    )


def spread(env: Environment, stream: Stream) -> Stream:
    """The stream, its environments shared out among the devices that share a seed's, if there are any."""
    if sharers() == 1:
        return stream
    axes = jax.tree.map(lambda _: 0, stream).replace(env=batch_axes(env))
    return shared_out(stream, axes)


def _advance(
    env: Environment, policy: Policy, params: Any, stream: Stream, key: jax.Array
) -> tuple[Stream, dict[str, Any]]:
    """One decision and one environment step: (stream before any restart, record of the step)."""
    act_key, step_key = jax.random.split(key)
    stream = spread(env, stream)
    view = env.view(stream.env)
    action, carry, extra = policy(params, stream.carry, view.obs, view.avail, act_key)
    env_state, outcome = env.step(step_key, stream.env, action)
    returned = stream.returned + outcome.reward / env.reward_scale
    record: dict[str, Any] = dict(
        view=view,
        action=action,
        extra=extra,
        reward=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        won=outcome.won,
        age=stream.age,
        returned=returned,
    )
    return Stream(env_state, carry, stream.age + 1, returned), record


def _keep(env: Environment, mask: jax.Array, new: tuple, old: tuple) -> tuple:
    """(env state, carry) of ``new`` where ``mask`` [B]."""

    return env.select(mask, new[0], old[0]), select_rows(mask, new[1], old[1])


def _finish(
    env: Environment, carry: Any, records: dict[str, Any], mask: jax.Array, tails: list, slot: jax.Array
) -> Rollout:
    views = [env.view(state) for state, _ in tails]
    stack = lambda *leaves: jnp.stack(leaves)  # noqa: E731
    tail, tail_carry = jax.tree.map(stack, *views), jax.tree.map(stack, *[c for _, c in tails])
    records, mask, tail, tail_carry = shared_out((records, mask, tail, tail_carry), 1)
    return Rollout(
        **records,
        mask=mask,
        carry=shared_out(carry, 0),
        tail=tail,
        tail_carry=tail_carry,
        slot=slot,
    )


def collect_stream(
    env: Environment, policy: Policy, params: Any, stream: Stream, key: jax.Array, length: int
) -> tuple[Stream, Rollout]:
    """``length`` steps of every environment, restarting where episodes end."""
    num_slots = -(-length // env.max_steps)

    def step(carry: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, dict[str, Any]]:
        stream, slots = carry
        key, slot = inputs
        step_key, restart_key = jax.random.split(key)
        after, record = _advance(env, policy, params, stream, step_key)
        # Two time limits of one environment are at least max_steps apart, so each has its own slot.
        slots = [
            _keep(env, record["truncated"] & (slot == i + 1), (after.env, after.carry), kept)
            for i, kept in enumerate(slots)
        ]
        ended = record["terminated"] | record["truncated"]
        stream = Stream(
            env=env.restart(restart_key, after.env, ended),
            carry=fresh_where(ended, after.carry),
            age=jnp.where(ended, 0, after.age),
            returned=jnp.where(ended, 0.0, after.returned),
        )
        return (stream, slots), record

    slot = 1 + jnp.arange(length) // env.max_steps
    slots = [(stream.env, stream.carry)] * num_slots
    (last, slots), records = jax.lax.scan(step, (stream, slots), (jax.random.split(key, length), slot))
    mask = jnp.ones_like(records["terminated"])
    tails = [(last.env, last.carry), *slots]
    last = spread(env, last)
    return last, _finish(env, stream.carry, records, mask, tails, slot)


def play_episodes(
    env: Environment, policy: Policy, params: Any, fresh: Stream, key: jax.Array, notes: Any, note: Note
) -> Any:
    """Goes on until the episode of every environment has ended; returns the last ``notes``.

    Args:
        env: B environments.
        policy: decides.
        params: its parameters.
        fresh: of :func:`start_stream`.
        key: of all decisions and steps.
        notes: what is remembered of the steps, before the first.
        note: (notes, t, record of the step, stream after it, running [B] before it) -> notes.
    """

    def unfinished(loop: tuple) -> jax.Array:
        t, _, running, _ = loop
        return (t < env.max_steps) & anywhere(running)

    def step(loop: tuple) -> tuple:
        t, stream, running, notes = loop
        after, record = _advance(env, policy, params, stream, jax.random.fold_in(key, t))
        notes = note(notes, t, record, after, running)
        return t + 1, after, running & ~(record["terminated"] | record["truncated"]), notes

    running = jnp.ones(fresh.age.shape, bool)
    *_, notes = jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), fresh, running, notes))
    return notes


def collect(
    env: Environment,
    policy: Policy,
    params: Any,
    stream: Stream | None,
    fresh: Any,
    key: jax.Array,
    num_envs: int,
    length: int,
) -> tuple[Stream | None, Rollout]:
    """The stream's next ``length`` steps, or whole episodes of ``num_envs`` environments where there is none.

    ``fresh`` is the agents' Carry at an episode's start; the stream has its own.
    """
    if stream is None:
        return None, collect_episodes(env, policy, params, fresh, key, num_envs)
    return collect_stream(env, policy, params, stream, key, length)


def collect_episodes(
    env: Environment, policy: Policy, params: Any, carry: Any, key: jax.Array, num_envs: int
) -> Rollout:
    """One whole episode of every environment; T is ``env.max_steps``, padding is masked."""
    rollout, _ = _record_episodes(env, policy, params, carry, key, num_envs, lambda state: ())
    return rollout


def watch_episode(
    env: Environment, act: Act, initial_carry: InitialCarry, params: Any, key: jax.Array
) -> tuple[Rollout, Any]:
    """One whole greedy episode, and ``env.frame`` of its start and after every step, if there is one.

    Returns:
        rollout leaves [T, 1, ...] and frames [T + 1, 1, ...], T being ``env.max_steps``; what follows the
        episode's end is masked in the one and meaningless in the other.
    """
    watch = env.frame or (lambda state: ())
    return _record_episodes(env, greedy(act), params, initial_carry(1), key, 1, watch)


def _record_episodes(
    env: Environment,
    policy: Policy,
    params: Any,
    carry: Any,
    key: jax.Array,
    num_envs: int,
    watch: Callable[[Any], Any],
) -> tuple[Rollout, Any]:
    """One whole episode of every environment, and ``watch(state)`` [T + 1, ...] of every moment."""
    reset_key, key = jax.random.split(key)
    length = env.max_steps
    fresh = start_stream(env, carry, reset_key, num_envs)
    shapes = jax.eval_shape(lambda s, k: _advance(env, policy, params, s, k)[1], fresh, key)
    buffers = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
    start = watch(fresh.env)
    frames = jax.tree.map(lambda x: jnp.zeros((length + 1, *x.shape), x.dtype).at[0].set(x), start)

    def note(notes: tuple, t: jax.Array, record: dict, after: Stream, running: jax.Array) -> tuple:
        kept, buffers, mask, frames = notes
        kept = _keep(env, record["truncated"] & running, (after.env, after.carry), kept)
        buffers = jax.tree.map(lambda all, x: all.at[t].set(x), buffers, record)
        frames = jax.tree.map(lambda all, x: all.at[t + 1].set(x), frames, watch(after.env))
        return kept, buffers, mask.at[t].set(running), frames

    notes = ((fresh.env, fresh.carry), buffers, jnp.zeros((length, num_envs), bool), frames)
    kept, records, mask, frames = play_episodes(env, policy, params, fresh, key, notes, note)
    # After an environment's end its clock runs on, and where the loop never came the buffer says 0:
    # neither may look like an episode's start.
    records["age"] = jnp.broadcast_to(jnp.arange(length)[:, None], mask.shape)
    slot = jnp.ones(length, jnp.int32)
    return _finish(env, carry, records, mask, [kept, kept], slot), frames


def evaluate(
    env: Environment,
    act: Act,
    initial_carry: InitialCarry,
    params: Any,
    key: jax.Array,
    episodes: int,
    policy: Callable[[Act], Policy] = greedy,
) -> dict[str, jax.Array]:
    """The first episode of ``episodes`` environments, whole.

    Args:
        env: to play in.
        act: of the learner.
        initial_carry: of the learner.
        params: of one seed.
        key: of the episodes.
        episodes: E.
        policy: :func:`greedy` or :func:`sampled`.

    Returns:
        ``won`` [E] bool, ``return`` [E] (the environment's own unit), ``length`` [E] int32 steps.
    """
    reset_key, key = jax.random.split(key)
    fresh = start_stream(env, initial_carry(episodes), reset_key, episodes)

    def note(notes: tuple, t: jax.Array, record: dict, after: Stream, running: jax.Array) -> tuple:
        won, returned, length = notes
        won = won | (running & record["won"])
        return won, jnp.where(running, record["returned"], returned), length + running

    notes = (jnp.zeros(episodes, bool), jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32))
    won, returned, length = play_episodes(env, policy(act), params, fresh, key, notes, note)
    return {"won": won, "return": returned, "length": length}
