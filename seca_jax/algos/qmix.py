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
    finish,
    fit,
    learner,
    td_target,
)
from seca_jax.arrays import masked_mean
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience.replay import Batch
from seca_jax.networks.mixers import QMixer, Utilities, best_actions, value_of
from seca_jax.types import Learner


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

    Where the mix is monotonic in every agent's value, the agents' own best actions are the best joint
    action, so the target's maximum needs no search.

    Args:
        mix: ``(mixer parameters, q [..., N], state [..., S]) -> [...]``.
        gamma: discount.
        params: what is learned.
        target: the target parameters.
        own: of the learning agents, [T + 1, B, ...].
        judges: of the target agents.
        batch: replayed episodes.
    """
    chosen = mix(params.mixer, value_of(own.q[:-1], batch.action), batch.view.state[:-1])
    # Double Q: the learning agents choose, the target agents judge.
    choice = best_actions(own.q, batch.view.avail)[1:]
    following = mix(target.mixer, value_of(judges.q[1:], choice), batch.view.state[1:])
    y = td_target(batch.reward, batch.terminated, following, gamma)
    error = chosen - jax.lax.stop_gradient(y)
    loss = masked_mean(jnp.square(error), batch.mask)
    return loss, {"critic_loss": loss, "q": masked_mean(chosen, batch.mask)}


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
