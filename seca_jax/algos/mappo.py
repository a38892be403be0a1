"""MAPPO: PPO with one value of the state for the whole team (Yu et al. 2022); nobody is told apart."""

from dataclasses import replace
from functools import partial
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import optax

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
    sized,
    td_targets,
)
from seca_jax.algos.critic import Critic, Targets
from seca_jax.algos.policy import policy_gradient
from seca_jax.arrays import alongside, masked_mean
from seca_jax.config.schema import Config, ValueConfig
from seca_jax.envs.base import Environment
from seca_jax.networks.critic import Value, numbered
from seca_jax.types import Learner, View


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of MAPPO; of IPPO, whose critic has a value for every agent."""
    config = parts.config
    keys, rates = prepare(parts, state)

    # 1 Collect experience with the current policies.
    stream, rollout = collect(parts, state, keys.rollout)

    # 2 Judge the team by GAE: the TD(lambda) return less V as it was, the same for all agents.
    targets = td_targets(parts, state, rollout)
    advantage = jnp.broadcast_to(alongside(gae(targets), rollout.action), rollout.action.shape)
    samples, credit_log = sized(config.credit, advantage, rollout)

    # 3 Fit V to these returns.
    state = measured(config, state, targets, rollout.mask)
    state, critic_log = fit_critic(parts, state, rollout, targets, rates.critic, keys.critic)

    # 4 Ascend the clipped surrogate.
    objective = partial(policy_gradient, config.actor)
    state, actor_log = fit_actor(parts, state, samples, objective, rates, keys.actor)

    return finish(state, stream, keys.next, rollout, critic_log, credit_log, actor_log)


def gae(targets: Targets) -> jax.Array:
    """Generalised advantage estimate: sum_l (gamma lambda)^l delta_{t+l} = y_t - V(s_t).

    With delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t), all of one V: what the sum adds up
    to is the TD(lambda) return less V (Schulman et al. 2016, Eq. 16).

    Args:
        targets: of the critic that bootstraps; leaves [T, B] or [T, B, N].
    """
    assert targets.before is not None
    return targets.values - targets.before


class Judged(NamedTuple):
    """V at given states, as a critic is called: what anybody does is all one to it."""

    value: jax.Array  # [...] or [..., N]
    scale: jax.Array | float  # standard deviations are counted in it

    def __call__(self, v: jax.Array) -> jax.Array:
        """V. v [..., N, A] -> [...] or [..., N]."""
        del v
        return self.value


def value_critic(config: Config, inputs: Callable[[View, jax.Array], jax.Array], size: int) -> Critic:
    """A critic that has V of its inputs [..., size] and knows nothing of actions.

    Under ``value.norm`` the network has V in standard deviations from the mean of all returns so far;
    their moments are among the parameters, constants for the gradient, see :func:`measured`.
    """
    network = Value(hidden=config.critic.value_hidden)

    def init(key: jax.Array) -> dict[str, Any]:
        params: dict[str, Any] = {"network": network.init(key, jnp.zeros((1, size)))}
        if config.value.norm:
            params["returns"] = {name: jnp.zeros(()) for name in ("count", "mean", "square")}
        return params

    def apply(params: dict[str, Any], x: jax.Array) -> Judged:
        value: Any = network.apply(params["network"], x)
        if not config.value.norm:
            return Judged(value, 1.0)
        mean, deviation = moments(params["returns"])
        return Judged(mean + deviation * value, deviation)

    def errors(f: Judged, policy: jax.Array | None, action: jax.Array, targets: Targets) -> jax.Array:
        del policy, action
        return value_errors(config.value, f.value, targets, f.scale)

    return Critic(init=init, inputs=inputs, apply=apply, floats=2 * config.critic.value_hidden, errors=errors)


def value_errors(
    config: ValueConfig, value: jax.Array, targets: Targets, scale: jax.Array | float
) -> jax.Array:
    """Errors of V that the critic descends, in units of ``scale``.

    Squared; beyond ``huber`` they grow linearly. Under ``clip`` the larger of this error and that of a V
    held within ``clip`` of what it was before the batch counts, as in the authors' code.

    Args:
        config: ``huber`` and ``clip`` matter.
        value: [...].
        targets: leaves [...].
        scale: one number.
    """

    def loss(value: jax.Array) -> jax.Array:
        error = (value - targets.values) / scale
        return 2.0 * optax.losses.huber_loss(error, delta=config.huber) if config.huber else jnp.square(error)

    if not config.clip:
        return loss(value)
    before = targets.before
    assert before is not None
    reach = config.clip * scale
    return jnp.maximum(loss(value), loss(before + jnp.clip(value - before, -reach, reach)))


def moments(returns: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the returns so far, constants for the gradient; 0 and 1 before any."""
    mean, square, count = (jax.lax.stop_gradient(returns[name]) for name in ("mean", "square", "count"))
    deviation = jnp.sqrt(jnp.maximum(square - jnp.square(mean), 1e-2))
    return mean, jnp.where(count > 0, deviation, 1.0)


def measured(config: Config, state: TrainState, targets: Targets, mask: jax.Array) -> TrainState:
    """``state`` with the batch's returns in the moments that V is scaled by; all batches weigh alike."""
    if not config.value.norm:
        return state
    old = state.params.critic["returns"]
    count, real = old["count"] + 1.0, alongside(mask, targets.values)
    new = {
        "mean": masked_mean(targets.values, real),
        "square": masked_mean(jnp.square(targets.values), real),
    }
    returns = {name: old[name] + (new[name] - old[name]) / count for name in new} | {"count": count}
    if config.lookahead:  # the first batches are empty
        returns = {name: jnp.where(jnp.any(mask), returns[name], old[name]) for name in old}
    critic = {**state.params.critic, "returns": returns}
    return replace(state, params=replace(state.params, critic=critic))


def critic_of(config: Config, env: Environment) -> Critic:
    """V(s), or V of each agent's view of it, [..., N]; feed-forward: the state tells all there is to know.

    An agent's view is the state beside its own observation and number, as Yu et al. recommend: it says
    nothing new, but says it from where the agent stands.
    """
    if config.value.view == "state":
        return value_critic(config, lambda view, last_action: view.state, env.state_size)

    def views(view: View, last_action: jax.Array) -> jax.Array:
        state = jnp.broadcast_to(view.state[..., None, :], (*view.obs.shape[:-1], env.state_size))
        return jnp.concatenate([state, numbered(view.obs)], axis=-1)

    return value_critic(config, views, env.state_size + env.obs_size + env.num_agents)


def make(config: Config, env: Environment) -> Learner:
    """The MAPPO learner of a run."""
    return learner(assemble(config, env, critic_of(config, env)), update)
