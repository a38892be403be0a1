"""The agents' network, one set of parameters for all of them or one each, and what agents remember."""

import math
from dataclasses import dataclass
from typing import Any, Callable, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seca_jax.config.schema import ActorConfig
from seca_jax.types import Carry

# Unavailable actions: far enough down that the softmax underflows to exactly 0, and finite, so that
# gradients through the mask are 0 and not NaN.
MASKED = -1e9
# Width of the GRU from which on its products and not memory bound a CPU. Measured: see experiments/speed.md.
WIDE = 256


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


def scaled(scale: float, mode: Literal["fan_in", "fan_out"] = "fan_in") -> nn.initializers.Initializer:
    """Normal weights of the size that orthogonal ones would have.

    Orthogonal ones take a QR factorisation, and two of those at once, batched over seeds, wait for
    each other for ever on a CPU with two threads (jaxlib 0.10.2, LAPACK kernels).
    """
    return nn.initializers.variance_scaling(scale, mode, "normal")


class Gates(NamedTuple):
    """A GRU's gates at a step, [..., H] each."""

    reset: jax.Array
    update: jax.Array
    candidate: jax.Array
    kept: jax.Array  # what ``reset`` lets through of the past

    def mix(self, hidden: jax.Array) -> jax.Array:
        """The next hidden state."""
        return (1.0 - self.update) * self.candidate + self.update * hidden


def open_gates(perceived: jax.Array, remembered: jax.Array, bias: jax.Array) -> Gates:
    """Gates from what the input and what the hidden state make of them.

    Args:
        perceived: [..., 3H], reset, update and candidate.
        remembered: the same.
        bias: [H], of the candidate's remembered part.
    """
    reset_x, update_x, candidate_x = jnp.split(perceived, 3, axis=-1)
    reset_h, update_h, candidate_h = jnp.split(remembered, 3, axis=-1)
    reset, kept = nn.sigmoid(reset_x + reset_h), candidate_h + bias
    return Gates(reset, nn.sigmoid(update_x + update_h), jnp.tanh(candidate_x + reset * kept), kept)


@jax.custom_vjp
def recur(
    recurrent: jax.Array, bias: jax.Array, hidden: jax.Array, perceived: jax.Array, start: jax.Array
) -> jax.Array:
    """A GRU along a window: hidden states [T, R, H].

    Its gradient takes one product a step, as it does itself: that of the weights is one product over all
    steps, where a scan's own would add a matrix of their size to another at every step.

    Args:
        recurrent: [H, 3H].
        bias: [H].
        hidden: [R, H] before the first step.
        perceived: [T, R, 3H].
        start: [T, R] bool, the hidden state is zeroed before the step.
    """
    return _recur_forward(recurrent, bias, hidden, perceived, start)[0]


def _recur_forward(
    recurrent: jax.Array, bias: jax.Array, hidden: jax.Array, perceived: jax.Array, start: jax.Array
) -> tuple[jax.Array, tuple]:
    def step(h: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple]:
        perceived, first = inputs
        h = jnp.where(first[:, None], 0.0, h)
        remembered = h @ recurrent
        after = open_gates(perceived, remembered, bias).mix(h)
        return after, (after, remembered)

    _, (after, remembered) = jax.lax.scan(step, hidden, (perceived, start))
    return after, (recurrent, bias, hidden, perceived, start, after, remembered)


def _recur_backward(known: tuple, d_after: jax.Array) -> tuple:
    recurrent, bias, hidden, perceived, start, after, remembered = known
    before = jnp.where(start[..., None], 0.0, jnp.concatenate([hidden[None], after[:-1]]))

    def step(d_h: jax.Array, inputs: tuple) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        d_after, perceived, remembered, before, first = inputs
        gates = open_gates(perceived, remembered, bias)
        d_h = d_h + d_after
        d_candidate = d_h * (1.0 - gates.update) * (1.0 - jnp.square(gates.candidate))
        d_update = d_h * (before - gates.candidate) * gates.update * (1.0 - gates.update)
        d_reset = d_candidate * gates.kept * gates.reset * (1.0 - gates.reset)
        d_kept = d_candidate * gates.reset
        d_remembered = jnp.concatenate([d_reset, d_update, d_kept], axis=-1)
        d_before = d_h * gates.update + d_remembered @ recurrent.T
        d_perceived = jnp.concatenate([d_reset, d_update, d_candidate], axis=-1)
        return jnp.where(first[:, None], 0.0, d_before), (d_perceived, d_kept)

    inputs = d_after, perceived, remembered, before, start
    d_hidden, (d_perceived, d_kept) = jax.lax.scan(step, jnp.zeros_like(hidden), inputs, reverse=True)
    width = recurrent.shape[0]
    past, opened, kept = (x.reshape(-1, x.shape[-1]) for x in (before, d_perceived, d_kept))
    d_recurrent = jnp.concatenate([past.T @ opened[:, : 2 * width], past.T @ kept], axis=1)
    return d_recurrent, jnp.sum(kept, axis=0), d_hidden, d_perceived, np.zeros(start.shape, jax.dtypes.float0)


