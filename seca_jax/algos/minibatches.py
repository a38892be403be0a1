"""Gradient steps over a batch: passes, minibatches of whole environments, one optimiser step."""

from typing import Any, Callable

import jax
import jax.numpy as jnp
import optax

from seca_jax.arrays import held_whole, shared_out


def optimiser(max_grad_norm: float) -> optax.GradientTransformation:
    """Adam's direction of a clipped gradient; :func:`descend` scales it by the learning rate."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam())


def descend(
    tx: optax.GradientTransformation, gradient: Any, opt: Any, params: Any, lr: Any
) -> tuple[Any, Any]:
    """One step against the gradient: (params, optimiser state). ``lr`` may be traced."""
    update, opt = tx.update(gradient, opt, params)
    return optax.apply_updates(params, jax.tree.map(lambda u: -lr * u, update)), opt


def passes(
    update: Callable, carry: Any, batch: Any, key: jax.Array, count: int, minibatches: int
) -> tuple[Any, Any]:
    """``count`` passes of ``update`` over a batch, each in ``minibatches`` random sets of environments.

    Whole environments stay together: a recurrent agent learns from unbroken sequences.

    Args:
        update: ``(carry, part) -> (carry, log)``, as in ``lax.scan``.
        carry: its first argument.
        batch: pytree with leaves [T, B, ...].
        key: for shuffling; unused with one minibatch, whose order does not matter.
        count: passes.
        minibatches: parts of a pass; divides B.

    Returns:
        carry, logs stacked to [count, minibatches, ...].
    """

    def one(carry: Any, key: jax.Array) -> tuple[Any, Any]:
        if minibatches == 1:
            parts = jax.tree.map(lambda x: x[None], batch)
        else:
            num_envs = jax.tree.leaves(batch)[0].shape[1]
            places = jax.random.permutation(key, num_envs).reshape(minibatches, -1)
            # Any device's environments may be drawn into any minibatch
            parts = jax.tree.map(lambda x: jnp.moveaxis(jnp.take(x, places, axis=1), 1, 0), held_whole(batch))
            parts = shared_out(parts, 2)
        return jax.lax.scan(update, carry, parts)

    return jax.lax.scan(one, carry, jax.random.split(key, count))
