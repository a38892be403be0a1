"""Runs that differ in seeds only are one run; any runs are marl-eval's raw data."""

import json
import shutil

import pytest
import yaml
from test_report import stored, whole

from seca_jax import report
from seca_jax.config.check import ConfigError
from seca_jax.show import marl_eval
from seca_jax.show.page import pool
from seca_jax.show.page import run as run_page


def run(path, first=0, **options):
    """A stored run whose seeds are ``first`` and the next."""
    stored(path, seed=first, **options)
    for name in ("metrics.jsonl", "evaluation.json"):
        if (path / name).exists():
            text = (path / name).read_text()
            for seed in (1, 0):
                text = text.replace(f'"seed": {seed},', f'"seed": {seed + first},')
            (path / name).write_text(text)
    return path


def read(*paths):
    return [run_page.read(path) for path in paths]


def test_runs_of_other_seeds_are_one_run(tmp_path):
    a, b = run(tmp_path / "a", 2, evaluated=True), run(tmp_path / "b", 0, evaluated=True, pictured=True)
    joined = pool.pool(read(a, b))
    assert (joined.config["seed"], joined.config["seeds"]) == (0, 4)
    assert run_page.last_evaluation(joined, "test/win_rate") == dict.fromkeys(range(4), 0.75)
    assert [row["seed"] for row in joined.evaluation["seeds"]] == [0, 1, 2, 3]
    assert joined.evaluation["median_win_rate"] == 104 / 128
    words = [f"run={a}", f"run={b}", "pool=true", f"out={tmp_path / 'joined.html'}"]
    assert report.main(words) == 0
    text = whole((tmp_path / "joined.html").read_text()).text
    assert "Median over 4 seeds" in text and f"Joined: {b} (seeds 0, 1), {a} (seeds 2, 3)." in text
    # An evaluation that one of them lacks says nothing of all
    (a / "evaluation.json").unlink()
    assert pool.pool(read(a, b)).evaluation is None


@pytest.mark.parametrize(
    ("changes", "first", "complaint"),
    [
        ({"gamma": 0.9}, 2, "pool=true: gamma differs, 0.99 in {a}, 0.9 in {b}; only runs that differ in"),
        ({"preset": "paper"}, 2, "pool=true: preset differs, default in {a}, paper in {b}; only runs that"),
        ({}, 1, "pool=true: seed 1 is in {a} and in {b}; every seed counts once"),
    ],
)
def test_what_is_more_than_other_seeds_is_refused_in_a_line(tmp_path, capsys, changes, first, complaint):
    a, b = run(tmp_path / "a", 0), run(tmp_path / "b", first, **changes)
    words = [f"run={a}", f"run={b}", "pool=true", f"out={tmp_path / 'joined.html'}"]
    assert report.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: " + complaint.format(a=a, b=b)) and told.count("\n") == 1
    assert not (tmp_path / "joined.html").exists()


def test_a_name_or_a_key_that_the_learner_does_not_read_keeps_no_runs_apart(tmp_path):
    a, b = run(tmp_path / "a", 0, name="x"), run(tmp_path / "b", 2, name="y")
    config = yaml.safe_load((b / "config.yaml").read_text())
    config["q"]["batch"] = 7
    (b / "config.yaml").write_text(yaml.safe_dump(config))
    assert pool.pool(read(a, b)).config["name"] == "x + y"


def test_marl_evals_raw_data(tmp_path):
    """Environment, task, algorithm, run, step, as the library's description has it."""
    a, b = run(tmp_path / "a", evaluated=True), run(tmp_path / "b", 2)
    other, coma = run(tmp_path / "c", gamma=0.9), run(tmp_path / "d", algo="coma")
    words = [f"run={path}" for path in (a, b, other, coma)]
    assert report.main([*words, f"json={tmp_path / 'raw.json'}"]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["raw.json"]
    document = json.loads((tmp_path / "raw.json").read_text())
    assert list(document) == ["SMAX"] and list(document["SMAX"]) == ["3s_vs_5z"]
    methods = document["SMAX"]["3s_vs_5z"]
    assert {name: sorted(seeds) for name, seeds in methods.items()} == {
        "seca, gamma=0.99": ["seed_0", "seed_1", "seed_2", "seed_3"],
        "seca, gamma=0.9": ["seed_0", "seed_1"],
        "coma": ["seed_0", "seed_1"],
    }
    for seeds in methods.values():
        for steps in seeds.values():
            assert list(steps) == ["step_0", "step_1", "step_2", "absolute_metrics"]
            assert [steps[f"step_{i}"]["step_count"] for i in range(3)] == [0, 100, 200]
            assert [steps[f"step_{i}"]["elapsed_time"] for i in range(3)] == [60.0, 160.0, 260.0]
            for name, step in steps.items():
                own = {key: value for key, value in step.items() if key not in ("step_count", "elapsed_time")}
                assert own.keys() >= {"win_rate", "return"}, name
                assert all(len(values) == 1 and type(values[0]) is float for values in own.values())
    judged, trained = methods["seca, gamma=0.99"]["seed_0"], methods["seca, gamma=0.99"]["seed_2"]
    assert judged["step_2"]["win_rate"] == [0.75] and judged["absolute_metrics"]["win_rate"] == [96 / 128]
    assert judged["absolute_metrics"]["return"] == [1.5]
    assert trained["absolute_metrics"] == {"win_rate": [0.75], "return": [1.0], "episode_length": [30.0]}


def test_a_seed_counts_once_in_the_raw_data(tmp_path):
    a = run(tmp_path / "a")
    shutil.copytree(a, tmp_path / "again")
    with pytest.raises(ConfigError, match=r"json: seed 0 is in .*a and in .*again; every seed counts once"):
        marl_eval.raw(read(a, tmp_path / "again"))
