"""SQDDPG: Shapley Q-values, what an agent adds to the coalitions it may find (Wang et al. 2020).

The critic has an agent's marginal contribution to a coalition of others, given the actions of its members.
Its mean over sampled coalitions is the agent's Shapley Q-value; these add up to the team's Q, which is what
is fitted. What differs from the authors':

* They follow the gradient of an agent's Shapley Q-value in its own action, as DDPG does, and relax discrete
  actions by Gumbel-softmax. Here the critic has the contribution of each of an agent's actions, so the
  expectation over its policy is exact and no action need be relaxed: this is the gradient of
  E_{u_i ~ pi_i} Q_i, without bias, in its score-function form and with that expectation as the baseline.
* They replay. Here the batch is the current policies', as for the other actor-critics, so that what differs
  between learners is the credit.
"""

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
from seca_jax.algos.policy import policy_gradient
from seca_jax.config.schema import Config
from seca_jax.credit.shapley import random_orders, shapley_values
from seca_jax.envs.base import Environment
from seca_jax.networks.critic import CoalitionCritic
from seca_jax.types import Learner, View

HIDDEN = 128  # width of the critic's two hidden layers, COMA's


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of SQDDPG."""
    config = parts.config
    keys, rates = prepare(parts, state)
    coalition_key, critic_key = jax.random.split(keys.critic)

    # 1 Collect experience with the current policies, and draw coalitions for every step of it.
    stream, rollout = collect(parts, state, keys.rollout)
    parts = parts._replace(critic=critic_of(config, parts.env, coalition_key))

    # 2 Fit the sum of the Shapley Q-values to TD(lambda) targets.
    targets = td_targets(parts, state, rollout, config.credit.lam)
    state, critic_log = fit_critic(parts, state, rollout, targets, rates.critic, critic_key)

    # 3 Judge every agent by its Shapley Q-value against the expectation over its own policy.
    batch = under_critic(parts, state.params.critic, rollout, rollout.extra)
    advantage, value = batch.at_states(advantage_and_value)
    samples, credit_log = settle(config.credit, advantage, targets.outcome - value, rollout)

    # 4 Ascend the policy gradient, here with adaptive entropy.
    objective = partial(policy_gradient, config.actor)
    state, actor_log = fit_actor(parts, state, samples, objective, rates, keys.actor)

    return finish(state, stream, keys.next, rollout, critic_log, credit_log, actor_log)


def advantage_and_value(
    f: Callable[..., jax.Array], policy: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Q_i(s, u) - sum_u'i pi_i(u'i) Q_i(s, (u_C, u'i)) [..., N], and V(s) = sum_i Q_i(s, pi) [...].

    What came of a step is held against V, which knows of no action, and not against Q(s, u): an agent's
    action is in the Q_j of all whose coalitions it is in, and what it brought would be lost with them.

    Args:
        f: the critic at the states of the leading axes, see :func:`critic_of`.
        policy: [..., N, A].
        action: [..., N, A], one-hot.
    """
    own = f(action)
    return own - f(action, policy), jnp.sum(f(policy), axis=-1)


def critic_of(config: Config, env: Environment, key: jax.Array) -> Critic:
    """The critic, with the Shapley Q-value of every agent.

    ``apply(params, inputs)`` is ``(v, own=None) -> [..., N]``: the mean over coalitions of an agent's
    marginal contribution, expected over its row of ``own`` (by default of v), given the coalition's rows of
    ``v`` [..., N, A]. It is fitted to the sum over agents, and to that alone: as in the paper, nothing else
    tells the network how to share it out.

    Args:
        config: ``shapley.samples`` matters.
        env: the environment.
        key: the batch's; whoever asks for the inputs of its steps gets the same coalitions.
    """
    network = CoalitionCritic(hidden=HIDDEN, num_actions=env.num_actions)
    n, a, drawn = env.num_agents, env.num_actions, config.shapley.samples

    def init(key: jax.Array) -> Any:
        view = jnp.zeros((1, env.state_size)), jnp.zeros((1, n, env.obs_size))
        coalitions = jnp.zeros((1, drawn, n, n), bool)
        return network.init(key, *view, jnp.zeros((1, n), jnp.int32), jnp.zeros((1, n, a)), coalitions)

    def inputs(view: View, last_action: jax.Array) -> tuple:
        # The window and the views after it are asked for apart and need draws of their own
        own = jax.random.fold_in(key, len(last_action))
        orders = random_orders(own, last_action.shape[:-1], drawn, n)
        return view.state, view.obs, last_action, orders

    def apply(params: Any, inputs: tuple) -> Callable[..., jax.Array]:
        *seen, orders = inputs

        def f(v: jax.Array, own: jax.Array | None = None) -> jax.Array:
            marginal: Any = lambda coalitions: network.apply(params, *seen, v, coalitions)  # noqa: E731
            q = shapley_values(marginal, orders)
            return jnp.sum(q * (v if own is None else own), axis=-1)

        return f

    def team(f: Callable[..., jax.Array], v: jax.Array) -> jax.Array:
        return jnp.sum(f(v), axis=-1)

    return Critic(
        init=init,
        inputs=inputs,
        apply=apply,
        floats=n * (env.obs_size + n + a + HIDDEN + drawn * 2 * HIDDEN),
        value=team,
        errors=lambda f, policy, action, targets: jnp.square(team(f, action) - targets.values),
    )


def make(config: Config, env: Environment) -> Learner:
    """The SQDDPG learner of a run."""
    unused = jax.random.key(0)  # every update draws coalitions of its own
    return learner(assemble(config, env, critic_of(config, env, unused)), update)
