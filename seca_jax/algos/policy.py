"""The actor of the on-policy learners: how it acts, what it ascends, and the ascent."""

from dataclasses import replace
from typing import Any, Callable

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from seca_jax.algos.minibatches import descend, passes
from seca_jax.arrays import masked_mean
from seca_jax.config.schema import ActorConfig, Config
from seca_jax.envs.base import Environment
from seca_jax.experience.batch import Rollout
from seca_jax.networks import agent as networks
from seca_jax.networks.agent import Network, agent_input, unroll
from seca_jax.types import Carry

LIKELIER = 2.0  # bound of the weight of an action that older policies took
ENTROPY_FLOOR = 1e-3  # nats; below it the adaptive term stops growing instead of dividing 0 by 0


@struct.dataclass
class Samples:
    """What the actor learns from; leaves [T, B, ...], the hidden state's [1, B, ...]."""

    obs: jax.Array  # [T, B, N, O]
    last_action: jax.Array  # [T, B, N] int32
    avail: jax.Array  # [T, B, N, A] bool
    start: jax.Array  # [T, B] bool
    mask: jax.Array  # [T, B] bool
    action: jax.Array  # [T, B, N] int32
    data: Any  # what the objective needs besides, leaves [T, B, ...]
    hidden: jax.Array  # [1, B, N, H] before the first step


@struct.dataclass
class Judgement:
    """What :func:`policy_gradient` needs besides: ``Samples.data``."""

    advantage: jax.Array  # [T, B, N]
    log_prob: jax.Array  # [T, B, N] of the taken actions, when they were taken


# (logits [T, B, N, A], Samples) -> [T, B], what a step is worth to the actor, without the entropy
Objective = Callable[[jax.Array, Samples], jax.Array]


def make_agent(config: Config, env: Environment) -> Network:
    """The agents' network of a run, a policy's."""
    moves = env.moves if config.actor.start == "balanced" else 0
    return networks.make(config.actor, env.num_agents, env.num_actions, moves=moves)


