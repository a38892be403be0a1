"""COMA: counterfactual multi-agent policy gradients (Foerster et al. 2018), with its own critic."""

from functools import partial
from typing import Any, Callable

import jax
import jax.numpy as jnp

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
from seca_jax.algos.critic import Critic
from seca_jax.algos.meter import credit_meter
from seca_jax.algos.policy import policy_gradient
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.networks.critic import CounterfactualCritic
from seca_jax.types import Learner

HIDDEN = 128  # width of the critic's two hidden layers, PyMARL's


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of COMA."""
    config = parts.config
    keys, rates = prepare(parts, state)

    # 1 Collect experience with the current policies.
    stream, rollout = collect(parts, state, keys.rollout)

    # 2 Fit every agent's Q to its TD(lambda) targets.
    targets = td_targets(parts, state, rollout, config.credit.lam)
    unfitted = under_critic(parts, state.params.critic, rollout, rollout.extra)
    state, critic_log = fit_critic(parts, state, rollout, targets, rates.critic, keys.critic)

    # 3 Judge every agent against the expectation over its own policy, the others' actions given, Eq. 5.
    batch = under_critic(parts, state.params.critic, rollout, rollout.extra)
    advantage, value = batch.at_states(counterfactual_and_value)
    meter_log = credit_meter(unfitted, targets.values, counterfactual_and_value, keys.meter)
    samples, credit_log = settle(config.credit, advantage, targets.outcome - value, rollout)

    # 4 Ascend the policy gradient, here with adaptive entropy.
    objective = partial(policy_gradient, config.actor)
    state, actor_log = fit_actor(parts, state, samples, objective, rates, keys.actor)

    return finish(state, stream, keys.next, rollout, critic_log, meter_log, credit_log, actor_log)


def counterfactual_and_value(
    f: Callable[..., jax.Array], policy: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Counterfactual advantage, Eq. 5, and Q(s, u) as each agent's head has it, both [..., N].

    A^a = Q^a(s, u) - sum_u'a pi^a(u'a) Q^a(s, (u^-a, u'a)): one evaluation gives all of an agent's
    alternatives, so the expectation is exact.

    Args:
        f: the critic at the states of the leading axes, see :func:`critic_of`.
        policy: [..., N, A].
        action: [..., N, A], one-hot.
    """
    q = f(action)
    return q - f(action, policy), q


def critic_of(env: Environment) -> Critic:
    """COMA's critic: a value for every agent.

    ``apply(params, inputs)`` is ``(v, own=None) -> [..., N]``: the expectation, over each agent's row of
    ``own`` (by default of v), of its Q given the others' rows of ``v`` [..., N, A].
    """
    network = CounterfactualCritic(hidden=HIDDEN, num_actions=env.num_actions)
    n, a = env.num_agents, env.num_actions

    def init(key: jax.Array) -> Any:
        view = jnp.zeros((1, env.state_size)), jnp.zeros((1, n, env.obs_size))
        return network.init(key, *view, jnp.zeros((1, n), jnp.int32), jnp.zeros((1, n, a)))

    def apply(params: Any, inputs: tuple) -> Callable[..., jax.Array]:
        def f(v: jax.Array, own: jax.Array | None = None) -> jax.Array:
            q: Any = network.apply(params, *inputs, v)
            return jnp.sum(q * (v if own is None else own), axis=-1)

        return f

    return Critic(
        init=init,
        inputs=lambda view, last_action: (view.state, view.obs, last_action),
        apply=apply,
        floats=n * (env.obs_size + n + n * a + 2 * HIDDEN),
    )


def make(config: Config, env: Environment) -> Learner:
    """The COMA learner of a run."""
    return learner(assemble(config, env, critic_of(env)), update)
