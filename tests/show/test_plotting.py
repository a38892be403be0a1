"""Quartiles against hand-computed ones; the pictures show what they are told, where it belongs."""

import numpy as np
import pytest
from PIL import Image

from seca_jax.show import credit_figure, credit_panel, curves, style


def lines(curves, name="test/win_rate"):
    return [{"step": s, "seed": seed, name: v} for seed, curve in curves.items() for s, v in curve]


def test_quartiles_over_seeds():
    data = lines({seed: [(0, 0.0), (10, float(seed))] for seed in range(5)})
    steps, values = curves.quartiles(data, "test/win_rate")
    np.testing.assert_array_equal(steps, [0, 10])
    np.testing.assert_allclose(values, [[0, 1], [0, 2], [0, 3]])


def test_seeds_with_other_steps_are_interpolated_where_all_have_data():
    data = lines({0: [(0, 0.0), (10, 1.0)], 1: [(2, 0.2), (12, 1.2)]})
    steps, values = curves.quartiles(data, "test/win_rate")
    np.testing.assert_array_equal(steps, [2, 10])
    np.testing.assert_allclose(values[1], [0.2, 1.0])


def test_long_runs_are_thinned():
    data = lines({0: [(s, float(s)) for s in range(5000)]})
    steps, values = curves.quartiles(data, "test/win_rate", points=100)
    assert len(steps) == 100 and steps[0] == 0 and steps[-1] == 4999
    np.testing.assert_allclose(values[1], steps)


def test_a_metric_nobody_has():
    # One line each, at steps of their own: together they are one point
    steps, values = curves.quartiles(lines({0: [(9, 1.0)], 1: [(11, 3.0)]}), "test/win_rate")
    assert steps.tolist() == [10] and values[1].tolist() == [2.0]
    steps, values = curves.quartiles(lines({0: [(0, 1.0)]}), "train/entropy")
    assert steps.shape == (0,) and values.shape == (3, 0)


def test_the_picture_shows_the_curves(tmp_path):
    data = lines({seed: [(s, s / 100) for s in range(0, 101, 10)] for seed in range(3)})
    path = curves.curves(tmp_path, data, "seca on 3m")
    picture = np.asarray(Image.open(path).convert("RGB"), int)
    assert picture.shape[0] > 500 and picture.shape[1] > 800
    first = np.array([int(style.CURVES[0][i : i + 2], 16) for i in (1, 3, 5)])
    blue = (np.abs(picture - first).sum(axis=-1) < 30).sum()
    assert blue > 500  # the median line
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_a_run_shows_what_it_has():
    def titles(*names):
        return [panel.title for panel in curves.present([dict.fromkeys(names, 1.0)])]

    both = ("test/win_rate", "train/critic_loss")
    assert titles(*both, "train/entropy") == ["win rate", "policy entropy (nats)", "critic loss"]
    assert titles(*both, "train/epsilon") == ["win rate", "share of random actions", "critic loss"]
    assert titles("train/credit_rms") == ["credit: root mean square"] and titles("perf/steps_per_s") == []


