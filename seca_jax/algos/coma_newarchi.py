"""COMA-newArchi: COMA's counterfactual advantage with SeCA's critic f_phi (Section 4.2 of the SeCA paper)."""

from functools import partial
from typing import Callable

import jax

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
    settle,
    td_targets,
    under_critic,
)
from seca_jax.algos.critic import team_critic
from seca_jax.algos.meter import credit_meter
from seca_jax.algos.policy import policy_gradient
from seca_jax.config.schema import Config
from seca_jax.credit.advantage import coma
from seca_jax.envs.base import Environment
from seca_jax.types import Learner


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of COMA-newArchi: SeCA's without an order."""
    config = parts.config
    keys, rates = prepare(parts, state)

    # 1 Collect experience with the current policies.
    stream, rollout = collect(parts, state, keys.rollout)

    # 2 Fit the critic f(s; v) to TD(lambda) targets.
    targets = td_targets(parts, state, rollout, config.credit.lam)
    unfitted = under_critic(parts, state.params.critic, rollout, rollout.extra)
    state, critic_log = fit_critic(parts, state, rollout, targets, rates.critic, keys.critic)

    # 3 Judge every agent against its own policy, the others' actions given.
    batch = under_critic(parts, state.params.critic, rollout, rollout.extra)
    advantage, value = batch.at_states(counterfactual_and_value)
    meter_log = credit_meter(unfitted, targets.values, counterfactual_and_value, keys.meter)
    samples, credit_log = settle(config.credit, advantage, targets.outcome - value, rollout)

    # 4 Ascend the policy gradient with adaptive entropy.
    objective = partial(policy_gradient, config.actor)
    state, actor_log = fit_actor(parts, state, samples, objective, rates, keys.actor)

    return finish(state, stream, keys.next, rollout, critic_log, meter_log, credit_log, actor_log)


def counterfactual_and_value(
    f: Callable[[jax.Array], jax.Array], policy: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Eq. 5's advantages with f in place of the expectation [..., N], and f(s; u) [...] of what was done."""
    return coma(f, policy, action), f(action)


def make(config: Config, env: Environment) -> Learner:
    """The COMA-newArchi learner of a run."""
    return learner(assemble(config, env, team_critic(config, env)), update)
