"""Statistics of claims against truth, on numbers made so that the answers are known."""

import numpy as np
import pytest

from seca_jax.credit import calibration
from seca_jax.credit.findings import spans
from seca_jax.credit.truth import Estimate

MOMENTS, AGENTS, PER_EPISODE = 400, 3, 4
LABELS = np.arange(MOMENTS) // PER_EPISODE
ALL = np.ones((MOMENTS, AGENTS), bool)


def known(rng, noise=1.0, slope=0.4, rest=0.6, bias=0.0):
    """Claims of mean square 1 and truth = slope * claim + rest * something else, seen through noise."""
    claim = rng.normal(size=(MOMENTS, AGENTS))
    true = slope * claim + rest * rng.normal(size=claim.shape)
    halves = true + noise * rng.normal(size=(2, *claim.shape))
    return claim + bias, Estimate(halves.mean(axis=0), np.full(claim.shape, noise / np.sqrt(2)), halves), true


def test_noise_of_the_truth_takes_no_part():
    """Slope 0.4, truth's mean square 0.52: correlation 0.4 / sqrt(0.52); explained (0.8 - 1) / 0.52."""
    rng = np.random.default_rng(0)
    found = [calibration.judge(*known(rng)[:2], ALL, calibration.groups(LABELS)) for _ in range(40)]
    mean = {name: np.mean([row[name] for row in found]) for name in calibration.STATISTICS}
    assert mean["rms"] == pytest.approx(1.0, abs=0.01)
    assert mean["slope"] == pytest.approx(0.4, abs=0.02)
    assert mean["truth_rms"] == pytest.approx(np.sqrt(0.52), abs=0.02)
    assert mean["correlation"] == pytest.approx(0.4 / np.sqrt(0.52), abs=0.02)
    assert mean["explained"] == pytest.approx(-0.2 / 0.52, abs=0.05)
    assert mean["bias"] == pytest.approx(0.0, abs=0.02)


def test_a_claim_that_is_the_truth_explains_it_all():
    rng = np.random.default_rng(1)
    _, truth, true = known(rng)
    row = calibration.judge(true, truth, ALL, calibration.groups(LABELS))
    assert row["slope"] == pytest.approx(1.0, abs=0.15)
    assert row["correlation"] == pytest.approx(1.0, abs=0.15)
    assert row["explained"] == pytest.approx(1.0, abs=0.2)


def test_intervals_cover_in_200_repetitions():
    rng = np.random.default_rng(2)
    answers = {"slope": 0.4, "correlation": 0.4 / np.sqrt(0.52), "bias": 0.5, "explained": None}
    inside = dict.fromkeys(answers, 0)
    for _ in range(200):
        claim, truth, _ = known(rng, bias=0.0)
        row = calibration.judge(claim, truth, ALL, calibration.groups(LABELS, draws=400))
        shifted = calibration.judge(claim + 0.5, truth, ALL, calibration.groups(LABELS, draws=400))
        for name, answer in answers.items():
            own = shifted if name == "bias" else row
            low, high = own[f"{name}_ci"]
            inside[name] += low <= (-0.2 / 0.52 if answer is None else answer) <= high
    # Binomial: 0.95 with a standard deviation of 0.015
    assert all(0.89 < count / 200 < 0.995 for count in inside.values()), inside


def test_what_is_not_counted_does_not_matter():
    rng = np.random.default_rng(3)
    claim, truth, _ = known(rng)
    counted = rng.random((MOMENTS, AGENTS)) < 0.5
    own = calibration.groups(LABELS)
    row = calibration.judge(claim, truth, counted, own)
    other = calibration.judge(np.where(counted, claim, 9.0), truth, counted, own)
    assert row == other and row["count"] == counted.sum()


def test_nothing_known_is_none_and_not_nan():
    none = np.zeros((MOMENTS, AGENTS))
    truth = Estimate(none, none, np.stack([none, none]))
    row = calibration.judge(none, truth, ALL, calibration.groups(LABELS))
    assert row["slope"] is None and row["correlation"] is None and row["explained"] is None
    assert row["rms"] == 0.0 and row["truth_rms"] == 0.0
    empty = calibration.judge(none, truth, ~ALL, calibration.groups(LABELS))
    assert empty["count"] == 0 and empty["rms"] is None and empty["rms_ci"] is None


def gradients(rng, parameters=7, batch=100):
    scores = rng.normal(size=(MOMENTS, AGENTS, parameters))
    flat = scores.reshape(-1, parameters)
    counted = rng.random((MOMENTS, AGENTS)) < 0.8
    own = calibration.groups(LABELS, draws=200)
    return scores, calibration.Gradients(flat @ flat.T, counted, own, batch)


def test_cosine_is_that_of_the_gradients_themselves():
    rng = np.random.default_rng(4)
    scores, known_gradients = gradients(rng)
    claim, truth, _ = known(rng)
    of = lambda x: np.einsum("mnp,mn->p", scores, np.where(known_gradients.counted, x, 0.0))  # noqa: E731
    size = np.linalg.norm(of(claim)) * np.sqrt(of(truth.halves[0]) @ of(truth.halves[1]))
    row = calibration.cosine(known_gradients, claim, truth)
    assert row["gradient_cosine"] == pytest.approx(of(claim) @ of(truth.mean) / size)
    low, high = row["gradient_cosine_ci"]
    assert low < row["gradient_cosine"] < high


def test_signal_to_noise_of_gradients_with_a_known_mean():
    """Every moment's gradient is (1, 0) plus noise of variance 2 in each of 2 parameters."""
    rng = np.random.default_rng(5)
    moments, batch = 1000, 50
    each = np.array([1.0, 0.0]) + rng.normal(scale=np.sqrt(2), size=(moments, 2))
    counted = np.ones((moments, 1), bool)
    own = calibration.groups(np.arange(moments), draws=200)
    known_gradients = calibration.Gradients(each @ each.T, counted, own, batch)
    found = calibration.signal_to_noise(known_gradients, np.ones((moments, 1)))
    assert found["gradient_snr"] == pytest.approx(np.sqrt(batch / 4), rel=0.1)
    low, high = found["gradient_snr_ci"]
    assert low < np.sqrt(batch / 4) < high
    # Where every moment's gradient is noise, the interval does not exclude 0
    each = each - [1.0, 0.0]
    known_gradients = calibration.Gradients(each @ each.T, counted, own, batch)
    low, _ = calibration.signal_to_noise(known_gradients, np.ones((moments, 1)))["gradient_snr_ci"]
    assert low == 0.0


def test_spans_of_time_hold_every_moment_once():
    rng = np.random.default_rng(6)
    for time in (rng.integers(0, 60, 200), np.zeros(5, int), np.array([3, 9]), rng.integers(0, 3, 50)):
        found = spans(time)
        counts = [np.sum((time >= low) & (time <= high)) for low, high in found]
        assert sum(counts) == len(time) and all(low <= high for low, high in found)
        assert all(first[1] < second[0] for first, second in zip(found, found[1:]))
