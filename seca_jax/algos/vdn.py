"""VDN: the team's value is the sum of the agents' (Sunehag et al. 2018); QMIX's update without its mixer."""

import jax
import jax.numpy as jnp

from seca_jax.algos.q_learning import Mixer, assemble, learner
from seca_jax.algos.qmix import update
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.types import Learner


def total(params: dict, q: jax.Array, state: jax.Array) -> jax.Array:
    """The team's value: the agents' values [..., N], added up -> [...]; nothing is learned, nothing read."""
    del params, state
    return jnp.sum(q, axis=-1)


def make(config: Config, env: Environment) -> Learner:
    """The VDN learner of a run."""
    return learner(assemble(config, env, Mixer(init=lambda key: {}, apply=total)), update)
