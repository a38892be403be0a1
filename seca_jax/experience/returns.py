"""TD(lambda) targets."""

import chex
import jax
import jax.numpy as jnp

from seca_jax.arrays import alongside


def td_lambda(
    reward: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    next_value: jax.Array,
    *,
    gamma: float,
    lam: float,
) -> jax.Array:
    """Targets of the critic, Eq. 10, for windows that may hold several episodes.

        y_t = r_t + gamma (1 - terminated_t) (lam y_{t+1} + (1 - lam) next_value_t)

    A time limit ends the chain and keeps the bootstrap: ``y_t = r_t + gamma next_value_t`` where
    ``truncated_t``, and the same at the last step of the window. What follows an episode's end in
    the arrays (padding or the next episode) does not reach back across it.

    Args:
        reward: [T, B].
        terminated: [T, B] bool, transition t reached a real end.
        truncated: [T, B] bool, transition t was cut by the time limit.
        next_value: [T, B], value of the state after transition t, before any restart; [T, B, N] where
            every agent has its own.
        gamma: discount, may be traced.
        lam: lambda, may be traced.

    Returns:
        as ``next_value``.
    """

    chex.assert_equal_shape((reward, terminated, truncated))
    chex.assert_rank((reward, next_value), (2, {2, 3}))
    chex.assert_equal_shape_prefix((reward, next_value), 2)

    def backward(y_next: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        r, end, cut, value = step
        mixed = jnp.where(cut, value, lam * y_next + (1.0 - lam) * value)
        y = r + gamma * jnp.where(end, 0.0, mixed)
        return y, y

    steps = (*(alongside(x, next_value) for x in (reward, terminated, truncated)), next_value)
    _, y = jax.lax.scan(backward, next_value[-1], steps, reverse=True)
    return y
