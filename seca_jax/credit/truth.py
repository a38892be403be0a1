"""What each agent's action was really worth: from returns of coalitions to terms of credit, in NumPy.

A coalition plays the actions that were taken while the others draw from their policies. Its expected
return is E[Q(s, u)] with the actions of its members fixed, and every term of credit in the paper is a
difference of two of them:

============  =================================================================================
``sequential``  Eq. 7: the first i agents of an order, less the first i - 1
``coma``        Eq. 5: everybody, less everybody but the agent
``marginal``    Eq. 6: the agent alone, less nobody
``joint``       Q(s, u) - V(s): everybody, less nobody; the same for all agents
``shapley``     the agent's marginal to all coalitions of the others, averaged over all orders
============  =================================================================================

A coalition is an integer, bit a set where agent a is in it.
"""

import math
from typing import NamedTuple

import numpy as np

EVERY = 6  # agents up to which all 2^N coalitions are played, and Shapley values exact


class Estimate(NamedTuple):
    """An unbiased estimate of something at every moment, and how sure it is."""

    mean: np.ndarray  # [M, ...]
    error: np.ndarray  # [M, ...], standard error of the mean; NaN from a single branch
    halves: np.ndarray  # [2, M, ...], means of the even and of the odd branches: independent


class Truth(NamedTuple):
    """The terms of credit at ``M`` moments of ``N`` agents."""

    value: Estimate  # [M], V(s)
    q: Estimate  # [M], Q(s, u)
    sequential: dict[str, Estimate]  # by order, [M, N] in the agents' own numbering
    coma: Estimate  # [M, N]
    marginal: Estimate  # [M, N]
    joint: Estimate  # [M, N]
    shapley: Estimate | None  # [M, N]; None beyond EVERY agents


def estimate(sample: np.ndarray) -> Estimate:
    """From one value per branch, [M, R, ...]."""
    sample = np.asarray(sample, np.float64)
    branches = sample.shape[1]
    spread = sample.std(axis=1, ddof=1) if branches > 1 else np.full_like(sample[:, 0], np.nan)
    halves = np.stack([sample[:, half::2].mean(axis=1) if branches > half else spread for half in (0, 1)])
    return Estimate(sample.mean(axis=1), spread / math.sqrt(branches), halves)


def prefixes(order: np.ndarray) -> np.ndarray:
    """The coalitions of the first 0, 1, ..., N agents of an order. [M, N] agent indices -> [M, N + 1]."""
    bits = np.cumsum(np.int64(1) << np.asarray(order, np.int64), axis=-1)
    return np.concatenate([np.zeros_like(bits[:, :1]), bits], axis=-1)


def _fixed(num_agents: int) -> dict[str, np.ndarray]:
    """The coalitions that no order decides, by name."""
    agent = np.int64(1) << np.arange(num_agents, dtype=np.int64)
    full = agent.sum()
    named = {"nobody": agent[:1] * 0, "all": full[None], "alone": agent, "without": full - agent}
    if num_agents <= EVERY:
        named["every"] = np.arange(2**num_agents, dtype=np.int64)
    return named


def coalitions(orders: dict[str, np.ndarray]) -> np.ndarray:
    """The coalitions whose returns :func:`terms` wants.

    Args:
        orders: [M, N] agent indices, first assessed first, by name.

    Returns:
        [M, C] int64. Some are there twice: whoever plays them plays equal ones once.
    """
    moments, num_agents = next(iter(orders.values())).shape
    fixed = np.concatenate(list(_fixed(num_agents).values()))
    parts = [np.broadcast_to(fixed, (moments, len(fixed)))]
    return np.concatenate([*parts, *(prefixes(order) for order in orders.values())], axis=1)


def shapley(returned: np.ndarray, num_agents: int) -> np.ndarray:
    """Shapley values from the returns of all coalitions.

    Args:
        returned: [..., 2^N], by coalition.
        num_agents: N.

    Returns:
        [..., N].
    """
    every = np.arange(2**num_agents)
    size = np.array([int(c).bit_count() for c in every])
    n = num_agents
    share = np.array([math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n) for k in range(n)])
    values = []
    for agent in range(num_agents):
        out = every[(every >> agent) & 1 == 0]
        gain = returned[..., out | (1 << agent)] - returned[..., out]
        values.append(gain @ share[size[out]])
    return np.stack(values, axis=-1)


def terms(returned: np.ndarray, orders: dict[str, np.ndarray]) -> Truth:
    """The terms of credit from the returns of :func:`coalitions`.

    Args:
        returned: [M, R, C], one per branch; branches share their random numbers across coalitions.
        orders: as given there.
    """
    num_agents = next(iter(orders.values())).shape[1]
    named, at = {}, 0
    for name, masks in _fixed(num_agents).items():
        named[name] = returned[..., at : at + len(masks)]
        at += len(masks)
    nobody, full = named["nobody"], named["all"]
    sequential = {}
    for name, order in orders.items():
        gain = np.diff(returned[..., at : at + num_agents + 1], axis=-1)
        rank = np.argsort(order, axis=-1)[:, None]
        sequential[name] = estimate(np.take_along_axis(gain, np.broadcast_to(rank, gain.shape), axis=-1))
        at += num_agents + 1
    every = named.get("every")
    return Truth(
        value=estimate(nobody[..., 0]),
        q=estimate(full[..., 0]),
        sequential=sequential,
        coma=estimate(full - named["without"]),
        marginal=estimate(named["alone"] - nobody),
        joint=estimate(np.broadcast_to(full - nobody, named["alone"].shape)),
        shapley=None if every is None else estimate(shapley(every.astype(np.float64), num_agents)),
    )
