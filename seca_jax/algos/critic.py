"""Critics as the on-policy learners see them, and how they are fitted to TD(lambda) targets."""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seca_jax.algos.minibatches import descend, passes
from seca_jax.arrays import alongside, cut, in_chunks, num_chunks
from seca_jax.config.schema import Config, CriticConfig
from seca_jax.envs.base import Environment
from seca_jax.experience.returns import td_lambda
from seca_jax.experience.rollout import Rollout, next_value
from seca_jax.networks.critic import make_hypernetwork
from seca_jax.types import View


class Critic(NamedTuple):
    """A critic as functions. One value a state (f_phi) or one for every agent (COMA's) is its choice.

    Attributes:
        init: ``key -> parameters``.
        inputs: ``(View, last action [..., B, N]) -> the critic's inputs``, leaves [..., B, ...]: the
            state for f_phi.
        apply: ``(parameters, inputs [...]) -> f``, the critic at these states: ``v [..., N, A] ->
            value [...]`` or ``[..., N]``. What it computes from the inputs alone, the hypernetwork's
            output, is shared by all v.
        floats: size of what ``apply`` computes for one row of a batch.
    """

    init: Callable[[jax.Array], Any]
    inputs: Callable[[View, jax.Array], Any]
    apply: Callable[[Any, Any], Callable[..., jax.Array]]
    floats: int

    def chunks(self, mask: jax.Array) -> int:
        """In how many chunks to work on a batch whose mask is [T, B]."""
        return num_chunks(mask.shape[0], mask.shape[1] * self.floats)


def hypernetwork_critic(config: Config, env: Environment) -> Critic:
    """SeCA's critic f_phi(s; v) of Figure 3(a), which LICA and COMA-newArchi share."""
    network = make_hypernetwork(config.critic, env.num_agents, env.num_actions)
    return Critic(
        init=lambda key: network.init(key, jnp.zeros((1, env.state_size))),
        inputs=lambda view, last_action: view.state,
        apply=network.apply,
        floats=env.num_agents * env.num_actions * config.critic.mixing,
    )


def targets(
    critic: Critic,
    params: Any,
    rollout: Rollout,
    action: jax.Array,
    tail_policy: jax.Array,
    *,
    gamma: float,
    lam: float,
) -> jax.Array:
    """TD(lambda) targets of a batch, Eq. 10.

    Args:
        critic: the critic.
        params: its target parameters.
        rollout: the batch.
        action: [T, B, N, A], one-hot.
        tail_policy: [1 + slots, B, N, A], policies where the batch ends or the time limit struck. No
            action is taken there, so the bootstrap is the critic's value of the policies.
        gamma: discount, may be traced.
        lam: lambda, may be traced.

    Returns:
        [T, B], or [T, B, N] where the critic has a value for every agent.
    """
    inputs = critic.inputs(rollout.view, rollout.last_action())
    value = in_chunks(
        lambda part: critic.apply(params, part[0])(part[1]), (inputs, action), critic.chunks(rollout.mask)
    )
    tail_inputs = critic.inputs(rollout.tail, rollout.tail_carry.last_action)
    tail_value = critic.apply(params, tail_inputs)(tail_policy)
    return td_lambda(
        rollout.reward,
        rollout.terminated,
        rollout.truncated,
        next_value(rollout, value, tail_value),
        gamma=gamma,
        lam=lam,
    )


def fit(
    config: CriticConfig,
    critic: Critic,
    tx: optax.GradientTransformation,
    learned: tuple,
    batch: tuple,
    lr: Any,
    key: jax.Array,
) -> tuple[tuple, dict[str, jax.Array]]:
    """Squared error of the taken actions' values, L(phi) of Section 3.3, minibatch by minibatch.

    Args:
        config: ``updates``, ``minibatches`` and ``target_interval`` matter.
        critic: the critic.
        tx: of :func:`seca_jax.algos.minibatches.optimiser`.
        learned: (parameters, target parameters, optimiser state, critic updates so far).
        batch: (the critic's inputs, one-hot action [T, B, N, A], targets [T, B] or [T, B, N],
            mask [T, B]).
        lr: learning rate, may be traced.
        key: for the minibatches.

    Returns:
        ``learned``, metrics.
    """

    def errors(params: Any, chunk: tuple) -> jax.Array:
        inputs, action, y, mask = chunk
        error = jnp.square(critic.apply(params, inputs)(action) - y)
        return jnp.sum(jnp.where(alongside(mask, y), error, 0.0))

    def update(learned: tuple, part: tuple) -> tuple[tuple, tuple]:
        params, target, opt, count = learned

        def add(total, chunk):
            return jax.tree.map(jnp.add, total, jax.value_and_grad(errors)(params, chunk)), None

        *_, y, mask = part
        nothing = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, nothing, cut(part, critic.chunks(mask)))
        counted = jnp.sum(mask) * (y.size // mask.size)
        loss, gradient = jax.tree.map(lambda x: x / jnp.maximum(counted, 1), total)
        params, opt = descend(tx, gradient, opt, params, lr)
        count = count + 1
        copy = count % config.target_interval == 0
        target = jax.tree.map(lambda p, t: jnp.where(copy, p, t), params, target)
        return (params, target, opt, count), (loss, optax.tree.norm(gradient))

    learned, (loss, norm) = passes(update, learned, batch, key, config.updates, config.minibatches)
    return learned, {"critic_loss": jnp.mean(loss[0]), "critic_grad_norm": jnp.mean(norm)}
