"""Critics: the hypernetwork f_phi(s; v), V beside it or beside a multilinear one, V, COMA's, SQDDPG's."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from seca_jax.config.schema import CriticConfig


@struct.dataclass
class CriticHead:
    """f_phi at given states: the weights of its mixing network, and the network itself.

    For many v at a state, call it: they share ``w1``, which is what an evaluation costs. For one v, as when
    the critic is fitted, :meth:`once` is cheaper: ``w1``, N A M numbers a state, is then never made.
    """

    w1: jax.Array  # [..., N * A, M], the part of the first layer that depends on the state
    w1_fixed: jax.Array  # [N * A, M], the part that does not
    b1: jax.Array  # [..., M]
    w2: jax.Array  # [..., M]
    b2: jax.Array  # [...]
    features: jax.Array  # [..., H], what w1 is linear in
    kernel: jax.Array  # [H, N * A, M], and how

    def __call__(self, v: jax.Array) -> jax.Array:
        """f(s; v) = relu(flatten(v) (w1 + w1_fixed) + b1) . w2 + b2. v [..., N, A] -> [...]."""
        flat = v.reshape(*v.shape[:-2], v.shape[-2] * v.shape[-1])  # not -1: a path may have no segment
        # Adding w1_fixed to w1 first would cost a pass over the largest array there is.
        return self._out(jnp.einsum("...i,...im->...m", flat, self.w1) + flat @ self.w1_fixed + self.b1)

    def once(self, v: jax.Array) -> jax.Array:
        """The same number for one v a state, its products in another order. v [..., N, A] -> [...].

        sum_i v_i sum_h x_h K_him = sum_h x_h (sum_i v_i K_him): the inner sum is one large product over the
        batch, H M numbers a state, and its gradient needs none with respect to w1.
        """
        flat = v.reshape(*v.shape[:-2], v.shape[-2] * v.shape[-1])
        width, inputs, mixing = self.kernel.shape
        by_feature = flat @ self.kernel.swapaxes(0, 1).reshape(inputs, width * mixing)
        by_feature = by_feature.reshape(*flat.shape[:-1], width, mixing)
        mixed = jnp.sum(self.features[..., None] * by_feature, axis=-2)
        return self._out(mixed + flat @ self.w1_fixed + self.b1)

    def _out(self, hidden: jax.Array) -> jax.Array:
        """relu(hidden) . w2 + b2. [..., M] -> [...]."""
        return jnp.sum(jax.nn.relu(hidden) * self.w2, axis=-1) + self.b2


class Hypernetwork(nn.Module):
    """The hypernetwork of Figure 3(a): state -> weights of the mixing network f_phi."""

    inputs: int  # N * A
    mixing: int  # M
    hypernet_hidden: int
    output_init: nn.initializers.Initializer = nn.initializers.lecun_normal()  # of w2's and b2's weights

    @nn.compact
    def __call__(self, state: jax.Array) -> CriticHead:
        """[..., S] -> :class:`CriticHead`."""
        # The first layers of all four weights read the same state: one product instead of four.
        ends = [self.hypernet_hidden + i * self.mixing for i in range(3)]
        first = nn.Dense(self.hypernet_hidden + 3 * self.mixing, name="first")(state)
        h1, h2, h3, b1 = jnp.split(first, ends, axis=-1)
        features = nn.relu(h1)
        dense = nn.Dense(self.inputs * self.mixing, use_bias=False, name="w1")
        w1 = dense(features)
        kernel: Any = dense.variables["params"]["kernel"]
        return CriticHead(
            w1=w1.reshape(*w1.shape[:-1], self.inputs, self.mixing),
            features=features,
            kernel=kernel.reshape(self.hypernet_hidden, self.inputs, self.mixing),
            w1_fixed=self.param("w1_fixed", nn.initializers.zeros, (self.inputs, self.mixing)),
            b1=b1,
            w2=nn.Dense(self.mixing, kernel_init=self.output_init, name="w2")(nn.relu(h2)),
            b2=nn.Dense(1, kernel_init=self.output_init, name="b2")(nn.relu(h3))[..., 0],
        )


@struct.dataclass
class MultilinearHead:
    """c at given states, linear in every agent's row of v: actions alone, and pairs of them.

    c(s; v) = sum_i v_i . a_i + sum_m (-1)^m sum_{i<j} p_im p_jm with p_im = v_i . b_im. No product has an
    agent twice, so that c(s; pi) is the expectation of c(s; u) over u drawn from pi.
    """

    alone: jax.Array  # [..., N, A], the a_i
    paired: jax.Array  # [..., N, A, M], the b_im

    def __call__(self, v: jax.Array) -> jax.Array:
        """c(s; v). v [..., N, A] -> [...]."""
        p = jnp.einsum("...na,...nam->...nm", v, self.paired)
        # Twice the sum over pairs is the square of the sum less the squares.
        pairs = 0.5 * (jnp.square(jnp.sum(p, axis=-2)) - jnp.sum(jnp.square(p), axis=-2))
        signs = 1.0 - 2.0 * (jnp.arange(p.shape[-1]) % 2)
        return jnp.sum(v * self.alone, axis=(-2, -1)) + pairs @ signs

    once = __call__  # there is nothing to save where there is one v a state


@struct.dataclass
class DuelingHead:
    """V(s) at given states and, apart from it, what actions change there."""

    values: jax.Array  # [..., 1], or [..., N] by agents' views: V(s) is their mean
    advantage: CriticHead | MultilinearHead

    @property
    def value(self) -> jax.Array:
        """V(s), [...]."""
        return jnp.mean(self.values, axis=-1)

    def __call__(self, v: jax.Array) -> jax.Array:
        """f(s; v) = V(s) + c(s; v). v [..., N, A] -> [...]."""
        return self.value + self.advantage(v)


class Dueling(nn.Module):
    """V(s), two hidden layers, and c(s; v), the hypernetwork of Figure 3(a): they share no weight.

    The two are apart as in the dueling network of Wang et al. 2016, so that each can be fitted to what
    it learns best from.
    """

    hypernetwork: Hypernetwork
    value_hidden: int

    @nn.compact
    def __call__(self, state: jax.Array) -> DuelingHead:
        """[..., S] -> :class:`DuelingHead`."""
        h = nn.relu(nn.Dense(self.value_hidden, name="value_1")(state))
        h = nn.relu(nn.Dense(self.value_hidden, name="value_2")(h))
        values = nn.Dense(1, name="value_3")(h)
        return DuelingHead(values=values, advantage=self.hypernetwork(state))


def numbered(obs: jax.Array) -> jax.Array:
    """Each agent's observation and, one-hot, its number: [..., N, O] -> [..., N, O + N]."""
    num_agents = obs.shape[-2]
    number = jnp.broadcast_to(jnp.eye(num_agents), (*obs.shape[:-1], num_agents))
    return jnp.concatenate([obs, number], axis=-1)


