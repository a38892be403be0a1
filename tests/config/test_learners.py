"""What a learner's file says of it is what its code does."""

from dataclasses import is_dataclass

import jax
import pytest

from seca_jax import algos
from seca_jax.config import commands, compose, learners
from seca_jax.config.schema import keys
from seca_jax.envs import probes


class Watched:
    """A configuration that notes every key that is looked at."""

    def __init__(self, config, seen, prefix=""):
        self.config, self.seen, self.prefix = config, seen, prefix

    def __getattr__(self, name):
        value = getattr(self.config, name)
        if is_dataclass(value):
            return Watched(value, self.seen, f"{self.prefix}{name}.")
        self.seen.add(self.prefix + name)
        return value


@pytest.mark.parametrize("algo", algos.names())
def test_a_learner_looks_at_what_its_file_says_it_reads(algo):
    """Tracing updates under all kinds of critic touches the keys of the learner's ``reads``, no other's."""
    seen = set()
    for kind in (
        ("joint", "dueling", "multilinear") if algo in learners.readers("critic.kind") else ("joint",)
    ):
        words = {"algo": algo, "map": "leader", "num_envs": 8, "critic.kind": kind}
        config = Watched(compose.compose(words), seen)
        learner = algos.make(config, probes.make("leader"))
        state = jax.eval_shape(learner.init, jax.random.key(0))
        jax.eval_shape(learner.train_step, state)
    everybodys = {name for name, _ in keys() if learners.readers(name) == learners.names()}
    said = {name for name, _ in keys() if not learners.unread(name, algo)}
    assert seen - everybodys <= said
    assert said - everybodys <= seen


@pytest.mark.parametrize("algo", algos.names())
def test_what_a_learner_reads_is_in_the_schema(algo):
    assert set(learners.learner(algo)) <= {"reads", "settings", "presets"}
    for entry in learners.learner(algo)["reads"]:
        assert any(learners.mentions(entry, name) for name, _ in keys()), entry


@pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("credit.order", {"seca"}),
        ("credit.residual", {"seca", "coma", "coma_newarchi", "sqddpg"}),
        ("q.mixing", {"qmix", "qpd"}),
        ("q.lr", {"qmix", "vdn", "qtran", "qplex", "qpd", "pqn_vdn"}),
        ("q.heads", {"qplex"}),
        ("credit.points", {"seca", "qpd"}),
        ("critic.mixing", {"seca", "coma_newarchi", "lica"}),
        ("actor.hidden", set(algos.names())),
        ("gamma", set(algos.names())),
    ],
)
def test_who_reads_a_key(name, readers):
    assert {algo for algo in algos.names() if not learners.unread(name, algo)} == readers


def test_a_key_of_another_kind_of_critic_is_idle():
    config = compose.compose({"map": "3m", "critic.kind": "multilinear"})
    joint = compose.compose({"map": "3m", "critic.kind": "joint"})
    assert learners.idle("critic.mixing", config) and not learners.idle("critic.mixing", joint)
    assert learners.idle("critic.pairs", joint) and not learners.idle("critic.pairs", config)
    assert learners.idle("q.lr", config) and not learners.idle("gamma", config)
    # MAPPO has no such kinds: its V is as wide as critic.value_hidden says
    assert not learners.idle("critic.value_hidden", compose.compose({"map": "3m", "algo": "mappo"}))


def test_help_of_one_learner_has_what_it_reads():
    said = {
        line.split("=")[0].strip(): line
        for line in commands.key_lines(compose.from_words(["algo=mappo"]), own=True)
        if "=" in line
    }
    assert {"actor.lr", "critic.updates", "value.view", "map"} <= said.keys()
    assert not [name for name in said if name.startswith(("q.", "shapley.")) or name == "critic.kind"]
    assert not said["actor.epochs"].endswith("]")


def test_help_says_who_reads_what():
    lines = commands.key_lines(compose.from_words([]))
    (group,) = (line for line in lines if line.startswith("  q: "))
    assert group.endswith("(pqn_vdn, qmix, qpd, qplex, qtran, vdn only)")
    said = {line.split("=")[0].strip(): line for line in lines if "=" in line}
    assert said["q.mixing"].endswith("[qmix, qpd only]") and not said["q.lr"].endswith("]")
    assert said["actor.hidden"].endswith("[every learner]")
    assert "int, at least 1" in said["q.mixing"] and "float, 0 to 1" in said["gamma"]
