"""PQN-VDN: Q(lambda) on what was just played, no replay and no target network (Gallici et al. 2024).

What lets it do without them is layer normalisation in the agents and many environments side by side. The
team's value is VDN's, the sum of the agents'.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from seca_jax.algos.actor_critic import finish
from seca_jax.algos.minibatches import descend, passes
from seca_jax.algos.policy import Samples, samples
from seca_jax.algos.q_learning import (
    Log,
    Params,
    act,
    epsilon_at,
    explore,
    fresh_carry,
    look,
    optimiser,
    rate_at,
)
from seca_jax.arrays import masked_mean
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience import rollout as rollouts
from seca_jax.experience.batch import Rollout, next_value
from seca_jax.experience.returns import td_lambda
from seca_jax.experience.rollout import Stream, start_stream
from seca_jax.networks import agent as networks
from seca_jax.networks.agent import Network, agent_input, unroll
from seca_jax.networks.mixers import value_of
from seca_jax.types import Carry, Learner


@struct.dataclass
class TrainState:
    """All that changes while PQN-VDN learns: no target, no replay buffer."""

    params: Params
    opt: Any
    stream: Any  # environments between two windows; None where rollouts are whole episodes
    key: jax.Array
    steps: jax.Array  # int32, real environment steps
    updates: jax.Array  # int32, batches learned from


class Parts(NamedTuple):
    """What a learner is made of, and what does not change while it learns."""

    config: Config
    env: Environment
    agent: Network
    tx: optax.GradientTransformation


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of PQN-VDN."""
    rollout_key, fit_key, next_key = jax.random.split(state.key, 3)

    # 1 Collect experience with epsilon-greedy agents; the values they chose by are rollout.extra.
    epsilon = epsilon_at(parts.config, state.steps)
    stream, rollout = collect(parts, state, epsilon, rollout_key)

    # 2 Q(lambda) targets of the team's value, from those same values.
    targets = q_lambda(parts, state.params, rollout)

    # 3 Fit the agents to them, several passes in minibatches of environments.
    state, log = fit(parts, state, samples(rollout, targets), fit_key)

    return finish(state, stream, next_key, rollout, log, {"epsilon": epsilon})


def collect(
    parts: Parts, state: TrainState, epsilon: jax.Array, key: jax.Array
) -> tuple[Stream | None, Rollout]:
    """A batch of epsilon-greedy agents' experience; their masked values [T, B, N, A] are its ``extra``."""
    config = parts.config

    def draw(
        params: Params, carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Carry, jax.Array]:
        q, hidden = look(parts, params, carry, obs, avail)
        action = explore(key, jnp.argmax(q, axis=-1), avail, epsilon).astype(jnp.int32)
        return action, Carry(hidden, action), q

    fresh = fresh_carry(parts, config.num_envs)
    return rollouts.collect(
        parts.env, draw, state.params, state.stream, fresh, key, config.num_envs, config.window
    )


def q_lambda(parts: Parts, params: Params, rollout: Rollout) -> jax.Array:
    """Q(lambda) targets, Peng's: the chain goes on whatever was explored.

        y_t = r_t + gamma (1 - terminated_t) (lambda y_{t+1} + (1 - lambda) sum_n max_a Q_n(tau_{t+1}, a))

    Args:
        parts: of the learner.
        params: that the batch was collected with.
        rollout: the batch, its ``extra`` the agents' values.

    Returns:
        [T, B].
    """

    def best(q: jax.Array) -> jax.Array:  # [..., N, A] -> [...], of the team
        return jnp.sum(jnp.max(q, axis=-1), axis=-1)

    tail_q, _ = look(parts, params, rollout.tail_carry, rollout.tail.obs, rollout.tail.avail)
    following = next_value(rollout, best(rollout.extra), best(tail_q))
    ends = rollout.terminated, rollout.truncated
    return td_lambda(rollout.reward, *ends, following, gamma=parts.config.gamma, lam=parts.config.lam)


def fit(parts: Parts, state: TrainState, batch: Samples, key: jax.Array) -> tuple[TrainState, Log]:
    """The agents' passes over the batch, towards the targets that are its ``data``."""
    config, agent = parts.config, parts.agent
    lr = rate_at(config, state.steps)

    def loss(params: Params, part: Samples) -> tuple[jax.Array, Log]:
        hidden = part.hidden[0]
        q = unroll(agent, params.agent, hidden, part.obs, part.last_action, part.avail, part.start)
        chosen = jnp.sum(value_of(q, part.action), axis=-1)
        error = masked_mean(jnp.square(chosen - part.data), part.mask)
        return error, {"critic_loss": error, "q": masked_mean(chosen, part.mask)}

    def step(learned: tuple[Params, Any], part: Samples) -> tuple[tuple[Params, Any], Log]:
        params, opt = learned
        gradient, log = jax.grad(loss, has_aux=True)(params, part)
        learned = descend(parts.tx, gradient, opt, params, lr)
        return learned, {**log, "grad_norm": optax.tree.norm(gradient)}

    learned = state.params, state.opt
    (params, opt), log = passes(step, learned, batch, key, config.actor.epochs, config.actor.minibatches)
    return replace(state, params=params, opt=opt), jax.tree.map(jnp.mean, log)


def init(parts: Parts, key: jax.Array) -> TrainState:
    """The state that training starts from."""
    config, env = parts.config, parts.env
    agent_key, env_key, key = jax.random.split(key, 3)
    carry = fresh_carry(parts, 1)
    x = agent_input(jnp.zeros((1, env.num_agents, env.obs_size)), carry.last_action, env.num_actions)
    params = Params(agent=parts.agent.init(agent_key, carry.hidden, x, True), mixer={})
    stream = None
    if config.rollout == "stream":
        stream = start_stream(env, fresh_carry(parts, config.num_envs), env_key, config.num_envs)
    zero = jnp.zeros((), jnp.int32)
    opt: Any = parts.tx.init(params)  # type: ignore[arg-type]
    return TrainState(params, opt, stream, key, steps=zero, updates=zero)


def agent_of(config: Config, env: Environment) -> Network:
    """The agents' network of a run, with layer normalisation."""
    return networks.make(config.actor, env.num_agents, env.num_actions, layer_norm=True)


def make(config: Config, env: Environment) -> Learner:
    """The PQN-VDN learner of a run."""
    parts = Parts(config, env, agent_of(config, env), optimiser(config))
    return Learner(
        init=partial(init, parts),
        train_step=partial(update, parts),
        act=partial(act, parts),
        initial_carry=partial(fresh_carry, parts),
    )
