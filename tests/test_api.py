"""The library: what the command lines do, from Python."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import seca_jax
from seca_jax import runs
from seca_jax.config import compose
from seca_jax.config.words import given

SMALL = {"map": "3m", "seeds": 2, "num_envs": 4, "window": 5, "eval": {"episodes": 6, "interval": 200}}
LINES = {"log.interval": 100, "checkpoint.interval": 300, "total_steps": 600}


def trained(**keywords):
    return seca_jax.train({**SMALL, **LINES}, **keywords)


def test_settings_are_the_command_lines_keys():
    values = given(
        {"map": "2s3z", "actor": {"lr": np.float32(0.5)}, "total_steps": 4e6, "credit.order": "prob"}
    )
    assert values == {"map": "2s3z", "actor.lr": 0.5, "total_steps": 4_000_000, "credit.order": "prob"}
    assert given({"out": None, "log.progress": False, "init": "x"}) == {
        "log.progress": False,
        "init.run": "x",
    }


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"map": "nowhere"}, "map=nowhere: unknown"),
        ({"actor.lr": True}, "actor.lr=True: expected a number"),
        ({"seeds": [1, 2]}, "seeds=\\[1, 2\\]: expected a whole number"),
        ({"learning_rate": 1e-3}, "unknown key learning_rate"),
        ({"map": "3m", "init": "nowhere"}, "nowhere: no run there"),
    ],
)
def test_errors_are_one_line(stubbed, settings, complaint):
    with pytest.raises(seca_jax.ConfigError, match=complaint) as raised:
        seca_jax.train(settings)
    assert "\n" not in str(raised.value)


def test_a_directory_or_none_gives_the_same_numbers(stubbed, tmp_path, metrics, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bare = trained()
    assert bare.out is None and not list(tmp_path.iterdir())
    kept = trained(out=tmp_path / "run")
    assert (bare.status, kept.status) == ("done", "done") and kept.out == tmp_path / "run"
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert bare.metrics.keys() == kept.metrics.keys() >= {"step", "test/win_rate", "train/entropy"}
    for name, values in bare.metrics.items():
        assert values.shape == (2, 7)
        if name not in ("wall_s", "perf/steps_per_s"):
            np.testing.assert_array_equal(values, kept.metrics[name], err_msg=name)
    lines = [line for line in metrics(kept.out) if line["seed"] == 1]
    assert bare.metrics["train/entropy"][1, 1:].tolist() == [line["train/entropy"] for line in lines[1:]]
    assert np.isnan(bare.metrics["train/entropy"][:, 0]).all()
    jax.tree.map(np.testing.assert_array_equal, bare.params, kept.params)
    config, provenance = compose.load(kept.out)
    assert config == kept.config and config.name == "run"
    assert provenance["command"].startswith("python -m seca_jax.train ")


def test_a_callback_sees_every_point_and_may_stop(stubbed, tmp_path):
    seen = []

    def callback(step, metrics):
        seen.append((step, metrics))
        return step >= 300

    result = trained(callback=callback, out=tmp_path / "run")
    assert result.status == "stopped" and [step for step, _ in seen] == [0, 100, 200, 300]
    assert seen[2][1]["test/win_rate"].shape == (2,) and "test/win_rate" not in seen[1][1]
    assert runs.checkpoint_steps(result.out)[-1] == 300
    rest = seca_jax.train(resume=result.out)
    whole = trained()
    jax.tree.map(np.testing.assert_array_equal, rest.params, whole.params)


def test_other_rates_and_seeds_compile_nothing(stubbed, compilations):
    first = trained(seed=8, **{"actor.lr": 1e-3, "actor.clip": 5.5})
    before = compilations()
    other = trained(seed=7, **{"actor.lr": 2e-3, "gamma": 0.5, "actor.clip": 3.5, "log.interval": 200})
    assert compilations() == before
    assert not np.array_equal(first.params["walk"], other.params["walk"])
    # The learner saw its own clip range: the stub breaks in that update
    assert first.status == other.status == "non-finite"
    assert first.metrics["step"].max() > other.metrics["step"].max() - 100


def test_load_run_and_evaluate(stubbed, tmp_path):
    result = trained(out=tmp_path / "run", **{"checkpoint.keep": 9, "checkpoint.best": True})
    newest, early = seca_jax.load_run(result.out), seca_jax.load_run(result.out, step=300)
    assert (newest.step, early.step) == (600, 300)
    jax.tree.map(np.testing.assert_array_equal, newest.params, result.params)
    np.testing.assert_array_equal(newest.of(1)["walk"], result.params["walk"][1])
    with pytest.raises(seca_jax.ConfigError, match="seed=2: the run has seeds 0 to 1"):
        newest.of(2)
    with pytest.raises(
        seca_jax.ConfigError, match=r"step=7: .* has no such checkpoint; there are 0, 300, 600"
    ):
        seca_jax.load_run(result.out, step=7)

    rates = result.metrics["test/win_rate"].mean(axis=0)
    best = seca_jax.load_run(result.out, step="best")
    assert (
        result.metrics["step"][0, np.nanargmax(np.where(result.metrics["step"][0] > 0, rates, -1))]
        == best.step
    )

    before = sorted(tmp_path.rglob("*"))
    greedy = seca_jax.evaluate(result.out, episodes=40, step=300)
    drawn = seca_jax.evaluate(result.out, episodes=40, step=300, sampled=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert (greedy["step"], greedy["policy"], drawn["policy"]) == (300, "greedy", "sampled")
    assert greedy["map"] == greedy["trained_on"] == "3m"
    assert json.loads(json.dumps(greedy)) == greedy
    elsewhere = seca_jax.evaluate(result.out, episodes=40, step=300, map="2s3z")
    assert (elsewhere["map"], elsewhere["trained_on"]) == ("2s3z", "3m")
    with pytest.raises(seca_jax.ConfigError, match="step=last: must be a step of a checkpoint, or best"):
        seca_jax.evaluate(result.out, step="last")


def test_make_env():
    env = seca_jax.make_env("2s3z", observation="conic", reward_scale=1)
    assert (env.name, env.num_agents, env.reward_scale) == ("2s3z", 5, 1.0)
    with pytest.raises(seca_jax.ConfigError, match="env.backend=upstream: jaxmarl has no MMM2"):
        seca_jax.make_env("MMM2", backend="upstream")


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, seca_jax; seca_jax.train, seca_jax.evaluate, seca_jax.ConfigError; "
    code += "sys.exit(any(name in sys.modules for name in ('jax', 'numpy.random._x', 'wandb', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    names = "import seca_jax\nfor name in seca_jax.__all__: getattr(seca_jax, name)"
    assert subprocess.run([sys.executable, "-c", names], timeout=60).returncode == 0
