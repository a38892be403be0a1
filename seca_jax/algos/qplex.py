"""QPLEX: duplex dueling, any team's value that the agents' own best actions maximise (Wang et al. 2020)."""

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
from seca_jax.networks.mixers import DuplexMixer, Utilities, best_actions, value_of
from seca_jax.types import Learner, View


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of QPLEX."""
    keys = Keys(*jax.random.split(state.key, 3))

    # 1 Collect whole episodes with epsilon-greedy agents, into the replay buffer.
    memory, rollout, explore_log = collect(parts, state, keys.rollout)

    # 2 Fit agents and mixer to the one-step double Q target, on episodes drawn from the buffer.
    loss = partial(duplex_loss, parts.mixer.apply, parts.config.gamma)
    state, fit_log = fit(parts, state, memory, loss, keys.replay)

    return finish(parts, state, memory, keys.next, rollout, fit_log, explore_log)


def duplex_loss(
    mix: Callable[..., jax.Array],
    gamma: float,
    params: Params,
    target: Params,
    own: Utilities,
    judges: Utilities,
    batch: Batch,
) -> tuple[jax.Array, Log]:
    """Double Q-learning of the dueling mix: mean squared one-step TD error.

    Args:
        mix: of :func:`mixer_of`.
        gamma: and what follows: see :func:`~seca_jax.algos.q_learning.double_q`.
    """

    def team(mixer: Any, q: jax.Array, action: jax.Array, view: View) -> jax.Array:
        best = value_of(q, best_actions(q, view.avail))
        return mix(mixer, value_of(q, action), best, jax.nn.one_hot(action, q.shape[-1]), view.state)

    return double_q(team, gamma, params, target, own, judges, batch)


def mixer_of(config: Config, env: Environment) -> Mixer:
    """QPLEX's mixing network; what it reads is told at :class:`DuplexMixer`."""
    network = DuplexMixer(heads=config.q.heads, hypernet=config.q.hypernet, depth=config.q.depth)
    apply: Any = network.apply

    def init(key: jax.Array) -> Any:
        q = jnp.zeros((1, env.num_agents))
        action = jnp.zeros((1, env.num_agents, env.num_actions))
        return network.init(key, q, q, action, jnp.zeros((1, env.state_size)))

    return Mixer(init, apply)


def make(config: Config, env: Environment) -> Learner:
    """The QPLEX learner of a run."""
    return learner(assemble(config, env, mixer_of(config, env)), update)
