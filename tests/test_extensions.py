"""Registration by hand and by entry points: what is taken, what is refused, in which words."""

import importlib.metadata
import re

import pytest

from seca_jax import algos, envs, extensions
from seca_jax.config import commands, compose, learners
from seca_jax.config.check import ConfigError
from seca_jax.credit import names as orders
from seca_jax.envs import probes
from seca_jax.envs.smax.scenarios import Scenario
from seca_jax.envs.smax.units import MARINE

SETTINGS = {"reads": ["actor", "lam"], "settings": {"actor": {"lr": 0.5}, "lr_decay": True}}


def only(*points):
    """As if the installed packages had these entry points and no others: (group, name, value)."""
    found = [importlib.metadata.EntryPoint(name, value, f"seca_jax.{group}") for group, name, value in points]
    return lambda *, group: [point for point in found if point.group == group]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is registered before a test, and nothing after it."""

    def start(*points):
        monkeypatch.setattr(extensions, "entry_points", only(*points))
        monkeypatch.setattr(extensions, "_registered", {kind: {} for kind in extensions.GROUPS})
        extensions._read_entry_points.cache_clear()
        learners.forget()

    start()
    yield start
    monkeypatch.undo()
    extensions._read_entry_points.cache_clear()
    learners.forget()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes modules of a package that can be imported; its name is new in every test."""
    name = re.sub(r"\W", "_", tmp_path.name)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")

    def write(**files):
        for file, text in files.items():
            stem, _, kind = file.rpartition("_")
            (tmp_path / name / f"{stem}.{kind}").write_text(text)
        return name

    return write


def make_env(config):
    return probes.make("leader")


def test_a_registered_environment_is_a_map():
    extensions.register_env("mine", make_env)
    config = compose.from_words(["map=mine"])
    assert envs.names()[-1] == "mine" and envs.make(config).num_agents == 2


def test_an_environment_that_is_none_is_refused_in_a_line():
    extensions.register_env("mine", lambda config: "nothing")
    with pytest.raises(ConfigError, match=r"^map=mine: register_env: made no .*Environment but str$"):
        envs.make(compose.from_words(["map=mine"]))


def test_shapes_that_an_environment_does_not_keep_are_named():
    import dataclasses

    extensions.register_env("mine", lambda config: dataclasses.replace(make_env(config), obs_size=7))
    expected = r"^map=mine: register_env: view\.obs is float32\[2, 2, 2\] instead of float32\[2, 2, 7\]$"
    with pytest.raises(ConfigError, match=expected):
        envs.make(compose.from_words(["map=mine"]))


def test_a_registered_learner_has_its_settings_and_its_readers():
    made = algos.make(compose.from_words(["map=leader"]), probes.make("leader"))
    extensions.register_learner("mine", lambda config, env: made, SETTINGS)
    config = compose.from_words(["algo=mine", "map=leader"])
    assert (config.actor.lr, config.lr_decay) == (0.5, True)
    assert algos.make(config, probes.make("leader")) is made
    assert "mine" in learners.readers("actor.clip") and learners.unread("critic.lr", "mine")
    (line,) = (line for line in commands.key_lines(config) if line.strip().startswith("lam="))
    assert re.search(r"\[.*, mine, .* only\]$", line)
    extensions.register_learner("mine", lambda config, env: 3, {"reads": ["q"]}, replace=True)
    assert learners.unread("actor.clip", "mine") and not learners.unread("q.lr", "mine")
    with pytest.raises(ConfigError, match=r"^algo=mine: register_learner made no .*Learner but int$"):
        algos.make(compose.from_words(["algo=mine", "map=leader"]), probes.make("leader"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "the settings of mine: reads is missing, the list of keys that the learner looks at"),
        ({"reads": ["actr"]}, "the settings of mine: reads actr, which is no key and no group of keys"),
        (
            {"reads": [], "seting": {}},
            "the settings of mine: unknown entry seting; there are reads, settings, presets",
        ),
        ({"reads": [], "settings": 3}, "the settings of mine: settings is no mapping"),
        (
            {"reads": [], "presets": {"mine": {}}},
            "the settings of mine: there is no preset mine; there are accelerator, default, paper",
        ),
        ("nowhere.yaml", "nowhere.yaml: the learner's settings cannot be read (No such file or directory)"),
    ],
)
def test_settings_that_are_none_are_refused(settings, complaint):
    with pytest.raises(ConfigError) as error:
        extensions.register_learner("mine", make_env, settings)
    assert str(error.value) == complaint and "mine" not in algos.names()


