"""Layers of a configuration, and a run's config.yaml."""

from pathlib import Path

import pytest
import yaml

from seca_jax import algos, envs
from seca_jax.config import compose, learners
from seca_jax.config.check import ConfigError, check
from seca_jax.config.compose import from_words
from seca_jax.config.keys import get, replace
from seca_jax.config.schema import Config


def flat_values(nested, prefix=""):
    """Dotted keys and values of a config.yaml."""
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from flat_values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_defaults_are_the_schemas():
    assert from_words([]) == Config()


@pytest.mark.parametrize("algo", sorted(path.stem for path in (learners.CONF / "algo").glob("*.yaml")))
@pytest.mark.parametrize("preset", compose.presets())
def test_every_yaml_composes(algo, preset):
    config = from_words([f"algo={algo}", f"preset={preset}"])
    assert config.algo == algo and config.preset == preset


def test_every_algorithm_has_its_yaml():
    assert sorted(algos.names()) == sorted(path.stem for path in (learners.CONF / "algo").glob("*.yaml"))


@pytest.mark.parametrize("algo", algos.names())
@pytest.mark.parametrize("preset", compose.presets())
def test_every_yaml_holds_keys_and_values_of_the_schema(algo, preset):
    for map_name in envs.names():
        for _, settings in compose.layers(algo, preset, map_name):
            for name, value in settings.items():
                check(replace(Config(num_envs=64), name, value))


@pytest.mark.parametrize("algo", algos.names())
@pytest.mark.parametrize("preset", compose.presets())
def test_yaml_has_settings_for_maps_that_there_are(algo, preset):
    own = learners.learner(algo).get("presets", {}).get(preset, {})
    for settings in (own, learners.stored(learners.CONF / "preset" / f"{preset}.yaml")):
        assert set(settings.get("maps", {})) <= set(envs.names())


def test_a_wrong_yaml_is_named(monkeypatch):
    monkeypatch.setattr(learners, "learner", lambda algo: {"reads": [], "settings": {"actor": {"lrr": "1"}}})
    with pytest.raises(ConfigError, match=r"^algo/seca.yaml: unknown key actor.lrr \(did you mean actor.lr"):
        compose.compose({})


def test_the_command_line_wins_over_the_preset():
    config = from_words(["preset=paper", "critic.hypernet_hidden=32", "num_envs=8", "num_envs=16"])
    assert config.critic.hypernet_hidden == "32" and config.num_envs == 16
    assert config.critic.target_interval == 200


def test_config_yaml_survives_the_round_trip(tmp_path):
    config = from_words(["preset=paper", "actor.lr=1e-5", "critic.hypernet_hidden=128", "name=12"])
    compose.save(tmp_path, config, {"versions": {}})
    assert compose.load(tmp_path) == (config, {"versions": {}})


def test_a_run_of_the_first_version_loads_and_goes_on(tmp_path):
    """As its config.yaml says, with the defaults of what that version did not know; longer if asked."""
    text = (Path(__file__).parent / "run-0.1.0.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text)
    config, provenance = compose.load(tmp_path)
    assert provenance == yaml.safe_load(text)["provenance"]
    for name, stored in flat_values(yaml.safe_load(text)):
        if not name.startswith("provenance"):
            assert get(config, name) == stored, name
    assert config.checkpoint.minutes == Config().checkpoint.minutes
    # Keys that came with what they say: the critic and the credit of that time had no other
    assert (config.critic.kind, config.critic.credit_stride) == ("joint", 1)
    assert (config.credit.calibrate, config.credit.lam) == (False, -1.0)
    longer = compose.resumed({"resume": str(tmp_path), "total_steps": 2 * config.total_steps})
    assert longer.total_steps == 2 * config.total_steps and longer.out == str(tmp_path)


def test_every_map_of_a_yaml_exists():
    files = [learners.stored(path) for path in (learners.CONF / "preset").glob("*.yaml")]
    for algo in algos.names():
        own = learners.learner(algo)
        files += [own.get("settings", {}), *own.get("presets", {}).values()]
    assert {name for file in files for name in file.get("maps", {})} <= set(envs.names())