recur.defvjp(_recur_forward, _recur_backward)


class Agent(nn.Module):
    """Dense -> ReLU -> GRU -> Dense, one set of parameters for all agents (Figure 3a, bottom).

    Without the GRU (``mlp``) a second dense layer and its ReLU stand in its place, and nothing is remembered.
    """

    hidden: int
    num_actions: int
    layer_norm: bool = False  # of what the dense layer makes of the input, before the ReLU
    kind: str = "gru"  # gru or mlp
    moves: int = 0  # of the first actions; the others have a target each. 0: all actions are alike

    def setup(self) -> None:
        """Its layers."""
        self.embed = nn.Dense(self.hidden, kernel_init=scaled(2.0))
        if self.layer_norm:
            self.norm = nn.LayerNorm()
        if self.kind == "mlp":
            self.second = nn.Dense(self.hidden, kernel_init=scaled(2.0))
        else:
            self.gates = nn.Dense(3 * self.hidden)
            width = self.hidden
            self.recurrent = self.param("recurrent", scaled(1.0, "fan_out"), (width, 3 * width))
            self.recurrent_bias = self.param("recurrent_bias", nn.initializers.zeros, (width,))
        # Small: the untrained policy is close to what the bias makes of it.
        self.head = nn.Dense(self.num_actions, kernel_init=scaled(1e-4), bias_init=self.start)

    def __call__(self, hidden: jax.Array, x: jax.Array, avail: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step.

        Args:
            hidden: [..., H]; an ``mlp`` does not look at it.
            x: [..., O + A + N], see :func:`agent_input`.
            avail: [..., A] bool.

        Returns:
            next hidden [..., H], what the logits are read from; masked logits [..., A].
        """
        hidden = self.remember(hidden, self.perceive(x))
        return hidden, self.read(hidden, avail)

    def perceive(self, x: jax.Array) -> jax.Array:
        """What of a step needs no memory: [..., 3H] for the GRU's gates, of an ``mlp`` all, [..., H]."""
        embedded = self.embed(x)
        embedded = nn.relu(self.norm(embedded) if self.layer_norm else embedded)
        return nn.relu(self.second(embedded)) if self.kind == "mlp" else self.gates(embedded)

    def remember(self, hidden: jax.Array, perceived: jax.Array) -> jax.Array:
        """The next hidden state [..., H]: one step of the GRU."""
        if self.kind == "mlp":
            return perceived
        gates = open_gates(perceived, hidden @ self.recurrent, self.recurrent_bias)
        return gates.mix(hidden)

    def along(self, hidden: jax.Array, x: jax.Array, start: jax.Array) -> jax.Array:
        """Hidden states [T, R, H] of a window: ``hidden`` [R, H], ``x`` [T, R, ...], ``start`` [T, R]."""
        perceived = self.perceive(x)
        if self.kind == "mlp":
            return perceived
        return recur(self.recurrent, self.recurrent_bias, hidden, perceived, start)

    def read(self, hidden: jax.Array, avail: jax.Array) -> jax.Array:
        """Masked logits [..., A]."""
        return jnp.where(avail, self.head(hidden), MASKED)

    def start(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        """The head's bias before training: zeros, or lower for targets that outnumber the moves.

        A uniform policy of 5 moves and 64 targets hardly ever moves. All targets together then start with
        the weight of all moves, as they have anyway where there are no more of them.
        """
        del key
        targets = self.num_actions - self.moves
        low = min(0.0, math.log(self.moves / targets)) if self.moves and targets else 0.0
        return jnp.where(jnp.arange(self.num_actions) < self.moves, 0.0, low).astype(dtype)


@dataclass(frozen=True)
class Separate:
    """Agents that share nothing: a set of parameters for each, all leaves [N, ...].

    It is called as an :class:`Agent` is, with a team's rows at a time, agents innermost.
    """

    agent: Agent
    num_agents: int

    @property
    def hidden(self) -> int:
        """H."""
        return self.agent.hidden

    @property
    def num_actions(self) -> int:
        """A."""
        return self.agent.num_actions

    def init(self, key: jax.Array, hidden: jax.Array, x: jax.Array, avail: jax.Array | bool) -> Any:
        """Parameters, every agent's drawn by itself; the arguments after ``key`` as :meth:`apply`'s."""
        keys = jax.random.split(key, self.num_agents)
        return jax.vmap(lambda own: self.agent.init(own, hidden, x, avail))(keys)

    def apply(
        self, params: Any, hidden: jax.Array, x: jax.Array, avail: jax.Array | bool
    ) -> tuple[jax.Array, jax.Array]:
        """:meth:`Agent.__call__` of every agent with its own parameters.

        Args:
            params: leaves [N, ...].
            hidden: [..., N, H], or [rows, H], rows a multiple of N.
            x: the same, O + A + N wide.
            avail: the same, A wide; or True.
        """
        masks = jnp.broadcast_to(avail, (*x.shape[:-1], self.num_actions))
        rows = [leaf.reshape(-1, self.num_agents, leaf.shape[-1]) for leaf in (hidden, x, masks)]
        found = jax.vmap(lambda *own: apply(self.agent, *own), in_axes=(0, 1, 1, 1), out_axes=1)(
            params, *rows
        )
        after, logits = (leaf.reshape(*x.shape[:-1], -1) for leaf in found)
        return after, logits


Network = Agent | Separate


def make(
    config: ActorConfig, num_agents: int, num_actions: int, layer_norm: bool = False, moves: int = 0
) -> Network:
    """The network of a team; ``hidden``, ``kind`` and ``shared`` of the configuration matter.

    Args:
        config: the run's.
        num_agents: N.
        num_actions: A.
        layer_norm: see :class:`Agent`.
        moves: see :class:`Agent`; of policies that start balanced.
    """
    agent = Agent(config.hidden, num_actions, layer_norm, config.kind, moves)
    return agent if config.shared else Separate(agent, num_agents)


def apply(
    agent: Network, params: Any, hidden: jax.Array, x: jax.Array, avail: jax.Array | bool
) -> tuple[jax.Array, jax.Array]:
    """:meth:`Agent.__call__` with its parameters."""
    return cast(tuple[jax.Array, jax.Array], agent.apply(params, hidden, x, avail))


def unroll(
    agent: Network,
    params: Any,
    hidden: jax.Array,
    obs: jax.Array,
    last_action: jax.Array,
    avail: jax.Array | None,
    start: jax.Array,
    keep: Callable[[jax.Array, jax.Array], Any] = lambda logits, hidden: logits,
) -> Any:
    """A whole window's masked logits, or what else of its steps is kept, for training.

    Every step's arrays fit a CPU's cache; those of the whole window, which the backward pass would
    read again, do not, so each step is computed a second time instead (a third less time on a CPU
    with 64 x 64 steps of 5 agents). From WIDE on products take longer than reading does: nothing is
    computed twice, and what needs no memory is computed for all steps at once.

    Args:
        params: the agent's.
        hidden: [B, N, H] before the first step.
        obs: [T, B, N, O].
        last_action: [T, B, N] int32.
        avail: [T, B, N, A] bool; None: nothing is masked.
        start: [T, B] bool, the step is the first of its episode: hidden is zeroed before it.
        keep: of a step, ``(logits [B, N, A], hidden [B, N, H] that they are read from) -> leaves [B, ...]``.

    Returns:
        what is kept, leaves [T, B, ...]: the logits, [T, B, N, A].
    """
    num_envs, num_agents, width = hidden.shape
    rows = num_envs * num_agents
    if isinstance(agent, Agent) and width >= WIDE:
        run: Any = agent.apply
        x = agent_input(obs, last_action, agent.num_actions).reshape(len(obs), rows, -1)
        first = jnp.repeat(start, num_agents, axis=1)
        after = run(params, hidden.reshape(rows, width), x, first, method="along").reshape(*obs.shape[:3], -1)
        logits = run(params, after, True if avail is None else avail, method="read")
        return jax.vmap(keep)(logits, after)

    @jax.checkpoint
    def step(h: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, Any]:
        obs, last_action, avail, first = inputs
        x = agent_input(obs, last_action, agent.num_actions).reshape(rows, -1)
        h = jnp.where(jnp.repeat(first, num_agents)[:, None], 0.0, h)
        h, logits = apply(agent, params, h, x, True if avail is None else avail.reshape(rows, -1))
        return h, keep(*(y.reshape(num_envs, num_agents, -1) for y in (logits, h)))

    return jax.lax.scan(step, hidden.reshape(rows, width), (obs, last_action, avail, start))[1]
