"""Path integrated gradients: what each agent's policy contributed along a trajectory (Eq. 1, 14)."""

from typing import Any, Callable

import chex
import jax
import jax.numpy as jnp

from seca_jax.arrays import in_chunks


def segment_contribution(
    evaluate: Callable[[Any, jax.Array], jax.Array],
    policy: jax.Array,
    state: Any,
    *,
    points: int,
    chunks: int = 1,
) -> jax.Array:
    """Contribution of every agent on each straight segment (s_t, pi_t) -> (s_{t+1}, pi_{t+1}).

        c^a_t = sum_j (1/K) sum_k df/dpi^a_j (at point k) * (pi^a_{t+1,j} - pi^a_{t,j})

    Points are the midpoints of K equal parts, so that the sum is exact where f is quadratic along
    the segment. The state moves along the path; the gradient is taken with respect to pi alone.

    Args:
        evaluate: critic ``(state, v [..., N, A]) -> [...]``.
        policy: [T, B, N, A].
        state: what the critic reads of it, leaves [T, B, ...].
        points: K >= 1.
        chunks: work on so many parts of the T steps one after the other; divides T.

    Returns:
        [T - 1, B, N].
    """
    # A last segment that goes nowhere, so that there are T and they divide as the steps do.
    step = jnp.diff(policy, axis=0, append=policy[-1:])
    move = jax.tree.map(lambda x: jnp.diff(x, axis=0, append=x[-1:]), state)
    alphas = (jnp.arange(points) + 0.5) / points

    def contribution(part: tuple) -> jax.Array:
        policy, state, step, move = part

        def at(alpha: jax.Array) -> jax.Array:
            here = jax.tree.map(lambda x, change: x + alpha * change, state, move)
            gradient = jax.grad(lambda v: jnp.sum(evaluate(here, v)))(policy + alpha * step)
            return jnp.sum(gradient * step, axis=-1)

        # One point after the other: the hypernetwork's weights for all points at once would be K
        # times the largest array of the update.
        return jnp.mean(jax.lax.map(at, alphas), axis=0)

    return in_chunks(contribution, (policy, state, step, move), chunks)[:-1]


def path_contribution(
    evaluate: Callable[[Any, jax.Array], jax.Array],
    policy: jax.Array,
    state: Any,
    *,
    points: int,
    mask: jax.Array,
    stage: jax.Array,
    chunks: int = 1,
) -> jax.Array:
    """Contribution of every agent over the stage that each step belongs to (Eq. 14).

    Args:
        evaluate: critic ``(state, v [..., N, A]) -> [...]``.
        policy: [T, B, N, A].
        state: what the critic reads of it, leaves [T, B, ...].
        points: K, points on each segment.
        mask: [T - 1, B] bool, true where steps t and t + 1 belong to one episode; other segments
            (across an episode's end, padding) take no part.
        stage: [T, B] integer label of each step's stage; a segment belongs to the stage of its
            first step.
        chunks: see :func:`segment_contribution`.

    Returns:
        [T, B, N]: for every step the summed contribution of its stage.
    """
    steps = policy.shape[:2]
    chex.assert_rank(policy, 4)
    chex.assert_equal_shape_prefix((policy, *jax.tree.leaves(state)), 2)
    chex.assert_shape((mask, stage), ((steps[0] - 1, steps[1]), steps))
    segment = segment_contribution(evaluate, policy, state, points=points, chunks=chunks)
    segment = jnp.where(mask[..., None], segment, 0.0)
    same = (stage[:, None] == stage[None, :-1]).astype(segment.dtype)  # [T, T - 1, B]
    return jnp.einsum("tsb,sbn->tbn", same, segment)
