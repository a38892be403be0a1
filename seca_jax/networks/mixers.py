"""Networks of the value-based learners: agents along whole episodes, the mixers of
QMIX and QPLEX, the joint values of QTRAN and QPD."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seca_jax.networks import agent as networks
from seca_jax.networks.agent import MASKED, Network, scaled

POSITIVE = 1e-10  # what weights that must not vanish have at least


class Utilities(NamedTuple):
    """The agents' own values along whole episodes."""

    q: jax.Array  # [T, B, N, A], as learned: unavailable actions are not masked
    hidden: jax.Array  # [T, B, N, H], the recurrent state that each step's values were read from


def unroll(
    agent: Network, params: Any, obs: jax.Array, last_action: jax.Array, start: jax.Array
) -> Utilities:
    """The agents along whole episodes, for training.

    Args:
        params: the agent's.
        obs: [T, B, N, O], step 0 starts an episode.
        last_action: [T, B, N] int32, -1 at an episode's start.
        start: [T, B] bool, the step is the first of its episode.
    """
    hidden = jnp.zeros((*last_action.shape[1:], agent.hidden))
    return networks.unroll(agent, params, hidden, obs, last_action, None, start, keep=Utilities)


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


class DuplexMixer(nn.Module):
    """QPLEX's mixing network (Wang et al. 2020, Figure 1): duplex dueling with positive weights of attention.

        Q(s, u) = sum_i w_i(s) V_i + b_i(s) + lambda_i(s, u) w_i(s) A_i(u_i)          Eq. 7 to 9
        lambda_i(s, u) = sum_k v_k(s) phi_ik(s) lambda_ik(s, u)                        Eq. 10

    with V_i the best of an agent's values and A_i = Q_i - V_i <= 0. All weights are positive, so the
    best joint action is that of the agents' own best ones, whatever lambda makes of the others.
    """

    heads: int  # k
    hypernet: int
    depth: int  # layers of lambda's networks, the hidden ones as wide as the hypernetworks'

    @nn.compact
    def __call__(self, q: jax.Array, best: jax.Array, action: jax.Array, state: jax.Array) -> jax.Array:
        """The team's value.

        Args:
            q: [..., N], the agents' values of what they do.
            best: [..., N], their best values.
            action: [..., N, A], one-hot.
            state: [..., S].

        Returns:
            [...].
        """
        num_agents = q.shape[-1]

        def of_state(name: str) -> jax.Array:
            hidden = nn.relu(nn.Dense(self.hypernet, name=f"{name}_hidden")(state))
            return nn.Dense(num_agents, name=name)(hidden)

        def by_head(size: int, name: str, x: jax.Array) -> jax.Array:  # [..., heads, size]
            for layer in range(self.depth - 1):
                x = nn.relu(nn.Dense(self.hypernet, name=f"{name}_{layer}")(x))
            out = nn.Dense(self.heads * size, name=name)(x)
            return out.reshape(*out.shape[:-1], self.heads, size)

        weight, bias = jnp.abs(of_state("weight")) + POSITIVE, of_state("bias")
        joint = jnp.concatenate([state, action.reshape(*state.shape[:-1], -1)], axis=-1)
        key = jnp.abs(by_head(1, "key", state)) + POSITIVE
        agent = nn.sigmoid(by_head(num_agents, "agent", state))
        importance = jnp.sum(key * agent * nn.sigmoid(by_head(num_agents, "action", joint)), axis=-2)
        # sum_i w_i V_i + b_i + lambda_i w_i A_i. The agents learn through the plain sum of their values,
        # lambda from what that leaves: no gradient goes through its advantages, which the maximum in them
        # would make unstable (appendix).
        advantage = jax.lax.stop_gradient(weight * (q - best))
        return jnp.sum(weight * q + bias + (importance - 1.0) * advantage, axis=-1)


def channels(state: jax.Array, obs: jax.Array, action: jax.Array) -> jax.Array:
    """What is every agent's own of what QPD's central Q reads: its copy of the state, its sight, its action.

    QPD's authors give the agents observations without a limit of sight, for which they change SMAC; the
    state, with the agent's observation to see it from, tells as much.

    Args:
        state: [..., S].
        obs: [..., N, O].
        action: [..., N, A], one-hot.

    Returns:
        [..., N, S + O + A].
    """
    copies = jnp.broadcast_to(state[..., None, :], (*obs.shape[:-1], state.shape[-1]))
    return jnp.concatenate([copies, obs, action], axis=-1)


class ChannelCritic(nn.Module):
    """QPD's central Q (Yang et al. 2020, Figure 1): two layers shared by all agents, then all together.

    The authors have layers for every type of unit, and fit Q to 0 at an episode's end. Here one set of
    layers reads the types, and Q is 0 at the input of zeros by its form.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., N, X] of :func:`channels` -> [...]."""
        first, second = (nn.Dense(self.width, name=name) for name in ("first", "second"))
        together = self.param("together", scaled(1.0), (x.shape[-2] * self.width, 1))[:, 0]

        def read(x: jax.Array) -> jax.Array:
            hidden = nn.relu(second(nn.relu(first(x))))
            return hidden.reshape(*hidden.shape[:-2], -1)

        return (read(x) - read(jnp.zeros(x.shape[-2:]))) @ together


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
