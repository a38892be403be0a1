"""QTRAN-base: a joint value free of constraints, and agents held to its best action (Son et al. 2019)."""

from functools import partial
from typing import Any

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
from seca_jax.arrays import masked_mean
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience.replay import Batch
from seca_jax.networks.mixers import JointQ, StateValue, Utilities, best_actions, value_of
from seca_jax.types import Learner

# Weights of the two constraints beside the TD loss, PyMARL's.
OPT, NOPT = 1.0, 0.1
JOINT_Q, STATE_VALUE = JointQ(), StateValue()


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of QTRAN-base."""
    keys = Keys(*jax.random.split(state.key, 3))

    # 1 Collect whole episodes with epsilon-greedy agents, into the replay buffer.
    memory, rollout, explore_log = collect(parts, state, keys.rollout)

    # 2 Fit the joint value to its one-step target, and hold agents and V to it by Eq. 4's constraints.
    state, fit_log = fit(parts, state, memory, partial(loss, parts.config.gamma), keys.replay)

    return finish(parts, state, memory, keys.next, rollout, fit_log, explore_log)


def opt_error(best_sum: jax.Array, best_joint: jax.Array, value: jax.Array) -> jax.Array:
    """What the agents' best joint action misses of equality, Eq. 4a: sum_i Q_i(u*) - Q(u*) + V = 0.

    Args:
        best_sum: [...], sum of the agents' values of their best actions u*.
        best_joint: [...], Q(s, u*); a constant for the gradient.
        value: [...], V(s).
    """
    return best_sum - jax.lax.stop_gradient(best_joint) + value


def nopt_error(chosen_sum: jax.Array, chosen_joint: jax.Array, value: jax.Array) -> jax.Array:
    """What any joint action misses of the inequality, Eq. 4b: sum_i Q_i(u) - Q(u) + V >= 0.

    Args are those of :func:`opt_error`, for the joint action u that was chosen. [...], never above 0.
    """
    return jnp.minimum(chosen_sum - jax.lax.stop_gradient(chosen_joint) + value, 0.0)


def joint_q(mixer: Any, hidden: jax.Array, action: jax.Array, state: jax.Array) -> jax.Array:
    """Q(s, u). ``hidden`` [..., N, H], one-hot ``action`` [..., N, A], ``state`` [..., S] -> [...]."""
    value: Any = JOINT_Q.apply(mixer["q"], hidden, action, state)
    return value


def loss(
    gamma: float, params: Params, target: Params, own: Utilities, judges: Utilities, batch: Batch
) -> tuple[jax.Array, Log]:
    """Double Q-learning of the joint value, and the two constraints at its batches.

    Args:
        gamma: discount.
        params: what is learned.
        target: the target parameters.
        own: of the learning agents, [T + 1, B, ...].
        judges: of the target agents.
        batch: replayed episodes.
    """
    state, num_actions = batch.view.state, own.q.shape[-1]
    best = best_actions(own.q, batch.view.avail)  # [T + 1, B, N]
    best_row, chosen_row = (jax.nn.one_hot(u, num_actions) for u in (best, batch.action))
    following = joint_q(target.mixer, judges.hidden[1:], best_row[1:], state[1:])
    y = td_target(batch.reward, batch.terminated, following, gamma)
    q = joint_q(params.mixer, own.hidden[:-1], chosen_row, state[:-1])
    td = masked_mean(jnp.square(q - jax.lax.stop_gradient(y)), batch.mask)

    value: Any = STATE_VALUE.apply(params.mixer["v"], state[:-1])
    best_q = joint_q(params.mixer, own.hidden[:-1], best_row[:-1], state[:-1])
    best_sum = jnp.sum(value_of(own.q[:-1], best[:-1]), axis=-1)
    chosen_sum = jnp.sum(value_of(own.q[:-1], batch.action), axis=-1)
    opt = masked_mean(jnp.square(opt_error(best_sum, best_q, value)), batch.mask)
    nopt = masked_mean(jnp.square(nopt_error(chosen_sum, q, value)), batch.mask)
    log = {"critic_loss": td, "opt_loss": opt, "nopt_loss": nopt, "q": masked_mean(q, batch.mask)}
    return td + OPT * opt + NOPT * nopt, log


def mixer_of(config: Config, env: Environment) -> Mixer:
    """The joint value Q(s, u) and V(s), which no mix of the agents' values makes up."""

    def init(key: jax.Array) -> dict[str, Any]:
        joint_key, value_key = jax.random.split(key)
        hidden = jnp.zeros((1, env.num_agents, config.actor.hidden))
        action = jnp.zeros((1, env.num_agents, env.num_actions))
        state = jnp.zeros((1, env.state_size))
        return {
            "q": JOINT_Q.init(joint_key, hidden, action, state),
            "v": STATE_VALUE.init(value_key, state),
        }

    return Mixer(init, joint_q)


def make(config: Config, env: Environment) -> Learner:
    """The QTRAN-base learner of a run."""
    return learner(assemble(config, env, mixer_of(config, env)), update)
