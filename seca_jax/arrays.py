"""Operations on arrays and trees of them that every wing may need: masks, and batches cut into chunks."""

from typing import Any, Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

ENVS = "env"  # the axis of a device mesh whose devices share a seed's environments

# Floats of hypernetwork output worked on at a time. A CPU is fastest while they stay in its cache
# (measured: 20 against 33 us of CPU time a step for the gradient on 2s3z), an accelerator wants the
# whole batch and only needs its memory bounded.
CHUNK = {"cpu": 2**19}
CHUNK_ELSEWHERE = 2**27


def alongside(x: jax.Array, value: jax.Array) -> jax.Array:
    """``x`` with axes of length 1 added at its end, to broadcast with ``value``: [T, B] with [T, B, N]."""
    return x.reshape(*x.shape, *[1] * (value.ndim - x.ndim))


def select_rows(mask: jax.Array, chosen: Any, other: Any) -> Any:
    """Rows of ``chosen`` where ``mask`` [B], of ``other`` elsewhere; trees with leaves [B, ...]."""
    return jax.tree.map(lambda x, y: jnp.where(alongside(mask, x), x, y), chosen, other)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of ``x`` where ``mask``; 0 where nothing is selected. Shapes broadcast.

    What is masked out may be NaN: it takes no part, in the gradient neither.
    """
    mask = jnp.broadcast_to(mask, x.shape)
    total = jnp.sum(jnp.where(mask, x, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def all_finite(tree: Any) -> jax.Array:
    """1.0 where every number of the tree is finite, else 0.0; float32 scalar."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)])).astype(jnp.float32)


def sharers() -> int:
    """Devices that share a seed's environments in the code that is being traced; 1 outside such code."""
    mesh = jax.sharding.get_abstract_mesh()
    return dict(zip(mesh.axis_names, mesh.axis_sizes)).get(ENVS, 1)


def shared_out(tree: Any, axes: Any) -> Any:
    """The same tree, its environments shared out among the :func:`sharers`; without them, untouched.

    It only says where numbers are kept. What follows is partitioned alike by XLA, which puts an all-reduce
    wherever a sum goes over all environments: learners are written as for one device.

    Args:
        tree: arrays with an axis of environments. One that does not divide evenly all of them have whole.
        axes: which axis that is: one number for all leaves, or a tree like ``tree``.
    """
    shares = sharers()
    if shares == 1:
        return tree

    def keep(x: jax.Array, axis: int) -> jax.Array:
        if x.shape[axis] % shares:  # left open, XLA would try halves of the devices, and may die of them
            return jax.lax.with_sharding_constraint(x, PartitionSpec())
        return jax.lax.with_sharding_constraint(x, PartitionSpec(*[None] * axis, ENVS))

    if isinstance(axes, int):
        axes = jax.tree.map(lambda _: axes, tree)
    return jax.tree.map(keep, tree, axes)


def held_whole(tree: Any) -> Any:
    """The same tree, whole on each of the :func:`sharers`: as :func:`shared_out` has it, undone."""
    if sharers() == 1:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def num_chunks(length: int, floats: int, limits: dict[str, int] = CHUNK) -> int:
    """Equal chunks to cut ``length`` rows into, of ``floats`` numbers each, to keep to the limit."""
    limit = limits.get(jax.default_backend(), CHUNK_ELSEWHERE)
    fitting = (n for n in range(1, length + 1) if length % n == 0 and length // n * floats <= limit)
    return next(fitting, length)


def cut(tree: Any, chunks: int) -> Any:
    """Leaves [T, B, ...] -> [chunks, T / chunks * B, ...].

    Rows are ordered by time, and by environment where several devices share these: every device then cuts
    its own share.
    """

    def rows(x: jax.Array) -> jax.Array:
        if sharers() > 1:
            x = x.reshape(chunks, -1, *x.shape[1:]).swapaxes(1, 2)
            return shared_out(x.reshape(chunks, -1, *x.shape[3:]), 1)
        return x.reshape(chunks, -1, *x.shape[2:])

    return jax.tree.map(rows, tree)


def in_chunks(function: Callable[[Any], Any], tree: Any, chunks: int) -> Any:
    """``function`` of leaves [rows, ...] over a tree of leaves [T, B, ...], one chunk after the other.

    What is large inside ``function`` then never exists for the whole batch at once.

    Returns:
        its results, back in [T, B, ...].
    """
    length, width = jax.tree.leaves(tree)[0].shape[:2]
    result = jax.lax.map(function, cut(tree, chunks))

    def joined(x: jax.Array) -> jax.Array:
        if sharers() > 1:
            x = x.reshape(chunks, width, -1, *x.shape[2:]).swapaxes(1, 2)
        return x.reshape(length, width, *x.shape[2 if sharers() == 1 else 3 :])

    return jax.tree.map(joined, result)
