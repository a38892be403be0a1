"""Shapley values by sampled orders: an agent's contribution to those before it, averaged over orders."""

from typing import Callable

import jax
import jax.numpy as jnp

from seca_jax.credit.advantage import ranks
from seca_jax.credit.order import at_random


def random_orders(key: jax.Array, lead: tuple[int, ...], samples: int, num_agents: int) -> jax.Array:
    """Orders drawn uniformly and independently: [*lead, samples, N] agent indices."""
    return at_random(key, (*lead, samples, num_agents))


def predecessors(order: jax.Array) -> jax.Array:
    """The coalition that every agent finds when it comes: [..., N] -> [..., N, N] bool.

    ``[n, m]``: agent m is before agent n in the order; nobody is before itself.
    """
    place = ranks(order)
    return place[..., None, :] < place[..., :, None]


def shapley_values(marginal: Callable[[jax.Array], jax.Array], orders: jax.Array) -> jax.Array:
    """Every agent's marginal contribution, averaged over orders.

    Over all N! orders, each once, they are the Shapley values; drawn orders estimate them without bias. Where
    the contributions are differences w(C + n) - w(C) of one game w, the agents' values add up to
    w(all) - w(nobody) whatever the orders (efficiency).

    Args:
        marginal: coalitions [..., K, N, N] bool -> contribution of agent n to its coalition, [..., K, N] or,
            with a value for each of its actions, [..., K, N, A].
        orders: [..., K, N] agent indices.

    Returns:
        [..., N] or [..., N, A].
    """
    return jnp.mean(marginal(predecessors(orders)), axis=orders.ndim - 2)
