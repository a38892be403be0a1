"""Moments that policies live through, kept so that one can go back to them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seca_jax.envs.base import Environment, batch_axes, take
from seca_jax.experience.batch import Rollout
from seca_jax.experience.rollout import collect_episodes
from seca_jax.types import Act, Carry, View


@struct.dataclass
class Moments:
    """``M`` moments at which somebody decided something."""

    env: Any  # the environment's states
    carry: Carry  # [M, N, ...], what the agents remember as they decide
    action: jax.Array  # [M, N] int32, what they did


@struct.dataclass
class Remembered(View):
    """A view and the state that it is of."""

    env: Any


def live(env: Environment, act: Act, params: Any, carry: Carry, key: jax.Array, episodes: int) -> Rollout:
    """Whole episodes of the sampling policies with everything that is needed to go back.

    Args:
        env: the environment.
        act: the learner's.
        params: of one seed.
        carry: of fresh episodes.
        key: of all random numbers.
        episodes: B.

    Returns:
        The rollout; its ``view`` is a :class:`Remembered`, its ``extra`` the agents' Carry before they act.
    """

    def remember(state: Any) -> Remembered:
        view = env.view(state)
        return Remembered(view.obs, view.avail, view.state, state)

    def policy(
        params: Any, carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Carry, Carry]:
        return *act(params, carry, obs, avail, key, False), carry

    watched = dataclasses.replace(env, view=remember)
    return collect_episodes(watched, policy, params, carry, key, episodes)


def choose(rollout: Rollout, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(t, b) [M] of ``number`` real steps, all equally likely, none twice; earliest in the episode first.

    Fewer if there are no more.
    """
    width = rollout.mask.shape[1]
    real = np.flatnonzero(np.asarray(rollout.mask))
    chosen = np.sort(rng.choice(real, min(number, len(real)), replace=False))
    return chosen // width, chosen % width


def at(env: Environment, rollout: Rollout, t: np.ndarray, b: np.ndarray) -> Moments:
    """The moments at steps ``t`` of environments ``b`` [M] of a rollout of :func:`live`."""

    def flat(
        x: jax.Array, axis: int
    ) -> jax.Array:  # the state's leaves, stacked over time: T x B in one axis
        x = jnp.moveaxis(x, 0, axis)
        return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])

    assert isinstance(rollout.view, Remembered)
    states = jax.tree.map(flat, rollout.view.env, batch_axes(env))
    return Moments(
        env=take(env, states, jnp.asarray(t * rollout.mask.shape[1] + b)),
        carry=jax.tree.map(lambda x: x[t, b], rollout.extra),
        action=rollout.action[t, b],
    )
