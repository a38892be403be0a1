"""Advantages of single agents: sequential (the paper's), exact by enumeration, and COMA's.

``evaluate`` is the critic f at fixed states: it takes action-policy vectors ``[..., N, A]``, whose
rows are one-hot actions or policies, and returns ``[...]``.
"""

import itertools
from typing import Callable

import chex
import jax
import jax.numpy as jnp

Evaluate = Callable[[jax.Array], jax.Array]


def ranks(order: jax.Array) -> jax.Array:
    """Place of every agent in an order of agent indices: [..., N] -> [..., N]."""
    return jnp.argsort(order, axis=-1)


def prefixes(policy: jax.Array, action: jax.Array, order: jax.Array) -> jax.Array:
    """The vectors v^(0) .. v^(N) of Eq. 9: actions for the first i agents, policies for the rest.

    Args:
        policy: [..., N, A].
        action: [..., N, A], one-hot.
        order: [..., N] agent indices, first assessed first.

    Returns:
        [N + 1, ..., N, A].
    """
    num_agents = policy.shape[-2]
    rank = ranks(order)

    def prefix(i: jax.Array) -> jax.Array:
        return jnp.where((rank < i)[..., None], action, policy)

    return jax.vmap(prefix)(jnp.arange(num_agents + 1))


def _check(policy: jax.Array, action: jax.Array, order: jax.Array) -> None:
    """Raises AssertionError unless the shapes are [..., N, A] twice and [..., N]."""
    chex.assert_equal_shape((policy, action))
    chex.assert_shape(order, policy.shape[:-1])


def _by_agent(values: jax.Array, order: jax.Array) -> jax.Array:
    """Differences of successive prefix values [N + 1, ...], handed to the agents: [..., N]."""
    steps = jnp.moveaxis(values[1:] - values[:-1], 0, -1)
    return jnp.take_along_axis(steps, ranks(order), axis=-1)


def sequential(evaluate: Evaluate, policy: jax.Array, action: jax.Array, order: jax.Array) -> jax.Array:
    """Sequential advantage, Eq. 9: A^{o_i} = f(s; v^(i)) - f(s; v^(i-1)), vmapped over i.

    It telescopes: the sum over agents is f(s; u) - f(s; pi), whatever the order (Claim 1).

    Args:
        evaluate: critic at the states of the leading axes.
        policy: [..., N, A].
        action: [..., N, A], one-hot.
        order: [..., N] agent indices, first assessed first.

    Returns:
        [..., N], in the agents' own numbering.
    """
    _check(policy, action, order)
    return _by_agent(jax.vmap(evaluate)(prefixes(policy, action, order)), order)


def exact(evaluate: Evaluate, policy: jax.Array, action: jax.Array, order: jax.Array) -> jax.Array:
    """Sequential advantage by Eq. 7: expectations over the A^N joint actions, no approximation.

    Args and result as :func:`sequential`; ``evaluate`` only ever sees one-hot joint actions, so f
    is Q. The cost grows as A^N: particle tasks and probe games.
    """
    _check(policy, action, order)
    num_agents, num_actions = policy.shape[-2:]
    joint = jnp.array(list(itertools.product(range(num_actions), repeat=num_agents)))  # [J, N]
    one_hot = jax.nn.one_hot(joint, num_actions)  # [J, N, A]
    lead = policy.shape[:-2]
    q = jax.lax.map(lambda u: evaluate(jnp.broadcast_to(u, (*lead, *u.shape))), one_hot)  # [J, ...]

    def expected(v: jax.Array) -> jax.Array:
        rows = jnp.einsum("...na,jna->j...n", v, one_hot)
        return jnp.sum(q * jnp.prod(rows, axis=-1), axis=0)

    return _by_agent(jax.vmap(expected)(prefixes(policy, action, order)), order)


def coma(evaluate: Evaluate, policy: jax.Array, action: jax.Array) -> jax.Array:
    """COMA's counterfactual advantage, Eq. 5, with f in place of the expectation (COMA-newArchi).

    A^a = f(s; u) - f(s; u with row a replaced by pi^a). Shapes as :func:`sequential`.
    """
    chex.assert_equal_shape((policy, action))
    num_agents = policy.shape[-2]

    def without(a: jax.Array) -> jax.Array:
        own = (jnp.arange(num_agents) == a)[:, None]
        return evaluate(jnp.where(own, policy, action))

    baseline = jnp.moveaxis(jax.vmap(without)(jnp.arange(num_agents)), 0, -1)
    return evaluate(action)[..., None] - baseline