def logits_of(
    agent: Network, params: Any, carry: Carry, obs: jax.Array, avail: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One step of the agents: (masked logits [..., B, N, A], next hidden state [..., B, N, H])."""
    x = agent_input(obs, carry.last_action, agent.num_actions)
    output: Any = agent.apply(params, carry.hidden, x, avail)
    hidden, logits = output
    return logits, hidden


def unrolled(agent: Network, params: Any, rollout: Rollout) -> jax.Array:
    """Masked logits along a rollout, [T, B, N, A]."""
    view = rollout.view
    hidden, last_action = rollout.carry.hidden, rollout.last_action()
    return unroll(agent, params, hidden, view.obs, last_action, view.avail, rollout.start)


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Log-probability of ``action`` [...] under masked ``logits`` [..., A]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def entropy_of(logits: jax.Array) -> jax.Array:
    """Entropy in nats over the available actions. Masked logits [..., A] -> [...]."""
    return -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), axis=-1)


def choices(mask: jax.Array, avail: jax.Array) -> jax.Array:
    """Agents with a choice at real steps. ``mask`` [T, B], ``avail`` [T, B, N, A] -> [T, B, N] bool."""
    return mask[..., None] & (jnp.sum(avail, axis=-1) > 1)


def adaptive_entropy(
    entropy: jax.Array, mask: jax.Array, avail: jax.Array, coefficient: Any, normalise: str
) -> jax.Array:
    """Adaptive entropy term, Eq. 12: xi H / stop_gradient(H), whose gradient is xi dH / H.

    Only real steps of agents with a choice have one; elsewhere it is 0 (an agent with one action left has
    H = 0 and nothing to explore).

    Args:
        entropy: [T, B, N].
        mask: [T, B] bool, real steps.
        avail: [T, B, N, A] bool.
        coefficient: xi, may be traced.
        normalise: ``state`` divides by every state's own entropy (the paper), ``batch`` by the mean
            over real steps and all agents (the authors' code), where those without a choice, the dead
            among them, count as 0; ``none`` by nothing: xi H, PPO's.

    Returns:
        [T, B, N].
    """
    chex.assert_shape((entropy, mask), (avail.shape[:-1], avail.shape[:2]))
    counted = choices(mask, avail)
    if normalise == "none":
        return jnp.where(counted, coefficient * entropy, 0.0)
    scale = entropy
    if normalise == "batch":
        scale = masked_mean(jnp.where(counted, entropy, 0.0), mask[..., None])
    scale = jax.lax.stop_gradient(jnp.maximum(scale, ENTROPY_FLOOR))
    return jnp.where(counted, coefficient * entropy / scale, 0.0)


def policy_gradient(config: ActorConfig, logits: jax.Array, samples: Samples) -> jax.Array:
    """The objective whose gradient is the advantages' part of Eq. 13: log pi(u) A, summed over agents.

    One update a batch ascends log pi(u) A; more of them ascend PPO's clipped surrogate.

    Args:
        config: ``epochs``, ``minibatches`` and ``clip`` matter.
        logits: [T, B, N, A], masked.
        samples: ``data`` is a :class:`Judgement`.

    Returns:
        [T, B].
    """
    advantage = samples.data.advantage
    log_prob = log_prob_of(logits, samples.action)
    if config.epochs * config.minibatches > 1:
        ratio = jnp.exp(log_prob - samples.data.log_prob)
        clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
        worth = jnp.minimum(ratio * advantage, clipped * advantage)
    else:
        worth = log_prob * advantage
    return jnp.sum(worth, axis=-1)


def samples(rollout: Rollout, data: Any) -> Samples:
    """The batch as the actor learns from it; ``data`` with leaves [T, B, ...]."""
    return Samples(
        obs=rollout.view.obs,
        last_action=rollout.last_action(),
        avail=rollout.view.avail,
        start=rollout.start,
        mask=rollout.mask,
        action=rollout.action,
        data=data,
        hidden=rollout.carry.hidden[None],
    )


def renewed(agent: Network, params: Any, batch: Samples) -> Samples:
    """A batch that older policies have played, as if the present ones had.

    Each advantage is weighed by how much likelier its action is now, at most twice, and the surrogate is
    clipped around the present policies: else those that the batch was played by would hold the actor back
    (Hilton et al. 2022, Batch size-invariance for policy optimization, decouple the two alike).

    Args:
        agent: the actor.
        params: its parameters, before the batch is learned from.
        batch: ``data`` is a :class:`Judgement`.
    """
    logits = unroll(agent, params, batch.hidden[0], batch.obs, batch.last_action, batch.avail, batch.start)
    log_prob = jax.lax.stop_gradient(log_prob_of(logits, batch.action))
    weight = jnp.minimum(jnp.exp(log_prob - batch.data.log_prob), LIKELIER)
    return replace(batch, data=Judgement(weight * batch.data.advantage, log_prob))


def fit(
    config: ActorConfig,
    agent: Network,
    tx: optax.GradientTransformation,
    learned: tuple[Any, Any],
    batch: Samples,
    objective: Objective,
    lr: Any,
    xi: Any,
    key: jax.Array,
) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
    """Ascent of objective and adaptive entropy, averaged over real steps, minibatch by minibatch.

    Args:
        config: ``normalise``, ``epochs`` and ``minibatches`` matter.
        agent: the actor.
        tx: of :func:`seca_jax.algos.minibatches.optimiser`.
        learned: (parameters, optimiser state).
        batch: what to learn from.
        objective: see :data:`Objective`.
        lr: learning rate, may be traced.
        xi: coefficient of the entropy, which is summed over agents; may be traced.
        key: for the minibatches.

    Returns:
        ``learned``, metrics.
    """

    def loss(params: Any, part: Samples) -> tuple[jax.Array, jax.Array]:
        logits = unroll(agent, params, part.hidden[0], part.obs, part.last_action, part.avail, part.start)
        worth = objective(logits, part)
        entropy = entropy_of(logits)
        bonus = adaptive_entropy(entropy, part.mask, part.avail, xi, config.normalise)
        # Eq. 13: summed over agents, averaged over steps.
        value = -masked_mean(worth + jnp.sum(bonus, axis=-1), part.mask)
        return value, masked_mean(entropy, choices(part.mask, part.avail))

    def update(learned: tuple[Any, Any], part: Samples) -> tuple[tuple[Any, Any], tuple]:
        params, opt = learned
        (value, entropy), gradient = jax.value_and_grad(loss, has_aux=True)(params, part)
        learned = descend(tx, gradient, opt, params, lr)
        return learned, (value, entropy, optax.tree.norm(gradient))

    learned, (value, entropy, norm) = passes(update, learned, batch, key, config.epochs, config.minibatches)
    return learned, {
        "actor_loss": jnp.mean(value),
        "entropy": jnp.mean(entropy[0]),
        "actor_grad_norm": jnp.mean(norm),
    }
