"""Networks of the value-based learners: agents along whole episodes, QMIX's mixer, QTRAN's joint values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seca_jax.networks.agent import MASKED, Agent, agent_input, apply


class Utilities(NamedTuple):
    """The agents' own values along whole episodes."""

    q: jax.Array  # [T, B, N, A], as learned: unavailable actions are not masked
    hidden: jax.Array  # [T, B, N, H], the recurrent state that each step's values were read from


def unroll(agent: Agent, params: Any, obs: jax.Array, last_action: jax.Array) -> Utilities:
    """The agents from an episode's start on, for training.

    Args:
        params: the agent's.
        obs: [T, B, N, O], step 0 starts an episode.
        last_action: [T, B, N] int32, -1 at the start.
    """
    num_envs, num_agents = last_action.shape[1:]

    @jax.checkpoint  # as in networks.unroll: computing a step twice is cheaper than fetching it back
    def step(hidden: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Utilities]:
        x = agent_input(inputs[0], inputs[1], agent.num_actions).reshape(num_envs * num_agents, -1)
        hidden, q = apply(agent, params, hidden, x, True)
        seen = Utilities(q, hidden)
        return hidden, jax.tree.map(lambda y: y.reshape(num_envs, num_agents, -1), seen)

    start = jnp.zeros((num_envs * num_agents, agent.hidden))
    return jax.lax.scan(step, start, (obs, last_action))[1]


def best_actions(q: jax.Array, avail: jax.Array) -> jax.Array:
    """Every agent's best available action. [..., A] twice -> [...] int32."""
    return jnp.argmax(jnp.where(avail, q, MASKED), axis=-1)


def value_of(q: jax.Array, action: jax.Array) -> jax.Array:
    """Values of given actions. [..., A], [...] -> [...]."""
    return jnp.take_along_axis(q, action[..., None], axis=-1)[..., 0]


class QMixer(nn.Module):
    """QMIX's mixing network (Rashid et al. 2018, Figure 2): weights from the state, never negative."""

    embed: int
    hypernet: int

    @nn.compact
    def __call__(self, q: jax.Array, state: jax.Array) -> jax.Array:
        """The team's value from the agents'. q [..., N], state [..., S] -> [...]."""
        num_agents = q.shape[-1]

        def weights(size: int, name: str) -> jax.Array:
            hidden = nn.relu(nn.Dense(self.hypernet, name=f"{name}_hidden")(state))
            return jnp.abs(nn.Dense(size, name=name)(hidden))

        w1 = weights(num_agents * self.embed, "w1").reshape(*q.shape, self.embed)
        b1 = nn.Dense(self.embed, name="b1")(state)
        mixed = nn.elu(jnp.einsum("...n,...ne->...e", q, w1) + b1)
        value = nn.Dense(1, name="value")(nn.relu(nn.Dense(self.embed, name="value_hidden")(state)))
        return jnp.sum(mixed * weights(self.embed, "w2"), axis=-1) + value[..., 0]


class _Value(nn.Module):
    """Three dense layers to one number."""

    embed: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.embed)(x))
        return nn.Dense(1)(x)[..., 0]


class JointQ(nn.Module):
    """QTRAN's Q(s, u) (Son et al. 2019, Figure 1): reads the agents' recurrent states and their actions."""

    embed: int = 64

    @nn.compact
    def __call__(self, hidden: jax.Array, action: jax.Array, state: jax.Array) -> jax.Array:
        """hidden [..., N, H], one-hot action [..., N, A], state [..., S] -> [...]."""
        x = jnp.concatenate([hidden, action], axis=-1)
        x = nn.Dense(x.shape[-1])(nn.relu(nn.Dense(x.shape[-1])(x)))
        # Summed over agents: its size does not grow with the team, or with the joint actions.
        return _Value(self.embed)(jnp.concatenate([state, jnp.sum(x, axis=-2)], axis=-1))


class StateValue(nn.Module):
    """QTRAN's V(s), the gap between the joint value and the sum of the agents' that partial sight leaves."""

    embed: int = 64

    @nn.compact
    def __call__(self, state: jax.Array) -> jax.Array:
        """[..., S] -> [...]."""
        return _Value(self.embed)(state)
