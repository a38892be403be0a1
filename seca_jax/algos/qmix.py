"""QMIX: the team's value is a monotonic mix of the agents' (Rashid et al. 2018)."""

from typing import Callable

import jax
import jax.numpy as jnp

from seca_jax.algos import q_learning
from seca_jax.arrays import masked_mean
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.networks.mixers import QMixer, best_actions, value_of
from seca_jax.types import Learner


def mixing(gamma: float, mix: Callable, init: Callable) -> q_learning.Method:
    """Double Q-learning of a mix of the agents' values.

    Where the mix is monotonic in every agent's value, the agents' own best actions are the best joint
    action, so the target's maximum needs no search.

    Args:
        gamma: discount.
        mix: ``(mixer parameters, q [..., N], state [..., S]) -> [...]``.
        init: ``key -> mixer parameters``.
    """

    def loss(params, target, own, theirs, batch):
        chosen = mix(params.mixer, value_of(own.q[:-1], batch.action), batch.view.state[:-1])
        # Double Q: the learning agents choose, the target agents judge.
        choice = best_actions(own.q, batch.view.avail)[1:]
        following = mix(target.mixer, value_of(theirs.q[1:], choice), batch.view.state[1:])
        y = q_learning.td_target(batch.reward, batch.terminated, following, gamma)
        error = chosen - jax.lax.stop_gradient(y)
        loss = masked_mean(jnp.square(error), batch.mask)
        return loss, {"critic_loss": loss, "q": masked_mean(chosen, batch.mask)}

    return q_learning.Method(init, loss)


def make(config: Config, env: Environment) -> Learner:
    """The QMIX learner of a run."""
    mixer = QMixer(embed=config.q.mixing, hypernet=config.q.hypernet)

    def init(key):
        return mixer.init(key, jnp.zeros((1, env.num_agents)), jnp.zeros((1, env.state_size)))

    return q_learning.make(config, env, mixing(config.gamma, mixer.apply, init))
