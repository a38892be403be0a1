"""The paper's two particle tasks (Figure 2) on jaxmarl's particle worlds, behind our protocol.

==========================  =======================================================================
``predator_prey``           three predators, a faster prey that acts at random, two obstacles; the
                            episode ends with the first touch, which pays :data:`CAPTURE` to the team
``cooperative_navigation``  three agents, three landmarks; every step pays the negative sum of the
                            landmarks' distances to their nearest agents; won when at the end an
                            agent stands on every landmark
==========================  =======================================================================

An episode is :data:`LIMIT` transitions long at most. The paper gives no sizes; worlds, observations
and the limit are jaxmarl's (``simple_tag``, ``simple_spread``), and so are the five actions: stay,
left, right, down, up.
"""

import functools
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp

from seca_jax.arrays import select_rows
from seca_jax.envs.base import Environment, draw, each, split
from seca_jax.envs.quietly import jaxmarl
from seca_jax.types import Outcome, View

LIMIT = 25  # transitions
CAPTURE = 10.0  # reward of a capture, jaxmarl's for one touch
MOVES = 5  # actions of every particle


class Task(NamedTuple):
    """What a task adds to its world."""

    world: Any  # jaxmarl's environment
    team: list[str]  # names of the agents that learn
    # (one key or [B], num_envs) -> {name: action [B]} of the particles that do not learn
    others: Callable[[jax.Array, int], dict[str, jax.Array]]
    # world state of one environment -> (reward, ended, success)
    judge: Callable[[Any], tuple[jax.Array, jax.Array, jax.Array]]


def _touch(world: Any, state: Any, a: jax.Array, b: int) -> jax.Array:
    return jnp.linalg.norm(state.p_pos[a] - state.p_pos[b], axis=-1) < world.rad[a] + world.rad[b]


def _predator_prey() -> Task:
    world = jaxmarl("environments.mpe").SimpleTagMPE(num_good_agents=1, num_adversaries=3, num_obs=2)
    (prey,) = world.good_agents

    def judge(state: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        caught = _touch(world, state, jnp.arange(3), 3).any()
        return CAPTURE * caught, caught, caught

    def others(key: jax.Array, num_envs: int) -> dict[str, jax.Array]:
        return {prey: draw(functools.partial(jax.random.randint, minval=0, maxval=MOVES), key, (), num_envs)}

    return Task(world, list(world.adversaries), others, judge)


def _cooperative_navigation() -> Task:
    world = jaxmarl("environments.mpe").SimpleSpreadMPE(num_agents=3, num_landmarks=3)

    def judge(state: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        apart = state.p_pos[:3, None] - state.p_pos[None, 3:]
        nearest = jnp.min(jnp.linalg.norm(apart, axis=-1), axis=0)
        return -jnp.sum(nearest), jnp.bool_(False), jnp.all(nearest < world.rad[0])

    return Task(world, list(world.agents), lambda key, num_envs: {}, judge)


TASKS = {"predator_prey": _predator_prey, "cooperative_navigation": _cooperative_navigation}


def make(name: str) -> Environment:
    """A particle task. State: tanh of all particles' positions and of the velocities of those that move;
    observations: tanh of jaxmarl's.

    The worlds have no walls. At the time limit particles may be further out than at any state that the
    critic is fitted to, and a critic that extrapolates feeds its own excess back through the bootstrap:
    with raw positions the loss on predator_prey grew without bound (1e13 after 60,000 steps, 2.9 with
    tanh). COMA's critic reads observations too.

    Raises:
        KeyError: no such task.
    """
    task = TASKS[name]()
    world, team = task.world, task.team

    def reset(key: jax.Array, num_envs: int) -> Any:
        return jax.vmap(world.reset)(jax.random.split(key, num_envs))[1]

    def view(states: Any) -> View:
        obs = jax.vmap(world.get_obs)(states)
        num_envs = states.step.shape[0]
        position, velocity = states.p_pos, states.p_vel[:, : world.num_agents]
        return View(
            obs=jnp.tanh(jnp.stack([obs[agent] for agent in team], axis=1)),
            avail=jnp.ones((num_envs, len(team), MOVES), bool),
            state=jnp.tanh(jnp.concatenate([x.reshape(num_envs, -1) for x in (position, velocity)], axis=-1)),
        )

    def step(key: jax.Array, states: Any, action: jax.Array) -> tuple[Any, Outcome]:
        others_key, key = split(key)
        num_envs = action.shape[0]
        joint = {agent: action[:, i] for i, agent in enumerate(team)} | task.others(others_key, num_envs)
        states = jax.vmap(world.step_env)(each(key, num_envs), states, joint)[1]
        reward, ended, success = jax.vmap(task.judge)(states)
        late = states.step >= LIMIT
        outcome = Outcome(
            reward=reward.astype(jnp.float32),
            terminated=ended,
            truncated=late & ~ended,
            won=success & (ended | late),
        )
        return states, outcome

    def restart(key: jax.Array, states: Any, ended: jax.Array) -> Any:
        return select_rows(ended, reset(key, ended.shape[0]), states)

    shapes = jax.eval_shape(lambda: view(reset(jax.random.key(0), 1)))
    return Environment(
        name=name,
        num_agents=len(team),
        num_actions=MOVES,
        obs_size=shapes.obs.shape[-1],
        state_size=shapes.state.shape[-1],
        max_steps=LIMIT,
        reward_scale=1.0,
        reset=reset,
        step=step,
        view=view,
        restart=restart,
        select=select_rows,
    )
