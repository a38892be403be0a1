"""The search behind the defaults: rounds of settings, each with a map, a budget and a question.

A run is named by its words, so panels of a round that ask about the same setting share its run.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

Words = tuple[str, ...]

# What the search started from, spelled out: the schema's defaults move with what the search finds.
START: dict[str, str] = {
    "lam": "0.95",
    "lr_decay": "false",
    "num_envs": "64",
    "window": "64",
    "actor.hidden": "64",
    "actor.lr": "1e-3",
    "actor.entropy": "0.005",
    "actor.entropy_final": "-1.0",
    "actor.epochs": "2",
    "actor.minibatches": "4",
    "actor.clip": "0.2",
    "critic.lr": "1e-3",
    "critic.hypernet_hidden": "32",
    "critic.target_interval": "8",
    "credit.order": "ig-episode",
    "credit.residual": "1.0",
}
FASTER: Words = ("actor.lr=3e-3",)
FALLING: Words = (*FASTER, "actor.entropy=0.02", "actor.entropy_final=0.001")

# Round 6: every learner from its default, the same number of settings, seeds and steps for each. The
# on-policy four get the same changes, and so do the value-based three.
ACTOR_CRITIC: tuple[Words, ...] = (
    (),
    ("actor.lr=1e-3",),
    ("actor.lr=1e-3", "actor.entropy=0.06"),
    ("critic.updates=8",),
)
DEFAULTS_THEN: dict[str, str] = {"actor.lr": "3e-3", "q.lr": "5e-4"}  # the schema's defaults have moved since
VALUE_BASED: tuple[Words, ...] = ((), ("q.lr=1e-3",), ("q.lr=1e-3", "q.updates=2"), ("q.target_interval=64",))


# Rounds 7 and 8: all thirteen, the same again from today's defaults: the learning rate, passes of what acts,
# and passes of what judges or how long it stands still.
PASSES: Words = ("actor.epochs=2",)
TODAY: dict[str, tuple[Words, ...]] = {
    **dict.fromkeys(
        ("seca", "coma_newarchi", "coma"), ((), ("actor.lr=1e-3",), PASSES, ("critic.updates=8",))
    ),
    **dict.fromkeys(("mappo", "ippo"), ((), ("actor.lr=1e-3",), PASSES, ("critic.updates=4",))),
    "lica": ((), ("actor.lr=3e-3",), ("actor.epochs=4",), ("critic.updates=4",)),
    "sqddpg": ((), ("actor.lr=1e-3",), ("actor.epochs=4",), ("critic.updates=8",)),
    "pqn_vdn": ((), ("q.lr=5e-4",), PASSES, ("actor.epochs=8",)),
    **dict.fromkeys(
        ("qmix", "vdn", "qplex", "qpd"), ((), ("q.lr=5e-4",), ("q.updates=4",), ("q.target_interval=64",))
    ),
    "qtran": ((), ("q.lr=1e-3",), ("q.updates=4",), ("q.target_interval=64",)),
}


# The learners' own defaults then, where they have moved since
OWN_THEN: dict[str, dict[str, str]] = {
    "lica": {"critic.updates": "2"},
    "sqddpg": {"actor.epochs": "2"},
    "qplex": {"q.target_interval": "200"},
    "qtran": {"q.target_interval": "200"},
}


def _from(algo: str, changes: tuple[Words, ...]) -> tuple[Words, ...]:
    return tuple((f"algo={algo}", *words) for words in changes)


class Round(NamedTuple):
    """Settings that share a map and a budget."""

    map: str
    budget: Words
    questions: dict[str, tuple[Words, ...]]
    start: dict[str, str] = START
    default: Words = ()  # what most settings begin with and labels leave out
    own: Mapping[str, dict[str, str]] = MappingProxyType({})  # what a learner starts from besides


ROUNDS: dict[str, Round] = {
    "1": Round(
        "3m",
        ("seeds=4", "total_steps=1_000_000", "eval.interval=200_000", "eval.episodes=512"),
        {
            "learning rates": (
                (),
                ("actor.lr=3e-4",),
                FASTER,
                (*FASTER, "critic.lr=3e-3"),
                ("lr_decay=true",),
            ),
            "exploration": ((), ("actor.entropy=0",), ("actor.entropy=0.02",)),
            "batch": (FASTER, (*FASTER, "num_envs=32"), (*FASTER, "num_envs=128")),
            "bootstrap": (FASTER, (*FASTER, "lam=0.8"), (*FASTER, "lam=0.9", "critic.target_interval=1")),
        },
    ),
    "2": Round(
        "3m",
        ("seeds=2", "total_steps=3_000_000", "eval.interval=500_000", "eval.episodes=512"),
        {
            "schedules": (
                FASTER,
                (*FASTER, "lr_decay=true"),
                FALLING,
                (*FASTER, "lr_decay=true", "actor.entropy=0.02", "actor.entropy_final=0"),
            )
        },
    ),
    "3": Round(
        "2s3z",
        ("seeds=2", "total_steps=600_000", "eval.interval=100_000", "eval.episodes=512"),
        {
            "schedules": (
                (),
                FASTER,
                (*FASTER, "lr_decay=true", "actor.entropy=0.02", "actor.entropy_final=0"),
            )
        },
    ),
    "4": Round(
        "2s3z",
        ("seeds=4", "total_steps=200_000", "eval.interval=50_000", "eval.episodes=512"),
        {
            "credit": (
                FALLING,
                (*FALLING, "credit.residual=0"),
                (*FALLING, "credit.residual=0.5"),
                (*FALLING, "credit.order=fixed"),
                (*FALLING, "credit.path=backward"),
            ),
            "reuse": (
                FALLING,
                (*FALLING, "actor.epochs=4"),
                (*FALLING, "actor.epochs=8"),
                (*FALLING, "actor.clip=0.1"),
            ),
            "size": (
                FALLING,
                (*FALLING, "critic.hypernet_hidden=128"),
                (*FALLING, "actor.hidden=128"),
            ),
            "readings": (
                FALLING,
                (*FALLING, "actor.normalise=batch"),
                (*FALLING, "rollout=episode"),
                (*FALLING, "env.state=raw"),
            ),
            "scales": (
                FALLING,
                (*FALLING, "env.reward_scale=1"),
                (*FALLING, "credit.normalise=false"),
                (*FALLING, "env.observation=conic"),
            ),
        },
        default=FALLING,
    ),
    "5": Round(
        "2s3z",
        ("seeds=2", "total_steps=1_000_000", "eval.interval=100_000", "eval.episodes=512"),
        {"the paper's own rule": (FALLING, ("preset=paper", "critic.hypernet_hidden=64"))},
        default=FALLING,
    ),
    "6": Round(
        "3m",
        ("seeds=2", "total_steps=200_000", "eval.interval=50_000", "eval.episodes=512"),
        {algo: _from(algo, ACTOR_CRITIC) for algo in ("seca", "coma_newarchi", "coma", "lica")}
        | {algo: _from(algo, VALUE_BASED) for algo in ("qmix", "vdn", "qtran")},
        start=DEFAULTS_THEN,
    ),
    **{
        number: Round(
            map_name,
            ("seeds=2", "total_steps=200_000", "eval.interval=25_000", "log.interval=25_000"),
            {algo: _from(algo, changes) for algo, changes in TODAY.items()},
            start={},
            own=OWN_THEN,
        )
        for number, map_name in (("7", "2s3z"), ("8", "3m"))
    },
    # Where two seeds left it open, ten others
    **{
        number: Round(
            map_name,
            ("seeds=10", "seed=100", "total_steps=200_000", "eval.interval=25_000", "log.interval=25_000"),
            {algo: _from(algo, ((), (other,))) for algo, other in changes.items()},
            start={},
        )
        for number, map_name, changes in (
            ("9", "2s3z", {"mappo": "critic.updates=4", "coma": "critic.updates=8"}),
            ("10", "3m", {"qmix": "q.updates=4"}),
        )
    },
}


def label(number: str, words: Words) -> str:
    """What a setting of a round is called in legends and tables."""
    default = ROUNDS[number].default
    if default and words[: len(default)] == default:
        return ", ".join(words[len(default) :]) or "default"
    return ", ".join(words) or "start"


def name(number: str, words: Words) -> str:
    """What a setting of a round is called in paths."""
    return f"{number}-" + ("_".join(words) or "start")


def command(number: str, words: Words) -> Words:
    """The words of a setting's training command, the starting point and the round's budget included."""
    own = dict(word.split("=", 1) for word in words)
    start = {} if "preset=paper" in words else ROUNDS[number].start  # a preset is a starting point of its own
    chosen = start | ROUNDS[number].own.get(own.get("algo", ""), {}) | own
    return (*(f"{key}={value}" for key, value in chosen.items()), *ROUNDS[number].budget)
