"""One episode of a trained team, step by step, with what its critic says about who deserves credit."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.base import Environment
from seca_jax.experience.rollout import Rollout
from seca_jax.show import credit_figure, credit_panel, style
from seca_jax.types import Assessment, Learner


class Episode(NamedTuple):
    """One greedy episode of T steps."""

    rollout: Rollout  # leaves [T, 1, ...], no tail
    frames: list[Any] | None  # T + 1 Frames, the start and after every step; None: nothing to draw
    returns: np.ndarray  # [T + 1] return so far, the environment's own unit
    won: bool
    ending: str  # won, lost or time limit


def play(env: Environment, algorithm: Learner, params: Any, key: jax.Array) -> Episode:
    """One whole greedy episode; ``params`` of one seed."""

    @jax.jit
    def advance(state, carry, key):
        act_key, step_key = jax.random.split(key)
        view = env.view(state)
        action, carry = algorithm.act(params, carry, view.obs, view.avail, act_key, True)
        state, outcome = env.step(step_key, state, action)
        return state, carry, view, action, outcome

    frame = jax.jit(env.frame) if env.frame else None
    reset_key, key = jax.random.split(key)
    state, fresh = env.reset(reset_key, 1), algorithm.initial_carry(1)
    carry, record, frames = fresh, [], [frame(state)] if frame else None
    for t in range(env.max_steps):
        state, carry, view, action, outcome = advance(state, carry, jax.random.fold_in(key, t))
        record.append((view, action, outcome))
        if frame:
            frames.append(frame(state))
        if outcome.terminated[0] or outcome.truncated[0]:
            break
    view, action, outcome = jax.tree.map(lambda *leaves: jnp.stack(leaves), *record)
    returned = jnp.cumsum(outcome.reward, axis=0) / env.reward_scale
    steps = len(record)
    rollout = Rollout(
        view=view,
        action=action,
        extra=None,
        reward=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        won=outcome.won,
        mask=jnp.ones((steps, 1), bool),
        age=jnp.arange(steps)[:, None],
        returned=returned,
        carry=fresh,
        tail=None,
        tail_carry=None,
        slot=None,
    )
    won = bool(outcome.won[-1, 0])
    ending = "won" if won else "lost" if outcome.terminated[-1, 0] else "time limit"
    return Episode(rollout, frames, np.concatenate([[0.0], returned[:, 0]]), won, ending)


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


def names(env: Environment, frames: list[Any] | None) -> list[str]:
    """Labels of the agents: their index and, in a battle, their unit type, e.g. ``0 stalker``."""
    if frames is None:
        return [f"agent {agent}" for agent in range(env.num_agents)]
    from seca_jax.envs.smax.units import TABLE

    types = np.asarray(frames[0].unit_type)[0, : env.num_agents]
    return [f"{agent} {TABLE.names[kind]}" for agent, kind in enumerate(types)]


def alive(env: Environment, episode: Episode) -> np.ndarray:
    """[T + 1, N] bool: the agent lives at moment t (always, where there is no battle)."""
    if episode.frames is None:
        return np.ones((len(episode.rollout.action) + 1, env.num_agents), bool)
    return np.stack([np.asarray(f.alive)[0, : env.num_agents] for f in episode.frames])


def describe(order: np.ndarray, labels: list[str]) -> list[str]:
    """The credit order in words, a line for every run of steps that share one."""
    lines = []
    for first, last, agents in spans(order):
        when = f"steps {first} to {last}" if last > first else f"step {first}"
        lines.append(f"{when}: " + " > ".join(labels[agent] for agent in agents))
    return lines


def stills(episode: Episode, *, map_name: str, order: np.ndarray, size: int) -> list[credit_figure.Still]:
    """Pictures of a battle at a few moments, ``size`` pixels wide; none where there is nothing to draw."""
    if episode.frames is None:
        return []
    from seca_jax.envs.smax.scenarios import SCENARIOS
    from seca_jax.show import battle

    steps, whole = len(order), battle.one_battle(episode.frames)
    colours = style.agents(order.shape[1])
    found = []
    for t in credit_figure.moments(steps):
        image = battle.still(
            whole,
            t,
            order=order[min(t, steps - 1)],
            size=size,
            ridge=SCENARIOS[map_name].ridge,
            colours=colours,
        )
        caption = f"step {t}, return {episode.returns[t]:.2f}" + (f", {episode.ending}" if t == steps else "")
        found.append(credit_figure.Still(t, image, caption))
    return found


def draw(
    path: str,
    episode: Episode,
    *,
    map_name: str,
    title: str,
    size: int,
    assessment: Assessment | None = None,
    alive: np.ndarray | None = None,
    labels: list[str] = (),
) -> None:
    """The battle as a GIF, ``size`` pixels wide; with an assessment, a panel of the credit beside it.

    Args:
        path: GIF to write.
        episode: of a battle.
        map_name: the map.
        title: left part of the header.
        size: width of the battle in pixels; the panel comes on top.
        assessment: what the critic makes of the episode; None for learners that assign no order.
        alive: [T + 1, N] bool, see :func:`alive`; needed with an assessment.
        labels: of the N agents, see :func:`names`; needed with an assessment.

    Raises:
        OSError: the file cannot be written.
    """
    from seca_jax.envs.smax.scenarios import SCENARIOS
    from seca_jax.show import battle

    tween, options = 2, {}
    if assessment:
        order = assessment.order
        # The order of step t belongs to the pictures that lead out of moment t; the last moment keeps it.
        options = {
            "order": np.concatenate([order, order[-1:]]),
            "colours": style.agents(order.shape[1]),
        }
    images = battle.pictures(
        battle.one_battle(episode.frames),
        title=title,
        returns=episode.returns,
        outcome=episode.ending,
        size=size,
        tween=tween,
        ridge=SCENARIOS[map_name].ridge,
        **options,
    )
    if assessment:
        images = list(images)
        panel = credit_panel.Panel(
            contribution=assessment.contribution,
            order=assessment.order,
            alive=alive,
            names=labels,
            size=(round(0.55 * size), images[0].height),
        )
        # One picture shows the start, ``tween`` every later moment
        beside = [panel.draw(t) for t in range(len(episode.frames))]
        shown = [0] + [t for t in range(1, len(beside)) for _ in range(tween)]
        images = [credit_panel.beside(image, beside[t]) for image, t in zip(images, shown, strict=True)]
    battle.save_gif(path, images)
