"""IPPO: PPO with a value of its own for every agent, of what that agent sees (de Witt et al. 2020).

As Yu et al. (2022) compare it with MAPPO: the same update, V(tau^a) in place of V(s), one set of parameters
for all agents.
"""

from seca_jax.algos.actor_critic import assemble, learner
from seca_jax.algos.critic import Critic
from seca_jax.algos.mappo import update, value_critic
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.networks.agent import agent_input
from seca_jax.types import Learner


def critic_of(config: Config, env: Environment) -> Critic:
    """V of an agent's observation, its last action and its number, [..., N]; feed-forward.

    The authors' is recurrent. In SMAX an observation has all that is within sight, positions and health
    included, and only what has left it could be remembered: a second recurrent network, unrolled in every
    pass of the critic, would cost as much as the actor for that.
    """
    n, a = env.num_agents, env.num_actions
    return value_critic(
        config,
        lambda view, last_action: agent_input(view.obs, last_action, a),
        env.obs_size + a + n,
    )


def make(config: Config, env: Environment) -> Learner:
    """The IPPO learner of a run."""
    return learner(assemble(config, env, critic_of(config, env)), update)
