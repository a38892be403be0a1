"""Charts in pages: what matplotlib drew is where it belongs, readable, light, and loads nothing."""

import re

import numpy as np
import pytest

from seca_jax.show import style
from seca_jax.show.charts import Curve
from seca_jax.show.page import svg

WIDTH, HEIGHT = (72 * inches for inches in svg.SIZE)


def curve(*values, label="greedy", steps=None):
    steps = np.linspace(0, 100, len(values)) if steps is None else np.array(steps)
    return Curve(label, steps, np.tile(np.array(values, float), (3, 1)))


def line(chart, index=0):
    """x and y of the points of a chart's curve, in the drawing's units."""
    drawn = re.findall(r'<path d="([^"]+)" style="[^"]*stroke: var\(--curve-' + str(index), str(chart.svg))
    return np.array([float(number) for number in re.findall(r"-?[\d.]+", drawn[0])]).reshape(-1, 2).T


def marks(chart):
    """Tick labels: (of the steps, of the values)."""
    across = re.findall(r'<text[^>]*class="across"[^>]*>([^<]+)<', str(chart.svg))
    up = re.findall(r'<text[^>]*class="up"[^>]*>([^<]+)<', str(chart.svg))
    return [text for text in across if "steps" not in text], [u.replace("\N{MINUS SIGN}", "-") for u in up]


def test_a_curve_is_drawn_to_scale():
    chart = svg.chart("win rate", [curve(0.0, 0.5, 1.0)], limits=(0.0, 1.0))
    x, y = line(chart)
    assert 0 < x[0] < x[2] < WIDTH and x[1] == pytest.approx((x[0] + x[2]) / 2, abs=0.1)
    assert HEIGHT > y[0] > y[2] > 0 and y[1] == pytest.approx((y[0] + y[2]) / 2, abs=0.1)
    decades = svg.chart("loss", [curve(1.0, 1e8, 1e16)], log=True)
    _, y = line(decades)
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)
    assert "nan" not in svg.chart("return", [curve(0.0, 0.0, 0.0)]).svg


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ((1.77, 1.7683, 1.7661), False),
        ((1.2, 1.4, 3.0), True),
        ((0.5, 7.0, 30.0), True),
        ((1e-3, 1.0, 5e16), True),
        ((-39.0, -83.0, -38.0), False),
        ((125_000.0, 2_000_000.0, 90.0), False),
        ((5.0, 5.0, 5.0), False),
    ],
)
def test_marks_are_few_and_all_different(values, log):
    across, up = marks(svg.chart("x", [curve(*values)], log=log))
    for found in (across, up):
        assert 3 <= len(found) <= 9 and len(set(found)) == len(found)


def test_marks_are_where_the_values_are():
    """An axis of over three decades for values of one would leave two thirds of the chart empty."""
    _, y = line(svg.chart("loss", [curve(0.11, 0.5, 3.0)], log=True))
    assert np.ptp(y) > 0.6 * HEIGHT
    _, up = marks(svg.chart("loss", [curve(0.11, 0.5, 3.0)], log=True))
    assert {"0.2", "0.5", "1", "2"} <= set(up)


def test_steps_are_logarithmic_where_a_curve_is_far_longer_than_another():
    short = curve(0.0, 0.5, 1.0, steps=[0, 1000, 2000], label="short")
    alone = svg.chart("win rate", [short, short])
    beside = svg.chart("win rate", [short, curve(0.0, 0.5, 1.0, steps=[0, 50_000, 100_000], label="long")])
    assert len(line(alone)[0]) == 3 and len(line(beside)[0]) == 2  # step 0 has no place there
    x, _ = line(beside, 1)
    assert x[-1] < WIDTH and np.ptp(line(beside)[0]) > 30  # two points of a doubling are told apart


def test_every_curve_has_its_look_and_its_name():
    chart = svg.chart("return", [curve(1, 2, label=f"run {i}") for i in range(12)])
    looks = {(key.colour, key.dash) for key in chart.legend}
    assert len(looks) == 12 and [key.label for key in chart.legend][::11] == ["run 0", "run 11"]
    one = svg.chart("entropy", [curve(1, 2, label="sampling, while training")])
    assert [key.label for key in one.legend] == ["sampling, while training"]  # of a single curve too
    kept = svg.chart("return", [Curve("none", np.zeros(0), np.zeros((3, 0))), curve(1, 2)], looks=[0, 5])
    assert [key.colour for key in kept.legend] == ["var(--curve-5)"]
    assert svg.chart("return", []) == svg.Chart("return", "", [])


def test_a_band_lies_around_its_curve():
    wide = Curve("greedy", np.array([0, 50, 100]), np.array([[0.1] * 3, [0.5] * 3, [0.9] * 3]))
    text = str(svg.chart("win rate", [wide], limits=(0.0, 1.0)).svg)
    band = re.search(r'<path d="([^"]+)" style="[^"]*fill: var\(--curve-0\)[^"]*opacity', text)[1]
    y = np.array([float(number) for number in re.findall(r"-?[\d.]+", band)])[1::2]
    assert y.min() < line(svg.chart("win rate", [wide], limits=(0.0, 1.0)))[1][0] < y.max()


def test_points_tell_their_numbers_where_they_are():
    text = str(svg.chart("win rate", [curve(0.0, 0.25, 1.0, steps=[0, 5e5, 1e6])]).svg)
    x, y = line(svg.chart("win rate", [curve(0.0, 0.25, 1.0, steps=[0, 5e5, 1e6])]))
    assert f'cx="{x[1]:.0f}" cy="{y[1]:.0f}"' in text and f"M{x[1]:.1f} {y[1]:.1f}h0" in text
    assert ">greedy, 500k steps: 0.25<" in text
    wide = Curve("greedy", np.array([0, 50]), np.array([[0.1] * 2, [0.5] * 2, [0.9] * 2]))
    assert "greedy, 50 steps: 0.5 (0.1 to 0.9)" in str(svg.chart("win rate", [wide]).svg)
    assert "h0" not in str(svg.chart("win rate", [curve(*np.arange(50))]).svg)  # many need no dots


def test_a_chart_is_light_and_refers_to_nothing():
    many = [curve(*np.random.default_rng(i).random(200), label=f"run {i}") for i in range(5)]
    text = str(svg.chart("return", many).svg)
    assert len(text) < 60_000
    for word in ("href", "url(", "id=", "<defs", "<style", "DejaVu", "http://matplotlib"):
        assert word not in text


def test_numbers_are_short():
    assert [style.short(x) for x in (0, 0.25, -39.0, 125_000, 2_000_000, 5.4e16)] == [
        "0",
        "0.25",
        "-39",
        "125k",
        "2M",
        "5.4e+16",
    ]


def test_palettes():
    assert len({style.look(i) for i in range(style.LOOKS)}) == style.LOOKS == 30
    assert [len(set(style.agents(n))) for n in (1, 10, 11, 27)] == [1, 10, 11, 27]
    assert style.mixed((0, 100, 200), 0.5, (100, 100, 100)) == (50, 100, 150)
