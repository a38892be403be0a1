"""A game and a learner that compile in no time, for tests of what surrounds them.

``python tests/stub.py key=value ...`` is the training command line with both in place.
"""

import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.types import Carry, Learner, Outcome, View

LENGTH = 3  # steps of every episode


def with_devices(count: int) -> dict[str, str]:
    """The environment of a process that takes the CPU for so many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "XLA_FLAGS": flags.strip()}


def make_env(config: Config) -> Environment:
    """Two agents, two actions; an episode is won by taking action 1 at its last step."""

    def view(state: jax.Array) -> View:
        b = state.shape[0]
        return View(
            obs=jnp.broadcast_to(state[:, None, None], (b, 2, 1)).astype(jnp.float32),
            avail=jnp.ones((b, 2, 2), bool),
            state=state[:, None].astype(jnp.float32),
        )

    def step(key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Outcome]:
        terminated = state + 1 >= LENGTH
        won = terminated & (action.sum(axis=-1) == 2)
        return state + 1, Outcome(won.astype(jnp.float32), terminated, jnp.zeros_like(terminated), won)

    return Environment(
        name=config.map,
        num_agents=2,
        num_actions=2,
        obs_size=1,
        state_size=1,
        max_steps=LENGTH,
        reward_scale=1.0,
        reset=lambda key, num_envs: jnp.zeros(num_envs, jnp.int32),
        step=step,
        view=view,
        restart=lambda key, state, ended: jnp.where(ended, 0, state),
        select=jnp.where,
    )


@struct.dataclass
class State:
    params: dict[str, jax.Array]  # draw [] uniform, walk [2] a random walk that decides the actions
    key: jax.Array
    steps: jax.Array
    updates: jax.Array


def make_algorithm(config: Config, env: Environment) -> Learner:
    """A learner whose numbers depend on its whole past; actor.clip=N breaks at update N if draw > 0.5."""

    def init(key: jax.Array) -> State:
        draw_key, key = jax.random.split(key)
        params = {"draw": jax.random.uniform(draw_key), "walk": jnp.zeros(2)}
        return State(params, key, jnp.asarray(0), jnp.zeros((), jnp.int32))  # a weakly typed 0, too

    def train_step(state: State) -> tuple[State, dict[str, jax.Array]]:
        draw_key, key = jax.random.split(state.key)
        walk = state.params["walk"] + jax.random.normal(draw_key, (2,))
        made = config.num_envs * config.window
        if config.rollout == "episode":  # as many steps as the draw says, up to num_envs * LENGTH
            made = jax.random.randint(key, (), config.num_envs, config.num_envs * LENGTH + 1)
        updates = state.updates + 1
        broken = (state.params["draw"] > 0.5) & (updates >= config.actor.clip) & (config.actor.clip >= 1)
        walk = jnp.where(broken, jnp.nan, walk)
        metrics = {
            "sum/episodes": jnp.where(updates % 2 == 0, 2.0, 0.0),
            "sum/wins": jnp.where(updates % 2 == 0, 1.0, 0.0),
            "sum/return": jnp.where(updates % 2 == 0, walk[0], 0.0),
            "sum/length": jnp.where(updates % 2 == 0, 2.0 * LENGTH, 0.0),
            "sum/steps": jnp.asarray(made, jnp.float32),
            "entropy": walk[1],
            "critic_loss": updates.astype(jnp.float32),
            "finite": jnp.where(broken, 0.0, 1.0),
        }
        params = {"draw": state.params["draw"], "walk": walk}
        return State(params, key, state.steps + made, updates), metrics

    def act(
        params: Any, carry: Carry, obs: Any, avail: Any, key: jax.Array, greedy: bool
    ) -> tuple[Any, Carry]:
        logits = params["walk"] + jax.random.normal(key, (*avail.shape[:2], 2))  # so that keys matter
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), carry

    def initial_carry(num_envs: int) -> Carry:
        return Carry(jnp.zeros((num_envs, 2, 1)), jnp.full((num_envs, 2), -1, jnp.int32))

    return Learner(init, train_step, act, initial_carry)


if __name__ == "__main__":
    from seca_jax import algos, envs, train

    envs.make, algos.make = make_env, make_algorithm
    sys.exit(train.main())
