"""Replay of whole episodes: flashbax's item buffer, an item being one padded episode.

An episode is kept as the environment's own states, not as the views that agents have of them: a view
is a function of the state and many times its size (3m: 160 bytes of state, 1,200 of observations,
availability and features). Sampled episodes are looked at again. So a few hundred bytes make a
step, numbers are exact, and thousands of episodes of several seeds fit in memory.
"""

from dataclasses import replace
from typing import Any, Callable, NamedTuple

import flashbax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seca_jax.arrays import alongside, shared_out, sharers
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience.batch import Rollout
from seca_jax.experience.rollout import anywhere
from seca_jax.networks import agent as agents
from seca_jax.types import View


class Layout(NamedTuple):
    """How a batch's episodes are laid out."""

    per_row: int  # episodes that a row holds where all are as long as they can be
    # Lengths that rows can be cut to, as parts of what they may need; a program is compiled for each
    lengths: tuple[float, ...]


NARROW = Layout(4, (0.125, 0.1875, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0))
# Padding costs agents from networks.agent.WIDE on more than compiling twice as many programs does
WIDE = Layout(
    2, (0.125, 0.145, 0.165, 0.19, 0.22, 0.25, 0.29, 0.33, 0.38, 0.43, 0.5, 0.57, 0.66, 0.76, 0.87, 1.0)
)


@struct.dataclass
class Episode:
    """Whole episodes, stored. Steps after an episode's end repeat its last state and count for nothing."""

    world: Any  # the environment's state, leaves [B, T + 1, ...]: before each step and after the last
    action: jax.Array  # [B, T, N], the smallest integers that hold an action
    reward: jax.Array  # [B, T]
    length: jax.Array  # [B] int32, real steps
    terminated: jax.Array  # [B] bool, a real end; else the time limit struck


@struct.dataclass
class Batch:
    """Whole episodes as a learner sees them, one after the other in every row, see :func:`lay_out`."""

    view: View  # leaves [T + 1, B, ...], moment t + 1 is what transition t led to
    last_action: jax.Array  # [T + 1, B, N] int32, -1 at an episode's start
    start: jax.Array  # [T + 1, B] bool, the moment is the first of its episode
    action: jax.Array  # [T, B, N] int32
    reward: jax.Array  # [T, B]
    terminated: jax.Array  # [T, B] bool
    mask: jax.Array  # [T, B] bool, a real step; never the moment after an episode's last step


class Replay(NamedTuple):
    """Functions of a buffer of ``capacity`` episodes; its state is a pytree without empty arrays.

    Attributes:
        capacity: episodes that one seed keeps.
        num_bytes: of one seed's full buffer, allocated from the start.
        watched: the environment whose views carry, as ``state``, what is to be stored; for rollouts.
        init: ``() -> state``.
        add: ``(state, rollout) -> state``: the episodes of a rollout of ``watched``, the oldest go.
        sample: ``(state, key) -> Episode``: drawn uniformly, with replacement, from those there are;
            meaningless before the first ``add``.
        seen: ``(function, episodes) -> function(Batch)``, see :func:`seen`. Every device of a seed has the
            whole buffer, and learns from its share of the rows.
    """

    capacity: int
    num_bytes: int
    watched: Environment
    init: Any
    add: Any
    sample: Any
    seen: Any


def batch_axes(env: Environment) -> Any:
    """Which axis of each leaf of the environment's state counts the environments.

    Raises:
        ValueError: a leaf has no such axis, so its episodes cannot be told apart.
    """

    def axis(two: Any, three: Any) -> int:
        differing = [i for i, (a, b) in enumerate(zip(two.shape, three.shape)) if a != b]
        if len(differing) != 1:
            raise ValueError(f"{env.name}: a part of its state, {two}, is shared by all environments")
        return differing[0]

    two, three = (jax.eval_shape(lambda key, n=n: env.reset(key, n), jax.random.key(0)) for n in (2, 3))
    return jax.tree.map(axis, two, three)


def watch(env: Environment) -> Environment:
    """``env`` with its own state, environments first, in the place of the views' features."""
    axes = batch_axes(env)

    def view(state: Any) -> View:
        world = jax.tree.map(lambda x, axis: jnp.moveaxis(x, axis, 0), state, axes)
        return replace(env.view(state), state=world)

    return replace(env, view=view)


