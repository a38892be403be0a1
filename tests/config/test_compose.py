"""Layers of a configuration, and a run's config.yaml."""

import pytest

from seca_jax import algos
from seca_jax.config import compose, learners
from seca_jax.config.check import ConfigError, check
from seca_jax.config.compose import from_words
from seca_jax.config.schema import Config, get, replace


def test_defaults_are_the_schemas():
    assert from_words([]) == Config()


@pytest.mark.parametrize("algo", sorted(path.stem for path in (compose.CONF / "algo").glob("*.yaml")))
@pytest.mark.parametrize("preset", compose.presets())
def test_every_yaml_composes(algo, preset):
    config = from_words([f"algo={algo}", f"preset={preset}"])
    assert config.algo == algo and config.preset == preset


def test_every_algorithm_has_its_yaml():
    assert sorted(algos.names()) == sorted(path.stem for path in (compose.CONF / "algo").glob("*.yaml"))


@pytest.mark.parametrize("algo", algos.names())
@pytest.mark.parametrize("preset", compose.presets())
def test_every_yaml_holds_keys_and_values_of_the_schema(algo, preset):
    for _, settings in compose.layers(algo, preset):
        for name, value in settings.items():
            check(replace(Config(num_envs=64), name, value))


def test_a_wrong_yaml_is_named(monkeypatch):
    monkeypatch.setattr(learners, "learner", lambda algo: {"reads": [], "settings": {"actor": {"lrr": "1"}}})
    with pytest.raises(ConfigError, match=r"^algo/seca.yaml: unknown key actor.lrr \(did you mean actor.lr"):
        compose.compose({})


def test_paper_preset_holds_the_authors_settings():
    config = from_words(["preset=paper"])
    expected = {
        "num_envs": 32, "rollout": "episode", "total_steps": 64_000_000, "gamma": 0.99, "lam": 0.8,
        "actor.hidden": 64, "actor.lr": 0.0025, "actor.max_grad_norm": 10.0, "actor.entropy": 0.005,
        "actor.epochs": 1, "actor.minibatches": 1, "critic.lr": 0.0005, "critic.max_grad_norm": 10.0,
        "critic.mixing": 64, "critic.hypernet_hidden": "paper", "critic.target_interval": 200,
        "critic.updates": 1, "credit.order": "ig-episode", "credit.points": 5,
        "eval.interval": 320_000, "eval.episodes": 32,
    }  # fmt: skip
    assert {name: get(config, name) for name in expected} == expected


def test_the_command_line_wins_over_the_preset():
    config = from_words(["preset=paper", "critic.hypernet_hidden=32", "num_envs=8", "num_envs=16"])
    assert config.critic.hypernet_hidden == "32" and config.num_envs == 16
    assert config.critic.target_interval == 200


def test_config_yaml_survives_the_round_trip(tmp_path):
    config = from_words(["preset=paper", "actor.lr=1e-5", "critic.hypernet_hidden=128", "name=12"])
    compose.save(tmp_path, config, {"versions": {}})
    assert compose.load(tmp_path) == (config, {"versions": {}})
