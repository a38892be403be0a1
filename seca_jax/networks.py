"""Networks: the recurrent agent shared by all agents, the hypernetwork critic f_phi, COMA's critic."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from seca_jax.types import Carry

# Unavailable actions: far enough down that the softmax underflows to exactly 0, and finite, so that
# gradients through the mask are 0 and not NaN.
MASKED = -1e9


def initial_carry(num_envs: int, num_agents: int, hidden: int) -> Carry:
    """What agents remember at an episode's start: nothing."""
    return Carry(
        hidden=jnp.zeros((num_envs, num_agents, hidden)),
        last_action=jnp.full((num_envs, num_agents), -1, jnp.int32),
    )


def fresh_where(ended: jax.Array, carry: Carry) -> Carry:
    """``carry`` with the environments in ``ended`` [B] set to an episode's start."""
    gone = ended[:, None]
    return Carry(
        hidden=jnp.where(gone[..., None], 0.0, carry.hidden),
        last_action=jnp.where(gone, -1, carry.last_action),
    )


def agent_input(obs: jax.Array, last_action: jax.Array, num_actions: int) -> jax.Array:
    """Observation, last action (one-hot, zeros at a start), agent id (one-hot).

    Args:
        obs: [..., N, O].
        last_action: [..., N] int32, -1 at an episode's start.

    Returns:
        [..., N, O + A + N].
    """
    num_agents = obs.shape[-2]
    identity = jnp.broadcast_to(jnp.eye(num_agents), (*obs.shape[:-1], num_agents))
    return jnp.concatenate([obs, jax.nn.one_hot(last_action, num_actions), identity], axis=-1)


def scaled(scale: float, mode: str = "fan_in") -> nn.initializers.Initializer:
    """Normal weights of the size that orthogonal ones would have.

    Orthogonal ones take a QR factorisation, and two of those at once, batched over seeds, wait for
    each other for ever on a CPU with two threads (jaxlib 0.10.2, LAPACK kernels).
    """
    return nn.initializers.variance_scaling(scale, mode, "normal")


