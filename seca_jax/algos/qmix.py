"""QMIX: the team's value is a monotonic mix of the agents' (Rashid et al. 2018)."""

from functools import partial
from typing import Any, Callable

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
    double_q,
    finish,
    fit,
    learner,
)
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience.replay import Batch
from seca_jax.networks.mixers import QMixer, Utilities, value_of
from seca_jax.types import Learner, View


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of QMIX; of VDN, whose mixer is the sum."""
    keys = Keys(*jax.random.split(state.key, 3))

    # 1 Collect whole episodes with epsilon-greedy agents, into the replay buffer.
    memory, rollout, explore_log = collect(parts, state, keys.rollout)

    # 2 Fit agents and mixer to the one-step double Q target, on episodes drawn from the buffer.
    loss = partial(double_q_loss, parts.mixer.apply, parts.config.gamma)
    state, fit_log = fit(parts, state, memory, loss, keys.replay)

    return finish(parts, state, memory, keys.next, rollout, fit_log, explore_log)


def double_q_loss(
    mix: Callable,
    gamma: float,
    params: Params,
    target: Params,
    own: Utilities,
    judges: Utilities,
    batch: Batch,
) -> tuple[jax.Array, Log]:
    """Double Q-learning of a mix of the agents' values: mean squared one-step TD error.

    The mix is monotonic in every agent's value, so that the agents' own best actions are the best joint one.

    Args:
        mix: ``(mixer parameters, q [..., N], state [..., S]) -> [...]``.
        gamma: and what follows: see :func:`~seca_jax.algos.q_learning.double_q`.
    """

    def team(mixer: Any, q: jax.Array, action: jax.Array, view: View) -> jax.Array:
        return mix(mixer, value_of(q, action), view.state)

    return double_q(team, gamma, params, target, own, judges, batch)


def mixer_of(config: Config, env: Environment) -> Mixer:
    """QMIX's mixing network, whose weights are never negative."""
    network = QMixer(embed=config.q.mixing, hypernet=config.q.hypernet)
    apply: Any = network.apply
    return Mixer(
        init=lambda key: network.init(key, jnp.zeros((1, env.num_agents)), jnp.zeros((1, env.state_size))),
        apply=apply,
    )


def make(config: Config, env: Environment) -> Learner:
    """The QMIX learner of a run."""
    return learner(assemble(config, env, mixer_of(config, env)), update)
