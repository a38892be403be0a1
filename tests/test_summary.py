"""What curves add up to, against numbers computed by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def summary():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import summary
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return summary


@pytest.fixture
def run(tmp_path):
    """Two seeds; seed 1 lacks the evaluation at step 5."""
    curves = {0: {0: 0.0, 5: 0.3, 10: 0.4, 20: 0.6}, 1: {0: 0.0, 10: 0.8, 20: 1.0}}
    lines = [
        {"step": step, "seed": seed, "wall_s": 36.0 * step, "test/win_rate": value, "perf/steps_per_s": 7.0}
        for seed, own in curves.items()
        for step, value in own.items()
    ]
    lines.append({"step": 15, "seed": 0, "wall_s": 1.0, "train/entropy": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_curves_by_hand(summary, run):
    curves = summary.load(run, "test/win_rate")
    np.testing.assert_array_equal(curves.steps, [0, 10, 20])
    np.testing.assert_allclose(curves.values, [[0, 0.4, 0.6], [0, 0.8, 1.0]])
    assert curves.hours == pytest.approx(0.2) and curves.rate == 7
    np.testing.assert_allclose(summary.final(curves), [0.6, 1.0])
    np.testing.assert_allclose(summary.area(curves), [(2 + 5) / 20, (4 + 9) / 20])
    # medians 0, 0.6, 0.8
    assert summary.steps_to(curves, 0.5) == 10 and summary.steps_to(curves, 0.8) == 20
    assert np.isnan(summary.steps_to(curves, 0.9)) and summary.short(summary.steps_to(curves, 0.9)) == "never"


def test_seeds_that_count_their_own_steps_are_paired(summary, tmp_path):
    curves = {0: {0: 0.0, 11: 0.2, 19: 0.4}, 1: {0: 0.0, 13: 0.6, 22: 0.8, 31: 0.9}}
    lines = [
        {"step": step, "seed": seed, "wall_s": 1.0, "test/win_rate": value}
        for seed, own in curves.items()
        for step, value in own.items()
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = summary.load(tmp_path, "test/win_rate")
    np.testing.assert_allclose(found.steps, [0, 12, 20.5])
    np.testing.assert_allclose(found.values, [[0, 0.2, 0.4], [0, 0.6, 0.8]])


def test_a_run_without_evaluations_is_named(summary, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="metrics.jsonl holds no test/win_rate"):
        summary.load(tmp_path, "test/win_rate")


def test_interquartile_mean_by_hand(summary):
    assert summary.interquartile_mean(np.array([9.0, 1, 2, 3, 4, 5, -7, 100])) == pytest.approx(14 / 4)
    assert summary.interquartile_mean(np.array([1.0, 2, 6])) == pytest.approx(3)


def test_a_single_seed_has_no_interval(summary):
    assert summary.with_interval(np.array([0.5])) == "0.50"
    assert summary.with_interval(np.array([0.0, 1.0])) == "0.50 (0.00 to 1.00)"


def test_tables(summary, run):
    runs = {("3m", "SeCA"): summary.load(run, "test/win_rate")}
    row = summary.markdown(summary.rows(runs, (0.5, 0.9))).splitlines()[2]
    assert row.startswith("| 3m | SeCA | 2 |")
    assert "0.80 (0.60 to 1.00)" in row and "| never |" in row


def test_differences_by_hand(summary):
    steps = np.array([0, 10])

    def curves(*last):  # of seeds that start at 0
        return summary.Curves(steps, np.array([[0.0, value] for value in last]), 1.0, 1.0)

    others = [("COMA", curves(0.2, 0.2, 0.2)), ("LICA", curves(0.0, 1.0))]
    rows = summary.differences([("3m", "win rate", "SeCA", curves(0.8, 0.8), others)])
    assert rows[1:] == [
        ["3m", "win rate", "SeCA", "COMA", "0.60 (0.60 to 0.60)", "0.30 (0.30 to 0.30)"],
        ["3m", "win rate", "SeCA", "LICA", "0.30 (-0.20 to 0.80)", "0.15 (-0.10 to 0.40)"],
    ]
    # What QMIX learned beyond SeCA's budget does not count
    longer = summary.Curves(np.array([0, 20]), np.array([[0.0, 0.6]] * 2), 1.0, 1.0)
    (_, row) = summary.differences([("3m", "win rate", "SeCA", curves(0.8, 0.8), [("QMIX", longer)])])
    assert row[4:] == ["0.50 (0.50 to 0.50)", "0.25 (0.25 to 0.25)"]


def test_the_document_for_marl_eval_is_evenly_spaced_inside_every_curve(summary):
    def curves(*steps):
        values = np.stack([np.array(steps) / 100, np.array(steps) / 50])
        return summary.Curves(np.array(steps, float), values, 0.0, 1.0)

    def both(value):
        return {"win_rate": [pytest.approx(value)], "return": [pytest.approx(value)]}

    runs = {
        ("3m", "SeCA, fixed"): curves(0, 10, 30, 40),
        ("3m", "COMA"): curves(0, 20, 60),
        ("2s3z", "COMA"): curves(0, 10, 20, 30),
        ("2s3z", "SeCA, fixed"): curves(0, 20, 40),
    }
    document = summary.marl_eval({key: {"win_rate": c, "return": c} for key, c in runs.items()}, "smax")
    assert list(document) == ["smax"] and list(document["smax"]) == ["3m", "2s3z"]
    for task, algorithms in document["smax"].items():
        assert sorted(algorithms) == ["COMA", "SeCA fixed"]
        for label, seeds in algorithms.items():
            last = {("3m", "COMA"): 1.2, ("2s3z", "COMA"): 0.6}.get((task, label), 0.8)
            assert seeds["seed_1"] == {
                "step_0": {"step_count": 0, **both(0.0)},
                "step_1": {"step_count": 15, **both(0.3)},
                "step_2": {"step_count": 30, **both(0.6)},
                "absolute_metrics": both(last),  # of the whole run
            }


def test_maps_with_other_methods_are_another_environment_for_marl_eval(summary):
    curves = summary.Curves(np.array([0.0, 9.0]), np.zeros((2, 2)), 0.0, 1.0)
    names = [("3m", "A"), ("3m", "B"), ("2s3z", "A"), ("8m", "B"), ("8m", "A")]
    document = summary.marl_eval({name: {"win_rate": curves} for name in names}, "smax")
    assert {name: list(tasks) for name, tasks in document.items()} == {
        "smax 3m + 8m": ["3m", "8m"],
        "smax 2s3z": ["2s3z"],
    }


def test_a_curve_that_ends_early_says_so_in_the_legend(summary, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import draw

    curves = {
        label: summary.Curves(np.array([0, end]), np.zeros((1, 2)), 1.0, 1.0)
        for label, end in (("SeCA", 1_000_000), ("QMIX", 960_000), ("QTRAN", 300_000))
    }
    assert list(draw.legend(curves).values()) == ["SeCA", "QMIX", "QTRAN, 300k steps"]


def test_costs_by_hand(summary):
    curves = summary.Curves(np.array([0, 10]), np.zeros((5, 2)), 0.0, 1000.0)
    _, row, total = summary.costs({("2s3z", "SeCA"): curves}, {"full": {"2s3z": 7_200_000}})
    assert row == ["2s3z", "SeCA", "5", "1,000", "10.0"] and total[-1] == "10.0"


def test_figures_name_real_maps_and_keys(summary):
    from seca_jax import envs
    from seca_jax.config import compose

    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import budgets
        import figures
    finally:
        sys.path.remove(str(EXPERIMENTS))
    runs = {run for panels in figures.FIGURES.values() for panel in panels for run in panel.runs}
    assert {run.map for run in runs} <= set(envs.names())
    # Every distinct set of words once, on one scale: composing takes a while
    every = {(*run.words, *budgets.settings(run, "small")) for run in runs}
    every |= {budgets.settings(next(iter(runs)), scale) for scale in budgets.SCALES}
    for words in every:
        assert compose.from_words(words)
