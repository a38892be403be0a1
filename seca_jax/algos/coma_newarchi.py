"""COMA-newArchi: COMA's counterfactual advantage with SeCA's critic f_phi (Section 4.2 of the SeCA paper)."""

from seca_jax.algos import actor_critic
from seca_jax.algos.actor_critic import by_advantage
from seca_jax.algos.critic import hypernetwork
from seca_jax.config.schema import Config
from seca_jax.credit import advantage
from seca_jax.envs.base import Environment
from seca_jax.types import Learner


def make(config: Config, env: Environment) -> Learner:
    """The COMA-newArchi learner of a run."""

    def judge(mixer, policy, action):
        return advantage.coma(mixer, policy, action), mixer(action)

    def assign(credit):
        return *credit.at_states(judge, credit.policy, credit.action), {}

    return actor_critic.make(config, env, hypernetwork(config, env), by_advantage(config, assign))
