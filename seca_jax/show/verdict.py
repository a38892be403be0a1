"""How sure a number is: 95 % intervals of win rates and of statistics over seeds.

SciPy computes them; what is ours is which interval goes with which number.
"""

from collections.abc import Callable, Sequence

import numpy as np

DRAWS = 10_000  # of the bootstrap
LEVEL = 0.95
Interval = tuple[float, float]


def win_rate(wins: int, episodes: int) -> Interval:
    """Wilson's 95 % interval of a win rate: sensible at 0 and 1 and for few episodes too.

    Args:
        wins: episodes won, 0 to ``episodes``.
        episodes: played, at least 1.
    """
    from scipy.stats import binomtest

    low, high = binomtest(wins, episodes).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def over_seeds(
    scores: Sequence[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray]
) -> Interval | None:
    """Bootstrap interval (percentiles, seeds drawn within each stratum) of a statistic over seeds.

    The same scores give the same interval: the draws come from a fixed seed.

    Args:
        scores: a score per seed, [seeds], for each stratum (a task, a method).
        statistic: [..., all seeds] in the order of ``scores`` -> [...].

    Returns:
        The interval; None where a stratum has a single seed, whose spread nobody knows.
    """
    from scipy.stats import bootstrap

    if min(len(own) for own in scores) < 2:
        return None
    low, high = bootstrap(
        tuple(scores),
        lambda *drawn, axis: statistic(np.moveaxis(np.concatenate(drawn, axis), axis, -1)),
        n_resamples=DRAWS,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(low), float(high)


def median_win_rate(rates: Sequence[float], episodes: int) -> tuple[Interval, str]:
    """The interval of the median over seeds of a win rate, and what it counts in words.

    Over several seeds it is about training anew (bootstrap over seeds); of a single one it can only be
    about playing again (Wilson's over its episodes).

    Args:
        rates: of the seeds, each from ``episodes`` episodes.
        episodes: of each seed.
    """
    found = over_seeds([np.asarray(rates, float)], lambda drawn: np.median(drawn, axis=-1))
    if found is None:
        return win_rate(round(rates[0] * episodes), episodes), "over episodes"
    return found, "over seeds"
