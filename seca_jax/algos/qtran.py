"""QTRAN-base: a joint value free of constraints, and agents held to its best action (Son et al. 2019)."""

import jax
import jax.numpy as jnp

from seca_jax.algos import q_learning
from seca_jax.arrays import masked_mean
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.networks.mixers import JointQ, StateValue, best_actions, value_of
from seca_jax.types import Learner

# Weights of the two constraints beside the TD loss, PyMARL's.
OPT, NOPT = 1.0, 0.1


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


def method(config: Config, env: Environment) -> q_learning.Method:
    """Double Q-learning of the joint value, and the two constraints at its batches."""
    joint, state_value = JointQ(), StateValue()

    def init(key):
        joint_key, value_key = jax.random.split(key)
        hidden = jnp.zeros((1, env.num_agents, config.actor.hidden))
        action = jnp.zeros((1, env.num_agents, env.num_actions))
        state = jnp.zeros((1, env.state_size))
        return {"q": joint.init(joint_key, hidden, action, state), "v": state_value.init(value_key, state)}

    def joint_of(mixer, hidden, action, state):
        return joint.apply(mixer["q"], hidden, jax.nn.one_hot(action, env.num_actions), state)

    def loss(params, target, own, theirs, batch):
        state = batch.view.state
        best = best_actions(own.q, batch.view.avail)  # [T + 1, B, N]
        following = joint_of(target.mixer, theirs.hidden[1:], best[1:], state[1:])
        y = q_learning.td_target(batch.reward, batch.terminated, following, config.gamma)
        q = joint_of(params.mixer, own.hidden[:-1], batch.action, state[:-1])
        td = masked_mean(jnp.square(q - jax.lax.stop_gradient(y)), batch.mask)

        value = state_value.apply(params.mixer["v"], state[:-1])
        best_q = joint_of(params.mixer, own.hidden[:-1], best[:-1], state[:-1])
        best_sum = jnp.sum(value_of(own.q[:-1], best[:-1]), axis=-1)
        chosen_sum = jnp.sum(value_of(own.q[:-1], batch.action), axis=-1)
        opt = masked_mean(jnp.square(opt_error(best_sum, best_q, value)), batch.mask)
        nopt = masked_mean(jnp.square(nopt_error(chosen_sum, q, value)), batch.mask)
        metrics = {"critic_loss": td, "opt_loss": opt, "nopt_loss": nopt, "q": masked_mean(q, batch.mask)}
        return td + OPT * opt + NOPT * nopt, metrics

    return q_learning.Method(init, loss)


def make(config: Config, env: Environment) -> Learner:
    """The QTRAN-base learner of a run."""
    return q_learning.make(config, env, method(config, env))
