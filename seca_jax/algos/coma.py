"""COMA: counterfactual multi-agent policy gradients (Foerster et al. 2018), with its own critic."""

import jax
import jax.numpy as jnp

from seca_jax.algos import actor_critic
from seca_jax.algos.actor_critic import by_advantage
from seca_jax.algos.critic import Evaluator
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.networks.critic import CounterfactualCritic
from seca_jax.types import Learner

HIDDEN = 128  # width of the critic's two hidden layers, PyMARL's


def evaluator(env: Environment) -> Evaluator:
    """COMA's critic: a value for every agent.

    ``at(params, reads)`` is ``(v, own=None) -> [..., N]``: the expectation, over each agent's row of
    ``own`` (by default of v), of its Q given the others' rows of ``v`` [..., N, A].
    """
    critic = CounterfactualCritic(hidden=HIDDEN, num_actions=env.num_actions)
    n, a = env.num_agents, env.num_actions

    def init(key):
        view = jnp.zeros((1, env.state_size)), jnp.zeros((1, n, env.obs_size))
        return critic.init(key, *view, jnp.zeros((1, n), jnp.int32), jnp.zeros((1, n, a)))

    def at(params, reads):
        def value(v, own=None):
            q = critic.apply(params, *reads, v)
            return jnp.sum(q * (v if own is None else own), axis=-1)

        return value

    return Evaluator(
        init=init,
        reads=lambda view, last_action: (view.state, view.obs, last_action),
        at=at,
        floats=n * (env.obs_size + n + n * a + 2 * HIDDEN),
    )


def judge(value, policy: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Counterfactual advantage, Eq. 5, and Q(s, u) as each agent's head has it, both [..., N].

    A^a = Q^a(s, u) - sum_u'a pi^a(u'a) Q^a(s, (u^-a, u'a)): one evaluation gives all of an agent's
    alternatives, so the expectation is exact.

    Args:
        value: the critic at the states of the leading axes, see :func:`evaluator`.
        policy: [..., N, A].
        action: [..., N, A], one-hot.
    """
    q = value(action)
    return q - value(action, policy), q


def make(config: Config, env: Environment) -> Learner:
    """The COMA learner of a run."""

    def assign(credit):
        return *credit.at_states(judge, credit.policy, credit.action), {}

    return actor_critic.make(config, env, evaluator(env), by_advantage(config, assign))