class AgentView(nn.Module):
    """The state as each agent sees it: two hidden layers over the state, its observation and its number."""

    hidden: int

    @nn.compact
    def __call__(self, state: jax.Array, obs: jax.Array) -> jax.Array:
        """state [..., S], obs [..., N, O] -> [..., N, hidden]."""
        # One dense layer over everything, but what all agents share goes through it once.
        x = nn.Dense(self.hidden, use_bias=False, name="own")(numbered(obs))
        x = x + nn.Dense(self.hidden, name="shared")(state)[..., None, :]
        return nn.relu(nn.Dense(self.hidden, name="second")(nn.relu(x)))


class Multilinear(nn.Module):
    """V and c(s; v) from every agent's view, one set of parameters for all agents; V and c share none.

    V is the mean of what the views say, each fitted by itself: from N views of a state there is more to learn
    than from the state, see experiments/credit.md.
    """

    num_actions: int
    hidden: int
    pairs: int  # M

    @nn.compact
    def __call__(self, state: jax.Array, obs: jax.Array) -> DuelingHead:
        """state [..., S], obs [..., N, O] -> :class:`DuelingHead`."""
        values = nn.Dense(1, name="value")(AgentView(self.hidden, name="value_view")(state, obs))[..., 0]
        x = AgentView(self.hidden, name="credit_view")(state, obs)
        # Zero weights, and pairs that hardly count: no credit at first rather than a random one
        alone = nn.Dense(self.num_actions, kernel_init=nn.initializers.zeros, name="alone")(x)
        small = nn.initializers.normal(0.1 / self.hidden**0.5)
        paired = nn.Dense(self.num_actions * self.pairs, kernel_init=small, name="paired")(x)
        paired = paired.reshape(*alone.shape, self.pairs)
        return DuelingHead(values=values, advantage=MultilinearHead(alone, paired))