def test_every_panel_of_a_run_is_drawn_in_its_place(tmp_path):
    """With and without the third of five panels' curve: two rows of three, the change in its place alone."""
    names = ("test/win_rate", "test/return", "train/epsilon", "train/critic_loss", "test/length")
    rising = [(s, 0.01 * s) for s in range(0, 101, 10)]
    whole = [line for name in names for line in lines({0: rising}, name)]
    flat = [line for name in names for line in lines({0: rising}, name) if "test/length" not in line]
    flat += lines({0: [(s, 1.0) for s in range(0, 101, 10)]}, "test/length")
    pictures = [
        np.asarray(Image.open(curves.curves(tmp_path, data, "qmix on 3m")).convert("RGB"), int)
        for data in (whole, flat)
    ]
    changed = np.abs(pictures[0] - pictures[1]).sum(axis=-1) > 30
    height, width = changed.shape
    own = changed[: height // 2, width * 2 // 3 :]
    assert own.sum() > 500 and changed.sum() == own.sum()


def test_no_numbers_yet(tmp_path):
    assert curves.curves(tmp_path, [], "seca on 3m").exists()


def test_moments_spread_evenly_and_hold_both_ends():
    assert credit_figure.moments(40) == [0, 10, 20, 30, 40]
    assert credit_figure.moments(2) == [0, 1, 2]
    assert credit_figure.moments(1) == [0, 1]


def test_stills_stand_above_the_moments_they_show(tmp_path):
    red = Image.new("RGB", (credit_figure.STILL_PIXELS,) * 2, (255, 0, 0))
    blue = Image.new("RGB", red.size, (0, 0, 255))
    episode = {
        "contribution": np.ones((8, 2)),
        "order": np.tile([1, 0], (8, 1)),
        "alive": np.ones((9, 2), bool),
        "names": ["0 stalker", "1 zealot"],
        "title": "3s_vs_5z",
    }
    credit_figure.credit(tmp_path / "plain.png", **episode)
    stills = [credit_figure.Still(0, red, "step 0"), credit_figure.Still(8, blue, "step 8")]
    credit_figure.credit(tmp_path / "stills.png", **episode, stills=stills)
    plain = np.asarray(Image.open(tmp_path / "plain.png").convert("RGB"), int)
    with_stills = np.asarray(Image.open(tmp_path / "stills.png").convert("RGB"), int)
    assert with_stills.shape[0] > plain.shape[0] + credit_figure.STILL_PIXELS
    middles = []
    for colour in ((255, 0, 0), (0, 0, 255)):
        rows, columns = np.nonzero((with_stills == colour).all(-1))
        assert abs(len(rows) / credit_figure.STILL_PIXELS**2 - 1) < 0.05  # square, whole, its own size
        middles.append(columns.mean())
    # The axes' left and right ends, where steps 0 and 8 are
    left, right = (credit_figure._LEFT, credit_figure._WIDTH - credit_figure._RIGHT)
    np.testing.assert_allclose(middles, np.array([left, right]) * credit_figure.DPI, atol=2)


def test_a_curve_that_dwarfs_the_others_is_cut_off():
    small = np.linspace(0, 1, 11)[:, None] * [1.0, -0.5, 0.7]
    low, high = credit_panel.limits(small)
    assert low == pytest.approx(-0.5 - 0.05 * 1.5) and high == pytest.approx(1.0 + 0.05 * 1.5)
    drop = np.where(np.arange(11) > 6, -8.0, 0.2)[:, None]
    assert credit_panel.limits(np.hstack([small, drop])) == (low, high)
    # Not where it is hardly larger, nor more than half of them
    assert credit_panel.limits(np.hstack([small, drop / 6]))[0] < -1.3
    assert credit_panel.limits(np.hstack([small[:, :1], drop, 3 * drop, 9 * drop]))[0] < -7
    assert credit_panel.limits(np.zeros((3, 2)))[0] < 0 < credit_panel.limits(np.zeros((3, 2)))[1]
    assert credit_figure._peaks(np.array([0.0, -3, -5, -4, 0, 9, 0]), -2.0, 2.0) == [2, 5]


def test_the_panel_draws_the_past_and_lists_the_order():
    panel = credit_panel.Panel(
        contribution=np.array([[1.0, 0.0], [0.0, 2.0]]),
        order=np.array([[0, 1], [1, 0]]),
        alive=np.array([[True, True], [True, True], [True, False]]),
        names=["0 stalker", "1 zealot"],
        size=(300, 420),
    )
    start, middle, end = (np.asarray(panel.draw(t), int) for t in range(3))
    assert start.shape == (420, 300, 3)
    first, second = style.agents(2)

    def badge(image, colour):  # row of an agent's badge in the list, below the curves
        rows = np.nonzero((image[340:, :40] == colour).all(-1))[0]
        return rows.mean() if len(rows) else None

    assert badge(start, first) < badge(start, second)
    assert badge(middle, second) < badge(middle, first)
    assert badge(end, second) is None  # the dead are faded
    curves = [(image[:340] == first).all(-1).sum() for image in (start, middle, end)]
    assert curves[0] < curves[1] < curves[2]


def test_colours_are_as_many_as_agents():
    assert [len(set(style.agents(n))) for n in (1, 10, 11, 27)] == [1, 10, 11, 27]