def pack(rollout: Rollout, num_actions: int) -> Episode:
    """The episodes of a whole-episode rollout of a watched environment, leaves [B, ...]."""
    length = jnp.sum(rollout.mask, axis=0, dtype=jnp.int32)
    limit, num_envs = rollout.mask.shape
    cut = jnp.any(rollout.truncated & rollout.mask, axis=0)
    moment = jnp.arange(limit + 1)[:, None]
    # Padding has to be states that can be viewed: what was computed after an end may be anything.
    row = jnp.minimum(moment, length - 1)
    after_cut = (moment == length) & cut

    def world(x: jax.Array, tail: jax.Array) -> jax.Array:
        kept = x[row, jnp.arange(num_envs)]
        return jnp.moveaxis(jnp.where(alongside(after_cut, kept), tail[1], kept), 1, 0)

    small = np.min_scalar_type(-num_actions)
    return Episode(
        world=jax.tree.map(world, rollout.view.state, rollout.tail.state),
        action=jnp.where(rollout.mask[..., None], rollout.action, 0).astype(small).swapaxes(0, 1),
        reward=jnp.where(rollout.mask, rollout.reward, 0.0).T,
        length=length,
        terminated=jnp.any(rollout.terminated & rollout.mask, axis=0),
    )


def lay_out(length: jax.Array, limit: int, rows: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where whole episodes go so that ``rows`` rows of one length hold little else.

    An episode takes a moment for each of its steps and one for what the last led to. The longest is placed
    first, each in the row that is the emptiest by then. A row then never needs more than
    ceil(B / rows) (limit + 1) moments, what episodes of ``limit`` steps take.

    Args:
        length: [B] int32, steps of the episodes, at most ``limit``.
        limit: of an episode's steps.
        rows: how many, at most B.

    Returns:
        which episode every place holds, [T, rows] int32, T being what rows may need;
        which of its moments, [T, rows] int32, -1 where there is none;
        moments that the fullest row holds, [].
    """
    num_episodes = length.shape[0]
    longest = -(-num_episodes // rows) * (limit + 1)

    def place(held: jax.Array, episode: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        row = jnp.argmin(held)
        return held.at[row].add(length[episode] + 1), (row, held[row])

    order = jnp.argsort(-length)
    held, (row, first) = jax.lax.scan(place, jnp.zeros(rows, jnp.int32), order)
    moment = jnp.arange(limit + 1)
    spot = (first[:, None] + moment) * rows + row[:, None]
    spot = jnp.where(moment <= length[order][:, None], spot, longest * rows)  # outside: nobody's
    named = jnp.broadcast_to(order[:, None] * (limit + 1) + moment, spot.shape)
    found = jnp.full(longest * rows, -1).at[spot].set(named, mode="drop").reshape(longest, rows)
    return found.clip(0) // (limit + 1), jnp.where(found < 0, -1, found % (limit + 1)), jnp.max(held)


def unpack(env: Environment, axes: Any, stored: Episode, episode: jax.Array, moment: jax.Array) -> Batch:
    """Stored episodes as the agents saw them.

    Args:
        env: whose states they hold.
        axes: of :func:`batch_axes`.
        stored: episodes.
        episode: [T + 1, rows] int32, which of them a place holds.
        moment: [T + 1, rows] int32, which of its moments; -1: none, and it counts for nothing.
    """
    real, at = moment >= 0, moment.clip(0)

    def flat(x: jax.Array, axis: int) -> jax.Array:
        return jnp.moveaxis(x[episode, at].reshape(episode.size, *x.shape[2:]), 0, axis)

    view = env.view(jax.tree.map(flat, stored.world, axes))
    length, step = stored.length[episode], at[:-1]
    mask = (real & (at < length))[:-1]
    before = stored.action[episode, (at - 1).clip(0)].astype(jnp.int32)
    batch = Batch(
        view=jax.tree.map(lambda x: x.reshape(*episode.shape, *x.shape[1:]), view),
        last_action=jnp.where((at == 0)[..., None], -1, before),
        start=at == 0,
        action=stored.action[episode, at][:-1].astype(jnp.int32),
        reward=jnp.where(mask, stored.reward[episode, at][:-1], 0.0),
        terminated=stored.terminated[episode[:-1]] & (step == length[:-1] - 1) & mask,
        mask=mask,
    )
    return shared_out(batch, 1)


def seen(
    env: Environment,
    axes: Any,
    function: Callable[[Batch], Any],
    episodes: Episode,
    layout: Layout,
) -> Any:
    """``function`` of the batch of all ``episodes``, with little of the padding that follows their ends.

    Battles are mostly far shorter than their limit, and time is what training costs. So short ones share a
    row. Compiled code needs fixed lengths: it holds ``function`` for a few of them, and the shortest that
    does is run.
    """
    num_episodes, limit = episodes.reward.shape
    shares = sharers()
    rows = min(num_episodes, -(-num_episodes // layout.per_row // shares) * shares)  # every device as many
    episode, moment, held = lay_out(episodes.length, limit, rows)
    # One step is two moments
    lengths = sorted({max(2, -int(-len(moment) * part // 1)) for part in layout.lengths})

    def at_length(length: int) -> Callable[[tuple], Any]:
        def run(given: tuple) -> Any:
            stored, episode, moment = given
            return function(unpack(env, axes, stored, episode[:length], moment[:length]))

        return run

    # Counted so that vmapped seeds share one branch: the one that the fullest row of all needs
    branch = sum(anywhere(held > length).astype(jnp.int32) for length in lengths[:-1])
    return jax.lax.switch(branch, [at_length(n) for n in lengths], (episodes, episode, moment))


def blank(env: Environment) -> Episode:
    """One stored episode of ``env``, all zeros, without a leading axis."""
    world = jax.eval_shape(lambda key: watch(env).view(env.reset(key, 1)).state, jax.random.key(0))
    length = env.max_steps
    return Episode(
        world=jax.tree.map(lambda x: jnp.zeros((length + 1, *x.shape[1:]), x.dtype), world),
        action=jnp.zeros((length, env.num_agents), np.min_scalar_type(-env.num_actions)),
        reward=jnp.zeros(length),
        length=jnp.zeros((), jnp.int32),
        terminated=jnp.zeros((), bool),
    )


def episode_bytes(env: Environment) -> int:
    """Bytes of one stored episode of ``env``."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(lambda: blank(env))))


def capacity(config: Config, env: Environment) -> int:
    """Episodes that each seed keeps: ``q.episodes``, or as many as fit its share of ``q.memory``.

    Raises:
        ValueError: the episodes of one rollout or of one update do not fit.
    """
    one, least = episode_bytes(env), max(config.num_envs, config.q.batch)
    if config.q.episodes < least:
        raise ValueError(f"q.episodes={config.q.episodes}: must be at least num_envs and q.batch, {least}")
    fitting = config.q.memory * 2**20 // config.seeds // one
    if fitting < least:
        needed = -(-least * one * config.seeds // 2**20)
        raise ValueError(
            f"q.memory={config.q.memory}: seeds={config.seeds} with {least} episodes of {env.name} each "
            f"need {needed} MiB"
        )
    return min(config.q.episodes, fitting)


def choose(key: jax.Array, stored: jax.Array, capacity: int, count: int) -> jax.Array:
    """``count`` of the first ``stored`` of ``capacity`` places, evenly and none twice, as PyMARL draws.

    Where fewer than ``count`` are stored, all of them are chosen again until there are enough.

    Args:
        key: to draw with.
        stored: [] int32, at least 1; may be traced.
        capacity: at least ``count``.
        count: places to choose.

    Returns:
        [count] int32.
    """
    score = jnp.where(jnp.arange(capacity) < stored, jax.random.uniform(key, (capacity,)), -1.0)
    _, places = jax.lax.top_k(score, count)
    return places[jnp.arange(count) % jnp.minimum(stored, count)]


def make(config: Config, env: Environment) -> Replay:
    """The replay buffer of one seed of a run; raises ValueError where it cannot be."""
    size, axes = capacity(config, env), batch_axes(env)
    layout = WIDE if config.actor.hidden >= agents.WIDE else NARROW
    buffer = flashbax.make_item_buffer(
        max_length=size, min_length=1, sample_batch_size=config.q.batch, add_sequences=False, add_batches=True
    )

    def sample(state: Any, key: jax.Array) -> Episode:
        stored = jnp.where(state.is_full, size, state.current_index)
        places = choose(key, stored, size, config.q.batch)
        return jax.tree.map(lambda x: x[0, places], state.experience)

    return Replay(
        capacity=size,
        num_bytes=size * episode_bytes(env),
        watched=watch(env),
        init=lambda: buffer.init(blank(env)),
        add=lambda state, rollout: buffer.add(state, pack(rollout, env.num_actions)),
        sample=sample,
        seen=lambda function, episode: seen(env, axes, function, episode, layout),
    )
