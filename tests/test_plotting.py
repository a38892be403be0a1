"""Quartiles against hand-computed ones; the picture is a picture."""

import numpy as np
from PIL import Image

from seca_jax import plotting


def lines(curves, name="test/win_rate"):
    return [{"step": s, "seed": seed, name: v} for seed, curve in curves.items() for s, v in curve]


def test_quartiles_over_seeds():
    data = lines({seed: [(0, 0.0), (10, float(seed))] for seed in range(5)})
    steps, values = plotting.quartiles(data, "test/win_rate")
    np.testing.assert_array_equal(steps, [0, 10])
    np.testing.assert_allclose(values, [[0, 1], [0, 2], [0, 3]])


def test_seeds_with_other_steps_are_interpolated_where_all_have_data():
    data = lines({0: [(0, 0.0), (10, 1.0)], 1: [(2, 0.2), (12, 1.2)]})
    steps, values = plotting.quartiles(data, "test/win_rate")
    np.testing.assert_array_equal(steps, [2, 10])
    np.testing.assert_allclose(values[1], [0.2, 1.0])


def test_long_runs_are_thinned():
    data = lines({0: [(s, float(s)) for s in range(5000)]})
    steps, values = plotting.quartiles(data, "test/win_rate", points=100)
    assert len(steps) == 100 and steps[0] == 0 and steps[-1] == 4999
    np.testing.assert_allclose(values[1], steps)


def test_a_metric_nobody_has():
    steps, values = plotting.quartiles(lines({0: [(0, 1.0)]}), "train/entropy")
    assert steps.shape == (0,) and values.shape == (3, 0)


def test_the_picture_shows_the_curves(tmp_path):
    data = lines({seed: [(s, s / 100) for s in range(0, 101, 10)] for seed in range(3)})
    path = plotting.curves(tmp_path, data, "seca on 3m")
    picture = np.asarray(Image.open(path).convert("RGB"), int)
    assert picture.shape[0] > 500 and picture.shape[1] > 800
    blue = (np.abs(picture - [31, 119, 180]).sum(axis=-1) < 30).sum()
    assert blue > 500  # the median line
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_no_numbers_yet(tmp_path):
    assert plotting.curves(tmp_path, [], "seca on 3m").exists()
