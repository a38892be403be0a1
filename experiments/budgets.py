"""One curve of a figure, and how long it is trained at each scale."""

from typing import NamedTuple

MAPS = ("2s3z", "1c3s5z", "2c_vs_64zg", "3s_vs_5z", "MMM2", "3s5z_vs_3s6z")
PARTICLE_TASKS = ("predator_prey", "cooperative_navigation")
# 5,000 episodes of 25 steps; captures end episodes early, so Predator-Prey makes more of them.
PARTICLE_STEPS = 125_000
PARTICLE_WORDS = (
    "num_envs=16",
    "window=25",
    "eval.interval=5_000",
    "eval.episodes=256",
    "log.interval=5_000",
)
# Steps of a seed on a battle map. The paper trains 32 M steps on the first two maps, 64 M on the others.
SCALES = {"tiny": 100_000, "small": 1_000_000, "full": 10_000_000, "paper": 64_000_000}
# What makes fewer than 2,800 steps/s on a map would need half an hour and more for a million steps of five
# seeds: there scale=small is 300,000, and the curve ends early. Measured: results/benchmark/figure5.json, but
# QTRAN, which is always the slowest of these.
SMALL_SLOW = 2_800  # steps/s of all seeds together
REPLAYING = ("qmix", "qtran", "qplex")
SMALL_SLOW_ON = {
    "2s3z": ("qtran",),
    "3s_vs_5z": ("qtran",),
    "1c3s5z": REPLAYING,
    "3s5z_vs_3s6z": REPLAYING,
    "2c_vs_64zg": REPLAYING,
    "MMM2": ("seca", "coma", "coma_newarchi", "lica", *REPLAYING),
}
SMALL_SLOW_WORDS = ("total_steps=300_000", "eval.interval=25_000", "log.interval=25_000")
# Points enough for a curve where a hundred thousand steps are all there is.
TINY_WORDS = ("eval.interval=10_000", "log.interval=10_000")


class Run(NamedTuple):
    """One curve."""

    label: str  # in the legend
    name: str  # in paths
    map: str
    words: tuple[str, ...]  # of the training command, besides map, total_steps and out
    small: tuple[str, ...] = ()  # at scale=small instead of that scale's budget


def steps(map_name: str, scale: str) -> int:
    """Steps of a seed on a battle map."""
    return 32_000_000 if scale == "paper" and map_name in MAPS[:2] else SCALES[scale]


def settings(run: Run, scale: str) -> tuple[str, ...]:
    """The words of a run's training command that depend on the scale."""
    if run.map in PARTICLE_TASKS:
        return (f"total_steps={PARTICLE_STEPS}", *PARTICLE_WORDS)
    if any(word.startswith("total_steps=") for word in run.words):
        return ()  # the run has a budget of its own
    if scale == "small" and run.small:
        return run.small
    own = {"tiny": TINY_WORDS, "paper": ("preset=paper",)}.get(scale, ())
    return (*own, f"total_steps={steps(run.map, scale)}")


def command(run: Run, scale: str) -> list[str]:
    """The words of a run's training command, but for ``out``."""
    return [f"map={run.map}", *run.words, *settings(run, scale)]
