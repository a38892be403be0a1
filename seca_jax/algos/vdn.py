"""VDN: the team's value is the sum of the agents' (Sunehag et al. 2018)."""

import jax.numpy as jnp

from seca_jax.algos import q_learning, qmix
from seca_jax.config import Config
from seca_jax.envs.base import Environment
from seca_jax.types import Algorithm


def make(config: Config, env: Environment) -> Algorithm:
    """The VDN learner of a run."""
    method = qmix.mixing(config.gamma, lambda params, q, state: jnp.sum(q, axis=-1), lambda key: {})
    return q_learning.make(config, env, method)
