"""A rollout made of given transitions: what targets need of it."""

import jax.numpy as jnp
import numpy as np

from seca_jax.experience.batch import Rollout
from seca_jax.types import Carry, View


def rollout_of(state, action, reward, terminated, truncated, tail_state):
    """``state`` [T, B, S], ``action`` [T, B, N], the others [T, B], ``tail_state`` [2, B, S]: after the last
    step, and where the time limit struck. Every step is a real one and none the first of its episode."""
    steps, num_envs, num_agents = np.shape(action)
    return Rollout(
        view=View(None, None, jnp.asarray(state)),
        action=jnp.asarray(action),
        extra=None,
        reward=jnp.asarray(reward),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(truncated),
        won=None,
        mask=jnp.ones((steps, num_envs), bool),
        age=jnp.ones((steps, num_envs), jnp.int32),
        returned=None,
        carry=Carry(None, jnp.zeros((num_envs, num_agents), jnp.int32)),
        tail=View(None, None, jnp.asarray(tail_state)),
        tail_carry=Carry(None, jnp.zeros((2, num_envs, num_agents), jnp.int32)),
        slot=jnp.ones(steps, jnp.int32),
    )