class Agent(nn.Module):
    """Dense -> ReLU -> GRU -> Dense, one set of parameters for all agents (Figure 3a, bottom)."""

    hidden: int
    num_actions: int

    @nn.compact
    def __call__(self, hidden: jax.Array, x: jax.Array, avail: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step.

        Args:
            hidden: [..., H].
            x: [..., O + A + N], see :func:`agent_input`.
            avail: [..., A] bool.

        Returns:
            next hidden [..., H], masked logits [..., A].
        """
        recurrent = self.param("recurrent", scaled(1.0, "fan_out"), (self.hidden, 3 * self.hidden))
        recurrent_bias = self.param("recurrent_bias", nn.initializers.zeros, (self.hidden,))
        embedded = nn.Dense(self.hidden, kernel_init=scaled(2.0), name="embed")(x)
        gates = nn.Dense(3 * self.hidden, name="gates")(nn.relu(embedded))
        reset_x, update_x, candidate_x = jnp.split(gates, 3, axis=-1)
        reset_h, update_h, candidate_h = jnp.split(hidden @ recurrent, 3, axis=-1)
        reset = nn.sigmoid(reset_x + reset_h)
        update = nn.sigmoid(update_x + update_h)
        candidate = jnp.tanh(candidate_x + reset * (candidate_h + recurrent_bias))
        hidden = (1.0 - update) * candidate + update * hidden
        # Small: the untrained policy is close to uniform over the available actions.
        head = nn.Dense(self.num_actions, kernel_init=scaled(1e-4), name="head")
        return hidden, jnp.where(avail, head(hidden), MASKED)


def unroll(
    agent: Agent,
    params: Any,
    hidden: jax.Array,
    obs: jax.Array,
    last_action: jax.Array,
    avail: jax.Array,
    start: jax.Array,
) -> jax.Array:
    """Masked logits of a whole window, for training.

    Every step's arrays fit a CPU's cache; those of the whole window, which the backward pass would
    read again, do not, so each step is computed a second time instead (a third less time on a CPU
    with 64 x 64 steps of 5 agents).

    Args:
        params: the agent's.
        hidden: [B, N, H] before the first step.
        obs: [T, B, N, O].
        last_action: [T, B, N] int32.
        avail: [T, B, N, A] bool.
        start: [T, B] bool, the step is the first of its episode: hidden is zeroed before it.

    Returns:
        [T, B, N, A].
    """
    num_envs, num_agents, width = hidden.shape

    @jax.checkpoint
    def step(h, inputs):
        obs, last_action, avail, first = inputs
        x = agent_input(obs, last_action, agent.num_actions).reshape(num_envs * num_agents, -1)
        h = jnp.where(jnp.repeat(first, num_agents)[:, None], 0.0, h)
        h, logits = agent.apply(params, h, x, avail.reshape(num_envs * num_agents, -1))
        return h, logits.reshape(avail.shape)

    flat = hidden.reshape(num_envs * num_agents, width)
    return jax.lax.scan(step, flat, (obs, last_action, avail, start))[1]


@struct.dataclass
class Mixer:
    """Weights of the critic's mixing network at given states, and the network itself.

    Computing ``w1`` is what a critic evaluation costs; all vectors v at one state share it.
    """

    w1: jax.Array  # [..., N * A, M], the part of the first layer that depends on the state
    w1_fixed: jax.Array  # [N * A, M], the part that does not
    b1: jax.Array  # [..., M]
    w2: jax.Array  # [..., M]
    b2: jax.Array  # [...]

    def __call__(self, v: jax.Array) -> jax.Array:
        """f(s; v) = relu(flatten(v) (w1 + w1_fixed) + b1) . w2 + b2. v [..., N, A] -> [...]."""
        flat = v.reshape(*v.shape[:-2], v.shape[-2] * v.shape[-1])  # not -1: a path may have no segment
        # Adding w1_fixed to w1 first would cost a pass over the largest array there is.
        hidden = jnp.einsum("...i,...im->...m", flat, self.w1) + flat @ self.w1_fixed + self.b1
        return jnp.sum(jax.nn.relu(hidden) * self.w2, axis=-1) + self.b2


class Critic(nn.Module):
    """The hypernetwork of Figure 3(a): state -> weights of the mixing network f_phi."""

    inputs: int  # N * A
    mixing: int  # M
    hypernet_hidden: int

    @nn.compact
    def __call__(self, state: jax.Array) -> Mixer:
        """[..., S] -> :class:`Mixer`."""
        # The first layers of all four weights read the same state: one product instead of four.
        ends = [self.hypernet_hidden + i * self.mixing for i in range(3)]
        first = nn.Dense(self.hypernet_hidden + 3 * self.mixing, name="first")(state)
        h1, h2, h3, b1 = jnp.split(first, ends, axis=-1)
        w1 = nn.Dense(self.inputs * self.mixing, use_bias=False, name="w1")(nn.relu(h1))
        return Mixer(
            w1=w1.reshape(*w1.shape[:-1], self.inputs, self.mixing),
            w1_fixed=self.param("w1_fixed", nn.initializers.zeros, (self.inputs, self.mixing)),
            b1=b1,
            w2=nn.Dense(self.mixing, name="w2")(nn.relu(h2)),
            b2=nn.Dense(1, name="b2")(nn.relu(h3))[..., 0],
        )


def make_critic(config: Any, num_agents: int, num_actions: int) -> Critic:
    """The critic of a run; ``critic.hypernet_hidden=paper`` is as wide as its output (64 N A)."""
    width = config.critic.hypernet_hidden
    outputs = config.critic.mixing * num_agents * num_actions
    return Critic(
        inputs=num_agents * num_actions,
        mixing=config.critic.mixing,
        hypernet_hidden=outputs if width == "paper" else int(width),
    )


class CounterfactualCritic(nn.Module):
    """COMA's critic: Q of each of an agent's actions, the others' fixed (Foerster et al. 2018, Fig. 1c)."""

    hidden: int
    num_actions: int

    @nn.compact
    def __call__(self, state: jax.Array, obs: jax.Array, last_action: jax.Array, v: jax.Array) -> jax.Array:
        """One set of parameters for all agents.

        Args:
            state: [..., S].
            obs: [..., N, O].
            last_action: [..., N] int32, -1 at an episode's start.
            v: [..., N, A] the others' one-hot actions, or policies where none was taken; an agent's
                own row does not reach its own Q.

        Returns:
            [..., N, A].
        """
        num_agents = v.shape[-2]
        others = v[..., None, :, :] * (1.0 - jnp.eye(num_agents))[..., None]
        identity = jnp.broadcast_to(jnp.eye(num_agents), (*obs.shape[:-1], num_agents))
        own = jnp.concatenate([obs, identity, others.reshape(*v.shape[:-1], -1)], axis=-1)
        before = jax.nn.one_hot(last_action, self.num_actions)
        shared = jnp.concatenate([state, before.reshape(*state.shape[:-1], -1)], axis=-1)
        # One dense layer over everything, but what all agents share goes through it once.
        x = nn.Dense(self.hidden, name="own")(own)
        x = x + nn.Dense(self.hidden, use_bias=False, name="shared")(shared)[..., None, :]
        x = nn.Dense(self.hidden, name="second")(nn.relu(x))
        return nn.Dense(self.num_actions, name="head")(nn.relu(x))
