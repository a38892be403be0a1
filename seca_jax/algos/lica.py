"""LICA: learning implicit credit assignment (Zhou et al. 2020): ascend f(s; pi) through the policy."""

from functools import partial
from typing import Any

import jax

from seca_jax.algos import policy
from seca_jax.algos.actor_critic import (
    Log,
    Parts,
    TrainState,
    assemble,
    collect,
    finish,
    fit_actor,
    fit_critic,
    learner,
    prepare,
    td_targets,
)
from seca_jax.algos.critic import Critic, team_critic
from seca_jax.algos.policy import Samples
from seca_jax.arrays import in_chunks
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.types import Learner


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of LICA."""
    keys, rates = prepare(parts, state)

    # 1 Collect experience with the current policies.
    stream, rollout = collect(parts, state, keys.rollout)

    # 2 Fit the critic f(s; v) to TD(lambda) targets.
    targets = td_targets(parts, state, rollout)
    state, critic_log = fit_critic(parts, state, rollout, targets, rates.critic, keys.critic)

    # 3 Ascend f(s; pi) through the policies, with adaptive entropy: as in the authors' code xi times its
    # mean over agents, where the other learners, whose advantages are summed over agents, have its sum.
    rates = rates._replace(entropy=rates.entropy / parts.env.num_agents)
    samples = policy.samples(rollout, parts.critic.inputs(rollout.view, rollout.last_action()))
    objective = partial(value_of_policies, parts.critic, state.params.critic)
    state, actor_log = fit_actor(parts, state, samples, objective, rates, keys.actor)

    return finish(state, stream, keys.next, rollout, critic_log, actor_log)


def value_of_policies(critic: Critic, params: Any, logits: jax.Array, samples: Samples) -> jax.Array:
    """The objective f(s; pi), whose gradient df/dpi . dpi/dtheta takes no score function.

    It is exact for whatever policy there is now, so several passes over a batch need no ratio; that
    the batch's states are an older policy's is all that ages.

    Args:
        critic: the critic.
        params: its parameters; the actor's ascent does not change them.
        logits: [T, B, N, A], masked.
        samples: ``data`` are the critic's inputs.

    Returns:
        [T, B].
    """
    # The hypernetwork's weights at all states would be the largest array of the update, so the
    # backward pass computes them again, chunk by chunk.
    evaluate = jax.checkpoint(lambda part: critic.apply(params, part[0])(part[1]))
    return in_chunks(evaluate, (samples.data, jax.nn.softmax(logits)), critic.chunks(samples.mask))


def make(config: Config, env: Environment) -> Learner:
    """The LICA learner of a run."""
    return learner(assemble(config, env, team_critic(config, env)), update)
