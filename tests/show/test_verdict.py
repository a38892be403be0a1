"""Intervals against tabulated ones, hand-counted ones, and how often they hold the truth."""

import numpy as np
import pytest

from seca_jax.show import verdict


def mean(values):
    return values.mean(axis=-1)


@pytest.mark.parametrize(
    ("wins", "episodes", "low", "high"),
    # Tabulated values of Wilson's interval (Newcombe 1998, Table I, and Wilson's formula by hand).
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(wins, episodes, low, high):
    np.testing.assert_allclose(verdict.win_rate(wins, episodes), (low, high), atol=6e-5)


def test_the_bootstrap_of_two_seeds_by_hand():
    assert verdict.over_seeds([np.array([0.0, 1.0])], mean) == (0.0, 1.0)  # each end has probability 1/4
    assert verdict.over_seeds([np.full(5, 0.7)], mean) == pytest.approx((0.7, 0.7))


def test_seeds_are_drawn_within_their_stratum():
    assert verdict.over_seeds([np.zeros(3), np.ones(3)], mean) == (0.5, 0.5)
    # [draws, seeds of both in their order]: a difference of two methods
    difference = verdict.over_seeds(
        [np.array([3.0, 3.0]), np.array([1.0, 1.0, 1.0])],
        lambda drawn: drawn[..., :2].mean(-1) - drawn[..., 2:].mean(-1),
    )
    assert difference == (2.0, 2.0)


def test_of_one_seed_nobody_knows_the_spread():
    assert verdict.over_seeds([np.array([0.5])], mean) is None
    assert verdict.over_seeds([np.array([0.5, 0.6]), np.array([0.5])], mean) is None
    assert verdict.median_win_rate([0.5], 10) == (verdict.win_rate(5, 10), "over episodes")


def test_the_median_of_five_seeds_lies_between_its_ends():
    rates = [0.1, 0.2, 0.3, 0.4, 0.9]
    (low, high), about = verdict.median_win_rate(rates, 128)
    # P(the median of a resample is the least) = P(at least 3 of 5 draws are) = 0.058 > 0.025
    assert (low, high) == (0.1, 0.9) and about == "over seeds"


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_may():
    random = np.random.default_rng(1)
    samples = random.normal(size=(200, 20))
    held = [low <= 0 <= high for low, high in (verdict.over_seeds([own], mean) for own in samples)]
    # The percentile bootstrap of 20 normal values holds about 93 %; 200 repetitions tell 0.88 from it
    assert 0.88 <= np.mean(held) <= 0.98
