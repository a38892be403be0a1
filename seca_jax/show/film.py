"""One episode of a trained team, step by step, with what its critic says about who deserves credit."""

import os
from typing import Any, NamedTuple

import jax
import numpy as np

from seca_jax.envs.base import Environment
from seca_jax.envs.smax.frame import Frame
from seca_jax.envs.smax.units import TABLE
from seca_jax.experience.batch import Rollout
from seca_jax.experience.rollout import watch_episode
from seca_jax.show import battle, credit_figure, credit_panel, style
from seca_jax.types import Assessment, Learner

TWEEN = 2  # pictures a step


class Episode(NamedTuple):
    """One greedy episode of T steps."""

    rollout: Rollout  # leaves [T, 1, ...]
    frames: Frame | None  # [T + 1, U], the start and after every step; None: there is nothing to draw
    returns: np.ndarray  # [T + 1] return so far, the environment's own unit
    ending: str  # won, lost or time limit
    names: list[str]  # of the N agents: their index and, in a battle, their unit type, e.g. 0 stalker
    alive: np.ndarray  # [T + 1, N] bool: the agent lives at that moment (always, where there is no battle)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.rollout.action)


def play(env: Environment, learner: Learner, params: Any, key: jax.Array) -> Episode:
    """One whole greedy episode; ``params`` of one seed."""

    def watched(params: Any, key: jax.Array) -> tuple[Rollout, Any]:
        return watch_episode(env, learner.act, learner.initial_carry, params, key)

    whole, seen = jax.jit(watched)(params, key)
    steps, agents = int(whole.mask.sum()), range(env.num_agents)
    over_time = (
        "view",
        "action",
        "reward",
        "terminated",
        "truncated",
        "won",
        "mask",
        "age",
        "returned",
        "slot",
    )
    rollout = whole.replace(
        **{name: jax.tree.map(lambda x: x[:steps], getattr(whole, name)) for name in over_time}
    )
    if env.frame:
        frames = jax.tree.map(lambda x: np.asarray(x)[: steps + 1, 0], seen)
        names = [f"{agent} {TABLE.names[frames.unit_type[0, agent]]}" for agent in agents]
        alive = frames.alive[:, : len(agents)]
    else:
        frames, names = None, [f"agent {agent}" for agent in agents]
        alive = np.ones((steps + 1, len(agents)), bool)
    returns = np.concatenate([[0.0], np.asarray(rollout.returned)[:, 0]])
    ending = "won" if rollout.won[-1, 0] else "lost" if rollout.terminated[-1, 0] else "time limit"
    return Episode(rollout, frames, returns, ending, names, alive)


def assess(learner: Learner, params: Any, rollout: Rollout) -> Assessment | None:
    """What the learner's critic makes of an episode, as NumPy arrays; None: it assigns credit in no order.

    Args:
        learner: that played it.
        params: of one seed.
        rollout: leaves [T, 1, ...], one whole episode.
    """
    if learner.assess is None:
        return None
    return jax.device_get(jax.jit(learner.assess)(params, rollout))


def spans(order: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Consecutive steps with the same order: (first step, last step, order [N]). ``order`` [T, N]."""
    changes = 1 + np.flatnonzero((order[1:] != order[:-1]).any(-1))
    bounds = [0, *changes.tolist(), len(order)]
    return [(first, end - 1, order[first]) for first, end in zip(bounds[:-1], bounds[1:])]


def told(episode: Episode, assessment: Assessment | None, credit_order: str) -> dict[str, Any]:
    """The episode in words and numbers, as JSON takes them.

    Returns:
        ``steps``, ``return``, ``ending``, ``credit_order`` (its name) and ``order``: for every run of steps
        that share one, ``first`` and ``last`` step and the ``agents``, first assessed first; of a learner
        that assigns no order no runs and an empty name.
    """
    order = [] if assessment is None else spans(np.asarray(assessment.order))
    return {
        "steps": episode.steps,
        "return": float(episode.returns[-1]),
        "ending": episode.ending,
        "credit_order": credit_order if order else "",
        "order": [
            {"first": first, "last": last, "agents": [episode.names[agent] for agent in agents]}
            for first, last, agents in order
        ],
    }


def describe(part: dict[str, Any]) -> str:
    """A run of steps of :func:`told`'s order as a line."""
    first, last = part["first"], part["last"]
    when = f"steps {first} to {last}" if last > first else f"step {first}"
    return f"{when}: " + " > ".join(part["agents"])


def stills(episode: Episode, order: np.ndarray, *, size: int) -> list[credit_figure.Still]:
    """Pictures of a battle at a few moments, ``size`` pixels wide; none where there is nothing to draw.

    ``order`` [T, N], first assessed first.
    """
    if episode.frames is None:
        return []
    found = []
    for t in credit_figure.moments(episode.steps):
        image = battle.still(
            episode.frames,
            t,
            order=order[min(t, episode.steps - 1)],
            size=size,
            ridge=episode.frames.ridge,
            colours=style.agents(order.shape[1]),
        )
        caption = f"step {t}, return {episode.returns[t]:.2f}"
        caption += f", {episode.ending}" if t == episode.steps else ""
        found.append(credit_figure.Still(t, image, caption))
    return found


def draw(
    path: str | os.PathLike,
    episode: Episode,
    *,
    title: str,
    size: int,
    assessment: Assessment | None = None,
) -> None:
    """The battle as a GIF, ``size`` pixels wide; with an assessment, a panel of the credit beside it.

    Args:
        path: GIF to write.
        episode: of a battle.
        title: left part of the header.
        size: width of the battle in pixels; the panel comes on top.
        assessment: what the critic makes of the episode; None for learners that assign no order.

    Raises:
        ValueError: there is nothing to draw.
        OSError: the file cannot be written.
    """
    if episode.frames is None:
        raise ValueError("only battles have pictures")
    order, colours = None, None
    if assessment is not None:
        # The order of step t belongs to the pictures that lead out of moment t; the last moment keeps it.
        order = np.concatenate([assessment.order, assessment.order[-1:]])
        colours = style.agents(order.shape[1])
    images = battle.pictures(
        episode.frames,
        title=title,
        returns=episode.returns,
        order=order,
        outcome=episode.ending,
        size=size,
        tween=TWEEN,
        ridge=episode.frames.ridge,
        colours=colours,
    )
    if assessment is not None:
        images = list(images)
        panel = credit_panel.Panel(
            contribution=np.asarray(assessment.contribution),
            order=np.asarray(assessment.order),
            alive=episode.alive,
            names=episode.names,
            size=(round(0.55 * size), images[0].height),
        )
        # One picture shows the start, TWEEN every later moment
        beside = [panel.draw(t) for t in range(episode.steps + 1)]
        shown = [0] + [t for t in range(1, len(beside)) for _ in range(TWEEN)]
        images = [credit_panel.beside(image, beside[t]) for image, t in zip(images, shown, strict=True)]
    battle.save_gif(path, images)