def test_a_wrong_setting_is_named():
    extensions.register_learner("mine", make_env, {"reads": [], "settings": {"actor": {"lr": "fast"}}})
    with pytest.raises(ConfigError, match=r"^the settings of mine: actor.lr=fast: expected a number$"):
        compose.from_words(["algo=mine"])


def test_settings_may_be_a_file(tmp_path):
    (tmp_path / "any.yaml").write_text("reads: [q]\nsettings: {rollout: episode}\n")
    extensions.register_learner("mine", make_env, tmp_path / "any.yaml")
    assert compose.from_words(["algo=mine"]).rollout == "episode"


def test_a_registered_order_orders():
    import jax
    import jax.numpy as jnp
    import numpy as np

    from seca_jax.credit import order

    extensions.register_order(
        "mine", lambda policy, action, contribution: jnp.argsort(contribution(3), axis=-1)
    )
    assert compose.from_words(["credit.order=mine"]).credit.order == "mine"
    policy = jnp.zeros((2, 3, 4))
    found = order.named("mine", policy, policy, lambda length: jnp.arange(6.0).reshape(2, 3) * -length)
    np.testing.assert_array_equal(found, [[2, 1, 0], [2, 1, 0]])
    with pytest.raises(ConfigError, match=f"must be {re.escape(orders.ALLOWED)}; of other packages mine$"):
        compose.from_words(["credit.order=yours"])
    extensions.register_order("mine", lambda policy, action, contribution: policy, replace=True)
    with pytest.raises(
        ConfigError, match=r"^credit.order=mine: register_order made float32\[2, 3, 4\], not the"
    ):
        order.named("mine", policy, policy, lambda length: policy)
    extensions.register_order("mine", lambda policy, *_: jnp.zeros(policy.shape[:-1], int), replace=True)
    with pytest.raises(ConfigError, match=r"^credit.order=mine: register_order did not return every agent"):
        jax.jit(lambda: order.named("mine", policy, policy, lambda length: policy))()
    extensions.register_order("mine", lambda p, action, contribution: jnp.argsort(contribution), replace=True)
    with pytest.raises(ConfigError, match=r"^credit.order=mine: register_order failed \(TypeError: "):
        order.named("mine", policy, policy, lambda length: policy)


def test_a_registered_map_is_a_battle():
    extensions.register_map("mine", Scenario("other", (MARINE,), (MARINE, MARINE), max_steps=7))
    env = envs.make(compose.from_words(["map=mine"]))
    assert (env.name, env.num_agents, env.num_actions, env.max_steps) == ("mine", 1, 7, 7)
    with pytest.raises(ValueError, match="jaxmarl has no mine"):
        envs.make(compose.from_words(["map=mine", "env.backend=upstream"]))


@pytest.mark.parametrize(
    ("register", "taken", "key"),
    [
        (lambda name: extensions.register_env(name, make_env), "3m", "map"),
        (lambda name: extensions.register_env(name, make_env), "leader", "map"),
        (lambda name: extensions.register_map(name, Scenario("", (MARINE,), (MARINE,))), "matrix", "map"),
        (lambda name: extensions.register_learner(name, make_env, SETTINGS), "seca", "algo"),
        (lambda name: extensions.register_learner(name, make_env, SETTINGS), "all", "algo"),
        (lambda name: extensions.register_order(name, make_env), "prob", "credit.order"),
        (lambda name: extensions.register_order(name, make_env), "random", "credit.order"),
    ],
)
def test_names_that_there_are_stay_what_they_are(register, taken, key):
    with pytest.raises(ConfigError) as error:
        register(taken)
    assert str(error.value) == f"{key}={taken}: there is one of that name already; give another name"
    with pytest.raises(ConfigError, match="a name is made of letters, digits and underscores"):
        register("a/b")
    register("mine")
    with pytest.raises(ConfigError, match="already; give another name or replace=True"):
        register("mine")


