"""The bench for critics, on a policy of a game that lasts a step, and what it keeps of the truth."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))

import critics

from seca_jax.config.check import ConfigError
from seca_jax.config.schema import Config
from seca_jax.credit import truth


def test_a_recipe_changes_the_critic_alone():
    config = critics.recipe_config(Config(map="2s3z"), critics.RECIPES["multilinear, one-step surprises"])
    found = config.map, config.critic.kind, config.critic.surprise_lam, config.lam, config.algo
    assert found == ("2s3z", "multilinear", 0.0, 0.95, "seca")
    assert critics.recipe_config(Config(), critics.RECIPES["COMA's"]).algo == "coma"


def test_the_simulators_answer_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    turns = {name: np.tile(np.arange(3), (5, 1)) for name in critics.ORDERS}
    true = truth.terms(rng.normal(size=(5, 8, truth.coalitions(turns).shape[1])), turns)
    about = {"states": 5, "branches": 8, "seed": 0}
    critics.save_truth(tmp_path / "truth.npz", true, about)
    again = critics.load_truth(tmp_path / "truth.npz", about)
    for name in critics.TERMS:
        for kept, found in zip(getattr(again, name), getattr(true, name), strict=True):
            np.testing.assert_allclose(kept, found, rtol=1e-6)
    np.testing.assert_allclose(again.sequential["random"].mean, true.sequential["random"].mean, rtol=1e-6)
    with pytest.raises(ConfigError, match="other moments"):
        critics.load_truth(tmp_path / "truth.npz", about | {"branches": 16})


def test_critics_of_a_known_game_are_held_against_it(tmp_path, capsys, monkeypatch):
    """A multilinear critic learns who deserves what in a game of one step."""
    import seca_jax

    words = {"map": "one_step", "seeds": 1, "num_envs": 16, "window": 8, "total_steps": 128}
    seca_jax.train(words | {"actor.hidden": 8, "eval.episodes": 2}, out=tmp_path / "run")
    monkeypatch.setattr(critics, "RECIPES", {"m": {"kind": "multilinear"}})
    words = [f"run={tmp_path / 'run'}", "fit=20", "passes=10", "states=60", "branches=16"]
    assert critics.main([*words, f"json={tmp_path / 'found.json'}"]) == 0
    out = capsys.readouterr().out
    assert "| m |" in out and (tmp_path / "run" / "truth.npz").exists()
    (row,) = (
        row
        for row in json.loads((tmp_path / "found.json").read_text())["recipes"][0]["rows"]
        if (row["advantage"], row["order"], row["residual"]) == ("sequential", "random", False)
    )
    assert row["correlation"] > 0.8
