"""The search behind SeCA's default: one change at a time from the default it started with.

Every question is a panel: the starting point and what was tried instead. A run is named by its words, so
panels that ask about the same setting share its run.
"""

from collections.abc import Iterable

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
    "actor.epochs": "2",
    "actor.minibatches": "4",
    "actor.clip": "0.2",
    "critic.lr": "1e-3",
    "critic.hypernet_hidden": "32",
    "critic.target_interval": "8",
    "credit.order": "ig-episode",
    "credit.residual": "1.0",
}
BUDGET: dict[str, Words] = {
    "3m": ("seeds=4", "total_steps=1_000_000", "eval.interval=200_000", "eval.episodes=512"),
    "2s3z": ("seeds=4", "total_steps=300_000", "eval.interval=50_000", "eval.episodes=512"),
}
START_WORDS: Words = ()
FASTER: Words = ("actor.lr=3e-3",)
QUESTIONS: dict[str, tuple[Words, ...]] = {
    "learning rates": (
        START_WORDS,
        ("actor.lr=3e-4",),
        FASTER,
        (*FASTER, "critic.lr=3e-3"),
        ("lr_decay=true",),
    ),
    "exploration": (START_WORDS, ("actor.entropy=0",), ("actor.entropy=0.02",)),
    "batch": (FASTER, (*FASTER, "num_envs=32"), (*FASTER, "num_envs=128")),
    "bootstrap": (FASTER, (*FASTER, "lam=0.8"), (*FASTER, "lam=0.9", "critic.target_interval=1")),
    "credit": (
        FASTER,
        (*FASTER, "credit.residual=0.5"),
        (*FASTER, "credit.order=fixed"),
        (*FASTER, "credit.path=backward"),
    ),
    "reuse": (FASTER, (*FASTER, "actor.epochs=4"), (*FASTER, "actor.clip=0.1")),
    "size": (FASTER, (*FASTER, "critic.hypernet_hidden=128"), (*FASTER, "actor.hidden=128")),
}


def label(words: Words) -> str:
    """What a setting is called in legends and tables."""
    return ", ".join(words) or "start"


def name(words: Words) -> str:
    """What a setting is called in paths."""
    return "_".join(words) or "start"


def command(map_name: str, words: Iterable[str]) -> Words:
    """The words of a setting's training command, the starting point and the budget included."""
    chosen = START | dict(word.split("=", 1) for word in words)
    return (*(f"{key}={value}" for key, value in chosen.items()), *BUDGET[map_name])
