"""Tiny games with known answers, behind the same protocol as battles.

Each is decided by hand, so a learner's mistakes show in minutes instead of days. Returns are in the
game's own unit; ``won`` marks the best possible episode.

==============  ===================================================================================
``matrix``      one step, the joint actions of two agents index :data:`CLIMB`; best return 8 at
                (0, 0), surrounded by penalties; the monotonic (VDN, QMIX) answer is worth 0
``one_step``    one step, every one of three agents is told an action and the team earns the
                fraction that does as told; best return 1
``crowd_N``     the same for N of 8 or 32 agents, and the team earns 1 for each that does as told: an
                agent's own action is 1/N of the reward's variance, but one rule is right for all, so
                agents with one network find it together; best return N
``roles_N``     agents are told who they are and nothing else; the right action of agent i is i modulo
                4, and the team earns 1 for each that is right. What helps one agent helps no other,
                so here it matters to know whose doing a reward was; best return N
``delayed``     five steps, only the first joint action counts and is paid at the end; best return 1
``leader``      one step, both agents see a bit; agent 0 earns 1 by showing it, agent 1 another
                0.25 by doing as agent 0 does, and only if agent 0 was right: agent 0 can be judged
                alone, agent 1 only after it, so agent 0 belongs first; best return 1.25
==============  ===================================================================================
"""

from typing import Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.arrays import select_rows
from seca_jax.envs.base import Environment
from seca_jax.types import Outcome, View

# The non-monotonic payoff of Son et al. (2019), Table 1.
CLIMB = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]], np.float32)


class Game(NamedTuple):
    """One battle-free game: everything about it but the bookkeeping."""

    num_agents: int
    num_actions: int
    length: int
    # key -> [N, P] what each agent alone sees, kept through the episode
    private: Callable[[jax.Array], jax.Array]
    # (private [N, P], first joint action [N]) -> return, paid at the episode's end
    pay: Callable[[jax.Array, jax.Array], jax.Array]
    best: float


class ProbeState(NamedTuple):
    """A batch of games, each at its own time."""

    private: jax.Array  # [B, N, P]
    first: jax.Array  # [B, N] int32, joint action of the first step
    time: jax.Array  # [B] int32


def _told(num_agents: int, num_actions: int) -> Callable[[jax.Array], jax.Array]:
    def private(key: jax.Array) -> jax.Array:
        told = jax.random.randint(key, (num_agents,), 0, num_actions)
        return jax.nn.one_hot(told, num_actions)

    return private


def _nothing(num_agents: int) -> Callable[[jax.Array], jax.Array]:
    return lambda key: jnp.zeros((num_agents, 1))


def _bit(key: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jax.random.rademacher(key, (), jnp.float32), (2, 1))


def _leader_pay(private: jax.Array, action: jax.Array) -> jax.Array:
    right = action[0] == (private[0, 0] > 0)
    return right * (1.0 + 0.25 * (action[1] == action[0]))


def _each(right: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda private, action: jnp.sum(action == right(private)).astype(jnp.float32)


_as_told = _each(lambda private: jnp.argmax(private, -1))
_in_role = _each(lambda private: jnp.argmax(private, -1) % 4)

GAMES = {
    "matrix": Game(2, 3, 1, _nothing(2), lambda p, u: jnp.asarray(CLIMB)[u[0], u[1]], 8.0),
    "one_step": Game(3, 4, 1, _told(3, 4), lambda p, u: jnp.mean(jnp.argmax(p, -1) == u), 1.0),
    "crowd_8": Game(8, 4, 1, _told(8, 4), _as_told, 8.0),
    "crowd_32": Game(32, 4, 1, _told(32, 4), _as_told, 32.0),
    "roles_8": Game(8, 4, 1, lambda key: jnp.eye(8), _in_role, 8.0),
    "roles_32": Game(32, 4, 1, lambda key: jnp.eye(32), _in_role, 32.0),
    "delayed": Game(2, 2, 5, _nothing(2), lambda p, u: 1.0 * (u[0] != u[1]), 1.0),
    "leader": Game(2, 2, 1, _bit, _leader_pay, 1.25),
}


def make(name: str) -> Environment:
    """A probe game. Observation: private features and the clock; state: all of it together.

    Raises:
        KeyError: no such game.
    """
    game = GAMES[name]

    def reset(key: jax.Array, num_envs: int) -> ProbeState:
        return ProbeState(
            private=jax.vmap(game.private)(jax.random.split(key, num_envs)),
            first=jnp.zeros((num_envs, game.num_agents), jnp.int32),
            time=jnp.zeros(num_envs, jnp.int32),
        )

    def view(state: ProbeState) -> View:
        num_envs = len(state.time)
        clock = (state.time / game.length).astype(jnp.float32)
        own_clock = jnp.broadcast_to(clock[:, None, None], (num_envs, game.num_agents, 1))
        return View(
            obs=jnp.concatenate([state.private, own_clock], axis=-1),
            avail=jnp.ones((num_envs, game.num_agents, game.num_actions), bool),
            # What was done first is part of the world, or the state would not be Markov.
            state=jnp.concatenate(
                [
                    state.private.reshape(num_envs, -1),
                    clock[:, None],
                    state.first * (state.time > 0)[:, None],
                ],
                axis=-1,
            ),
        )

    def step(key: jax.Array, state: ProbeState, action: jax.Array) -> tuple[ProbeState, Outcome]:
        del key
        first = jnp.where((state.time == 0)[:, None], action, state.first)
        time = state.time + 1
        terminated = time >= game.length
        reward = jnp.where(terminated, jax.vmap(game.pay)(state.private, first), 0.0)
        return ProbeState(state.private, first, time), Outcome(
            reward=reward,
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
            won=terminated & (reward >= game.best - 1e-6),
        )

    def restart(key: jax.Array, state: ProbeState, ended: jax.Array) -> ProbeState:
        return select_rows(ended, reset(key, ended.shape[0]), state)

    features = jax.eval_shape(game.private, jax.random.key(0)).shape[-1]
    return Environment(
        name=name,
        num_agents=game.num_agents,
        num_actions=game.num_actions,
        obs_size=features + 1,
        state_size=game.num_agents * (features + 1) + 1,
        max_steps=game.length,
        reward_scale=1.0,
        reset=reset,
        step=step,
        view=view,
        restart=restart,
        select=select_rows,
    )