def test_an_environment_and_a_map_share_their_names():
    extensions.register_env("mine", make_env)
    with pytest.raises(ConfigError, match="map=mine: there is one of that name already"):
        extensions.register_map("mine", Scenario("mine", (MARINE,), (MARINE,)))
    extensions.register_map("mine", Scenario("mine", (MARINE,), (MARINE,)), replace=True)
    assert envs.make(compose.from_words(["map=mine"])).frame is not None


def test_entry_points_are_imported_when_they_are_used(fresh, package, capsys):
    name = package(
        game_py="raise RuntimeError('half\\nwritten')",
        other_py="from seca_jax.envs import probes\ndef make(config): return probes.make('leader')",
    )
    fresh(("envs", "broken", f"{name}.game:make"), ("envs", "fine", f"{name}.other:make"))
    assert envs.names()[-2:] == ["broken", "fine"]
    assert envs.make(compose.from_words(["map=fine"])).num_agents == 2
    config = compose.from_words(["map=broken"])
    with pytest.raises(ConfigError) as error:
        envs.make(config)
    where = f"entry point seca_jax.envs: broken = {name}.game:make"
    assert str(error.value) == f"map=broken: {where} cannot be loaded (RuntimeError: half written)"
    assert capsys.readouterr().err == ""


def test_entry_points_of_learners_bring_the_yaml_beside_them(fresh, package):
    name = package(
        mine_py="def make(config, env): ...\ndef opinion(config, env): return 'said'", mine_yaml="reads: [q]"
    )
    fresh(("learners", "mine", f"{name}.mine:make"))
    assert "mine" in learners.readers("q.lr")
    assert extensions.load("learner", "mine").opinion(None, None) == "said"


def test_broken_entry_points_cost_a_line_each(fresh, package, capsys):
    name = package(
        bare_py="make = 3", wrong_py="", wrong_yaml="reads: [nothing]", torn_py="", torn_yaml="reads: ["
    )
    broken = {
        ("envs", "gone", "no_such_package.game:make"): "there is no module no_such_package.game",
        ("envs", "lost", f"{name}.lost:make"): f"there is no module {name}.lost",
        ("envs", "odd", name): "expected package.module:name",
        ("envs", "3m", f"{name}.bare:make"): "map=3m: there is one of that name already; give another name",
        ("learners", "bare", f"{name}.bare:make"): "bare.yaml: the learner's settings cannot be read",
        ("learners", "torn", f"{name}.torn:make"): "torn.yaml: is no YAML (",
        ("learners", "wrong", f"{name}.wrong:make"): "wrong.yaml: reads nothing, which is no key",
        ("orders", "a-b", f"{name}.bare:make"): "credit.order=a-b: a name is made of",
    }
    fresh(*broken, ("orders", "number", f"{name}.bare:make"))
    compose.from_words([])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(broken)
    for (group, own, value), complaint in broken.items():
        start = f"warning: entry point seca_jax.{group}: {own} = {value} is left out: "
        (line,) = (line for line in lines if line.startswith(start))
        assert complaint in line
    with pytest.raises(
        ConfigError, match=r"cannot be loaded \(TypeError: .*bare:make is no function but int\)"
    ):
        extensions.load("order", "number")
    assert orders.allowed().endswith("of other packages number")


def test_a_config_that_names_what_is_gone_says_what(fresh, tmp_path):
    extensions.register_env("game", make_env)
    extensions.register_learner("learner", make_env, SETTINGS)
    extensions.register_order("order", make_env)
    for key, words in (
        ("map=game", ["map=game"]),
        ("algo=learner", ["algo=learner"]),
        ("credit.order=order", ["credit.order=order"]),
    ):
        place = tmp_path / key
        place.mkdir()
        compose.save(place, compose.from_words(words), {})
    fresh()
    for key in ("map=game", "algo=learner", "credit.order=order"):
        with pytest.raises(ConfigError) as error:
            compose.load(tmp_path / key)
        complaint = f"{key}: not installed here; install the package that registers it"
        assert str(error.value) == f"{tmp_path / key / 'config.yaml'}: {complaint}"