class Value(nn.Module):
    """V of whatever it is given: two hidden layers."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., inputs] -> [...]."""
        for _ in range(2):
            x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(1)(x)[..., 0]


def make_hypernetwork(
    config: CriticConfig, num_agents: int, num_actions: int, **options: Any
) -> Hypernetwork:
    """The hypernetwork of a run; ``hypernet_hidden=paper`` is as wide as its output (64 N A)."""
    width = config.hypernet_hidden
    outputs = config.mixing * num_agents * num_actions
    return Hypernetwork(
        inputs=num_agents * num_actions,
        mixing=config.mixing,
        hypernet_hidden=outputs if width == "paper" else int(width),
        **options,
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
        own = jnp.concatenate([numbered(obs), others.reshape(*v.shape[:-1], -1)], axis=-1)
        before = jax.nn.one_hot(last_action, self.num_actions)
        shared = jnp.concatenate([state, before.reshape(*state.shape[:-1], -1)], axis=-1)
        # One dense layer over everything, but what all agents share goes through it once.
        x = nn.Dense(self.hidden, name="own")(own)
        x = x + nn.Dense(self.hidden, use_bias=False, name="shared")(shared)[..., None, :]
        x = nn.Dense(self.hidden, name="second")(nn.relu(x))
        return nn.Dense(self.num_actions, name="head")(nn.relu(x))


class CoalitionCritic(nn.Module):
    """SQDDPG's marginal contributions: of each of an agent's actions to a coalition of others."""

    hidden: int
    num_actions: int

    @nn.compact
    def __call__(
        self,
        state: jax.Array,
        obs: jax.Array,
        last_action: jax.Array,
        v: jax.Array,
        coalitions: jax.Array,
    ) -> jax.Array:
        """One set of parameters for all agents.

        Args:
            state: [..., S].
            obs: [..., N, O].
            last_action: [..., N] int32, -1 at an episode's start.
            v: [..., N, A] one-hot actions, or policies where none was taken.
            coalitions: [..., K, N, N] bool, ``[n, m]``: agent n sees agent m's row of v.

        Returns:
            [..., K, N, A].
        """
        num_agents = v.shape[-2]
        identity = jnp.broadcast_to(jnp.eye(num_agents), (*obs.shape[:-1], num_agents))
        before = jax.nn.one_hot(last_action, self.num_actions)
        own = jnp.concatenate([obs, before, identity], axis=-1)
        x = nn.Dense(self.hidden, name="own")(own)
        x = x + nn.Dense(self.hidden, use_bias=False, name="shared")(state)[..., None, :]
        # A dense layer over the members' rows, side by side: each row goes through it once for all who see it
        kernel = self.param(
            "members",
            nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2),
            (num_agents, self.num_actions, self.hidden),
        )
        rows = jnp.einsum("...ma,mah->...mh", v, kernel)
        among = jnp.einsum("...knm,...mh->...knh", coalitions.astype(rows.dtype), rows)
        x = nn.Dense(self.hidden, name="second")(nn.relu(x[..., None, :, :] + among))
        return nn.Dense(self.num_actions, name="head")(nn.relu(x))
