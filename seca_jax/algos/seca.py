"""SeCA: sequential credit assignment, ordered by integrated gradients (Sections 3.3 and 3.4)."""

from dataclasses import replace
from functools import partial
from typing import Any, Callable

import jax
import jax.numpy as jnp
from flax import struct

from seca_jax.algos import actor_critic
from seca_jax.algos.actor_critic import (
    Log,
    Params,
    Parts,
    TrainState,
    UnderCritic,
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
from seca_jax.algos.policy import policy_gradient, unrolled
from seca_jax.arrays import masked_mean
from seca_jax.config.schema import Config, CreditConfig
from seca_jax.credit import attribution, order
from seca_jax.credit.advantage import sequential
from seca_jax.envs.base import Environment
from seca_jax.experience.batch import Rollout
from seca_jax.types import Assessment, Learner

MEMORY = 0.95  # of the running slope: about twenty updates


@struct.dataclass
class Slope:
    """Running sums of what a credit's slope is made of, their last batches counting most."""

    cross: jax.Array  # [] of E[(y - f(s; pi)) A_i]
    square: jax.Array  # [] of E[A_i^2]


def update(parts: Parts, state: TrainState) -> tuple[TrainState, Log]:
    """One update of SeCA."""
    config = parts.config
    keys, rates = prepare(parts, state)

    # 1 Collect experience with the current policies pi; their logits are rollout.extra.
    stream, rollout = collect(parts, state, keys.rollout)

    # 2 Fit the critic f(s; v) to TD(lambda) targets, Eq. 10.
    targets = td_targets(parts, state, rollout, config.credit.lam)
    unfitted = under_critic(parts, state.params.critic, rollout, rollout.extra)  # for the meter
    state, critic_log = fit_critic(parts, state, rollout, targets, rates.critic, keys.critic)

    # 3 Order the agents by their contributions, integrated gradients along the path of policies, Eq. 14.
    batch = under_critic(parts, state.params.critic, rollout, rollout.extra)
    ordered = order_of(config.credit, batch)

    # How true the critic's credit is on a batch that it has not been fitted to.
    meter_log = credit_meter(unfitted, targets.values, sequential_and_value, keys.meter, ordered)
    state, share = calibrated(config.credit, state, meter_log)

    # 4 Judge them one after the other in that order, Eq. 9. Ours: with the TD residual, to one size.
    advantage, value = batch.at_states(sequential_and_value, ordered)
    advantage, value = weighed(share, advantage, value)
    samples, credit_log = settle(config.credit, advantage, targets.outcome - value, rollout)

    # 5 Ascend Eq. 13's policy gradient with the adaptive entropy of Eq. 12.
    objective = partial(policy_gradient, config.actor)
    state, actor_log = fit_actor(parts, state, samples, objective, rates, keys.actor)

    own_log = {"order_moved": moved(ordered, rollout.mask), "credit_weight": jnp.asarray(share, jnp.float32)}
    return finish(state, stream, keys.next, rollout, critic_log, own_log, meter_log, credit_log, actor_log)


def order_of(config: CreditConfig, batch: UnderCritic) -> jax.Array:
    """The order that ``credit.order`` names: [T, B, N] agent indices, first assessed first."""
    return order.named(config.order, batch.policy, batch.action, partial(contribution, config, batch))


def contribution(config: CreditConfig, batch: UnderCritic, length: int | None) -> jax.Array:
    """:func:`contributions` to the batch's stages of ``length`` steps."""
    return contributions(
        config, batch.evaluate, batch.policy, batch.inputs, batch.rollout, length, batch.chunks
    )


def contributions(
    config: CreditConfig,
    evaluate: Callable[[Any, jax.Array], jax.Array],
    policy: jax.Array,
    inputs: Any,
    rollout: Rollout,
    length: int | None,
    chunks: int,
) -> jax.Array:
    """Contribution of every agent to the stage that each step belongs to, Eq. 14.

    Args:
        config: ``points`` and ``path`` matter. Backward takes the path's differences backwards, as the
            authors' code does; the contributions, and with them the order, change sign.
        evaluate: the critic, ``(inputs, v [..., N, A]) -> [...]``.
        policy: [T, B, N, A].
        inputs: the critic's, leaves [T, B, ...].
        rollout: whose steps these are.
        length: steps of a stage; None: the episode (the part of it inside the window).
        chunks: in how many chunks the steps are worked on.

    Returns:
        [T, B, N].
    """
    stage = order.stages(rollout.age, rollout.episode, length)
    c = attribution.path_contribution(
        evaluate,
        policy,
        inputs,
        points=config.points,
        mask=rollout.linked,
        stage=order.with_last(stage, rollout.linked),
        chunks=chunks,
    )
    return -c if config.path == "backward" else c


def sequential_and_value(
    f: Callable[[jax.Array], jax.Array], policy: jax.Array, action: jax.Array, ordered: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Eq. 9's advantages [..., N], and f(s; u) [...] of what was done."""
    return sequential(f, policy, action, ordered), f(action)


def calibrated(config: CreditConfig, state: TrainState, meter: Log) -> tuple[TrainState, float | jax.Array]:
    """The share that credit gets in the advantage: ``weight``, under ``calibrate`` times the running slope.

    A slope below 0 counts as 0, where credit is noise, and one above 1 as 1: it would be trusted more than
    the critic means.

    Args:
        config: ``weight`` and ``calibrate`` matter.
        state: whose slope goes on.
        meter: of :func:`~seca_jax.algos.meter.credit_meter`, from this batch.
    """
    if not config.calibrate:
        return state, config.weight
    square = jnp.square(meter["credit_rms"])
    slope = Slope(
        cross=MEMORY * state.slope.cross + (1 - MEMORY) * meter["credit_slope"] * square,
        square=MEMORY * state.slope.square + (1 - MEMORY) * square,
    )
    share = jnp.clip(slope.cross / jnp.maximum(slope.square, 1e-12), 0.0, 1.0)
    return replace(state, slope=slope), config.weight * share


def weighed(weight: float | jax.Array, advantage: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ours: a share of the differences, and f as if they had had that share: f(s; pi) at none.

    With the whole residual y - value, A_i = y - f(s; pi) + weight (D_i - sum_j D_j).

    Args:
        weight: share []; 1 changes nothing.
        advantage: [T, B, N], the differences D_i, which add up to f(s; u) - f(s; pi).
        value: [T, B], f(s; u).
    """
    if isinstance(weight, float) and weight == 1.0:
        return advantage, value
    return weight * advantage, value - (1.0 - weight) * jnp.sum(advantage, axis=-1)


def moved(ordered: jax.Array, mask: jax.Array) -> jax.Array:
    """How often the order departs from the agents' own numbering: 0 for fixed, 1 - 1/N at random.

    Args:
        ordered: [T, B, N] agent indices.
        mask: [T, B] bool, real steps; padding does not count.
    """
    return masked_mean(jnp.mean(ordered != jnp.arange(ordered.shape[-1]), axis=-1), mask)


def assess(parts: Parts, params: Params, rollout: Rollout) -> Assessment:
    """Orders and contributions over one whole episode, leaves [T, 1, ...], as training would see it."""
    config = parts.config.credit
    batch = under_critic(parts, params.critic, rollout, unrolled(parts.agent, params.actor, rollout))
    segment = attribution.segment_contribution(
        batch.evaluate, batch.policy, batch.inputs, points=config.points
    )
    segment = jnp.concatenate([segment, jnp.zeros_like(batch.policy[:1, ..., 0])])[:, 0]
    return Assessment(
        order=order_of(config, batch)[:, 0],
        contribution=-segment if config.path == "backward" else segment,
    )


def init(parts: Parts, key: jax.Array) -> TrainState:
    """The state that training starts from."""
    state = actor_critic.init(parts, key)
    if not parts.config.credit.calibrate:
        return state
    return replace(state, slope=Slope(jnp.zeros(()), jnp.zeros(())))


def make(config: Config, env: Environment) -> Learner:
    """The SeCA learner of a run."""
    parts = assemble(config, env, team_critic(config, env))
    return learner(parts, update, assess=partial(assess, parts))._replace(init=partial(init, parts))
