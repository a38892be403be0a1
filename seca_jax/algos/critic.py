"""Critics as the on-policy learner sees them, and how they are fitted to TD(lambda) targets."""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seca_jax.algos.minibatches import descend, passes
from seca_jax.arrays import alongside, cut, in_chunks, num_chunks
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience import rollout as rollouts
from seca_jax.experience.returns import td_lambda
from seca_jax.networks.critic import make_critic


class Evaluator(NamedTuple):
    """A critic as functions. One value a state (f_phi) or one for every agent (COMA's) is its choice."""

    init: Callable  # key -> parameters
    reads: Callable  # (View, last_action [..., B, N]) -> what it looks at, leaves [..., B, ...]
    at: Callable  # (parameters, what it looks at [...]) -> (v [..., N, A] -> value [...] or [..., N])
    floats: int  # size of what it computes for one row of a batch

    def chunks(self, mask: jax.Array) -> int:
        """In how many chunks to work on a batch whose mask is [T, B]."""
        return num_chunks(mask.shape[0], mask.shape[1] * self.floats)


def hypernetwork(config: Config, env: Environment) -> Evaluator:
    """SeCA's critic f_phi(s; v) of Figure 3(a), which LICA and COMA-newArchi share."""
    critic = make_critic(config, env.num_agents, env.num_actions)
    return Evaluator(
        init=lambda key: critic.init(key, jnp.zeros((1, env.state_size))),
        reads=lambda view, last_action: view.state,
        at=critic.apply,
        floats=env.num_agents * env.num_actions * config.critic.mixing,
    )


def targets(
    config: Config,
    evaluator: Evaluator,
    params: Any,
    rollout: rollouts.Rollout,
    action: jax.Array,
    tail_policy: jax.Array,
) -> jax.Array:
    """TD(lambda) targets of a batch, Eq. 10.

    Args:
        config: the run's; gamma and lam matter.
        evaluator: the critic.
        params: its target parameters.
        rollout: the batch.
        action: [T, B, N, A], one-hot.
        tail_policy: [1 + slots, B, N, A], policies where the batch ends or the time limit struck. No
            action is taken there, so the bootstrap is the critic's value of the policies.

    Returns:
        [T, B], or [T, B, N] where the critic has a value for every agent.
    """
    reads = evaluator.reads(rollout.view, rollout.last_action())
    value = in_chunks(
        lambda part: evaluator.at(params, part[0])(part[1]), (reads, action), evaluator.chunks(rollout.mask)
    )
    tail_reads = evaluator.reads(rollout.tail, rollout.tail_carry.last_action)
    tail_value = evaluator.at(params, tail_reads)(tail_policy)
    return td_lambda(
        rollout.reward,
        rollout.terminated,
        rollout.truncated,
        rollouts.next_value(rollout, value, tail_value),
        gamma=config.gamma,
        lam=config.lam,
    )


def fit(
    config: Config,
    evaluator: Evaluator,
    tx: optax.GradientTransformation,
    learned: tuple,
    batch: tuple,
    lr: Any,
    key: jax.Array,
) -> tuple[tuple, dict[str, jax.Array]]:
    """Squared error of the taken actions' values, L(phi) of Section 3.3, minibatch by minibatch.

    Args:
        config: the run's; ``critic.*`` matters.
        evaluator: the critic.
        tx: of :func:`seca_jax.algos.minibatches.optimiser`.
        learned: (parameters, target parameters, optimiser state, critic updates so far).
        batch: (what the critic reads, one-hot action [T, B, N, A], targets [T, B] or [T, B, N],
            mask [T, B]).
        lr: learning rate, may be traced.
        key: for the minibatches.

    Returns:
        ``learned``, metrics.
    """

    def update(carry, part):
        params, target, opt, count = carry

        def errors(params, piece):
            reads, action, y, mask = piece
            error = jnp.square(evaluator.at(params, reads)(action) - y)
            return jnp.sum(jnp.where(alongside(mask, y), error, 0.0))

        def add(total, piece):
            return jax.tree.map(jnp.add, total, jax.value_and_grad(errors)(params, piece)), None

        *_, y, mask = part
        nothing = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, nothing, cut(part, evaluator.chunks(mask)))
        counted = jnp.sum(mask) * (y.size // mask.size)
        loss, gradient = jax.tree.map(lambda x: x / jnp.maximum(counted, 1), total)
        params, opt = descend(tx, gradient, opt, params, lr)
        count = count + 1
        copy = count % config.critic.target_interval == 0
        target = jax.tree.map(lambda p, t: jnp.where(copy, p, t), params, target)
        return (params, target, opt, count), (loss, optax.tree.norm(gradient))

    learned, (loss, norm) = passes(
        update, learned, batch, key, config.critic.updates, config.critic.minibatches
    )
    return learned, {"critic_loss": jnp.mean(loss[0]), "critic_grad_norm": jnp.mean(norm)}
