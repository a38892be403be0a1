"""QPD: a central Q decomposed along episodes into what agents' own Q are fitted to (Yang et al. 2020)."""

from functools import partial
from typing import Any, Callable

import jax
import jax.numpy as jnp

from seca_jax.algos.q_learning import (
    Keys,
    Log,
    Mixer,
    Params,
    Parts,
    TrainState,
    assemble,
    collect,
    finish,
    fit,
    learner,
    td_target,
)
from seca_jax.arrays import masked_mean, num_chunks
from seca_jax.config.schema import Config
from seca_jax.credit.attribution import segment_contribution
from seca_jax.envs.base import Environment
from seca_jax.experience.replay import Batch
from seca_jax.networks.mixers import ChannelCritic, Utilities, best_actions, channels, value_of
from seca_jax.types import Learner


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of QPD."""
    keys = Keys(*jax.random.split(state.key, 3))

    # 1 Collect whole episodes with epsilon-greedy agents, into the replay buffer.
    memory, rollout, explore_log = collect(parts, state, keys.rollout)

    # 2 Fit the central Q to its one-step target, and every agent's Q to its share of the central one.
    loss = partial(path_loss, parts.mixer.apply, parts.config.gamma, parts.config.credit.points)
    state, fit_log = fit(parts, state, memory, loss, keys.replay)

    return finish(parts, state, memory, keys.next, rollout, fit_log, explore_log)


def decomposition(
    evaluate: Callable[[jax.Array], jax.Array], inputs: jax.Array, mask: jax.Array, points: int
) -> jax.Array:
    """What of Q(x_t) is each agent's: integrated gradients along the rest of the episode.

    The path goes from step to step, forward in time, and ends in the input of zeros, where Q has to be 0:
    then the agents' shares add up to Q(x_t), up to what ``points`` points on a segment miss (they are
    exact where Q is quadratic along it).

    Args:
        evaluate: the central Q, ``x [..., N, X] -> [...]``.
        inputs: [T, B, N, X], what belongs to every agent of what Q reads, at whole episodes' steps.
        mask: [T, B] bool, real steps; what follows an episode's end counts for nothing, and something does
            where another episode follows.
        points: K >= 1.

    Returns:
        [T, B, N]; 0 where not ``mask``.
    """
    path = jnp.where(mask[..., None, None], inputs, 0.0)
    path = jnp.concatenate([path, jnp.zeros_like(path[:1])])
    still = jnp.zeros((*path.shape[:2], 1))  # nothing moves but the agents' inputs
    chunks = num_chunks(path.shape[0], points * path[0].size)
    segment = segment_contribution(lambda _, x: evaluate(x), path, still, points=points, chunks=chunks)

    def backward(rest: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        own, real = step
        rest = jnp.where(real[:, None], rest + own, 0.0)  # the next episode's is nothing of this one's
        return rest, rest

    # c_t = Q(x_t) - Q(0), the segments from t on taken backwards.
    return -jax.lax.scan(backward, jnp.zeros_like(segment[0]), (segment, mask), reverse=True)[1]


def path_loss(
    central: Callable[[Any, jax.Array], jax.Array],
    gamma: float,
    points: int,
    params: Params,
    target: Params,
    own: Utilities,
    judges: Utilities,
    batch: Batch,
) -> tuple[jax.Array, Log]:
    """Mean squared one-step TD error of the central Q, and of the agents' Q from their shares of it.

    Args:
        central: ``(critic parameters, x [..., N, X]) -> [...]``.
        gamma: discount.
        points: of the decomposition on every step's segment.
        params: what is learned.
        target: the target parameters.
        own: of the learning agents, [T + 1, B, ...].
        judges: of the target agents; unused, the central Q judges.
        batch: replayed episodes.
    """
    del judges
    view, num_actions = batch.view, own.q.shape[-1]

    def read(steps: slice, action: jax.Array) -> jax.Array:
        return channels(view.state[steps], view.obs[steps], jax.nn.one_hot(action, num_actions))

    done = read(slice(None, -1), batch.action)
    q = central(params.mixer, done)
    # The learning agents choose, the target of the central Q judges.
    choice = best_actions(own.q, view.avail)[1:]
    following = central(target.mixer, read(slice(1, None), choice))
    y = td_target(batch.reward, batch.terminated, following, gamma)
    td = masked_mean(jnp.square(q - jax.lax.stop_gradient(y)), batch.mask)

    fixed = jax.lax.stop_gradient(params.mixer)
    share = jax.lax.stop_gradient(decomposition(partial(central, fixed), done, batch.mask, points))
    error = value_of(own.q[:-1], batch.action) - share
    agents = masked_mean(jnp.square(error), batch.mask[..., None])
    missed = jnp.abs(jnp.sum(share, axis=-1) - q)  # of completeness
    log = {"critic_loss": td, "agent_loss": agents, "q": masked_mean(q, batch.mask)}
    return td + agents, log | {"share_error": masked_mean(missed, batch.mask)}


def critic_of(config: Config, env: Environment) -> Mixer:
    """The central Q, in the place of what mixes other learners' values."""
    network = ChannelCritic(config.q.mixing)
    apply: Any = network.apply

    def init(key: jax.Array) -> Any:
        obs = jnp.zeros((1, env.num_agents, env.obs_size))
        action = jnp.zeros((1, env.num_agents, env.num_actions))
        return network.init(key, channels(jnp.zeros((1, env.state_size)), obs, action))

    return Mixer(init, apply)


def make(config: Config, env: Environment) -> Learner:
    """The QPD learner of a run."""
    return learner(assemble(config, env, critic_of(config, env)), update)
