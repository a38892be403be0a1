"""Axes and the pytrees that flow between rooms.

Axis legend, used in every docstring of the package:

====  ==========================================================================
``T``  time steps of one rollout
``B``  environments that run in parallel
``N``  agents
``A``  actions of one agent
``O``  features of one agent's observation
``S``  features of the global state
``H``  units of the agents' recurrent state
``K``  points on one straight segment of an attribution path
====  ==========================================================================

Order is ``[T, B, N, ...]``. A seed axis may lead everything (``vmap``); no code below the
runner knows of it. ``terminated[t]`` and ``truncated[t]`` belong to transition ``t``, the one
from step ``t`` to step ``t + 1``.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
from flax import struct

if TYPE_CHECKING:
    from seca_jax.experience.batch import Rollout


@struct.dataclass
class View:
    """What agents and critic see at one moment."""

    obs: jax.Array  # [B, N, O] float32, each agent's own observation
    avail: jax.Array  # [B, N, A] bool, true where the action may be taken; never all false
    state: jax.Array  # [B, S] float32, the global state (critic only)


@struct.dataclass
class Outcome:
    """What one environment step brought, before any restart."""

    reward: jax.Array  # [B] float32, shared by the team, already scaled
    terminated: jax.Array  # [B] bool, the episode reached a real end: no bootstrap
    truncated: jax.Array  # [B] bool, the time limit cut it (never together with terminated)
    won: jax.Array  # [B] bool, ended now and counts as a success


@struct.dataclass
class Carry:
    """What an agent remembers between two steps of an episode."""

    hidden: jax.Array  # [B, N, H] recurrent state, zeros at an episode's start
    last_action: jax.Array  # [B, N] int32, -1 at an episode's start


class Assessment(NamedTuple):
    """Who deserves what in one episode, as a learner's critic sees it."""

    order: jax.Array  # [T, N] agent indices, first assessed first
    contribution: jax.Array  # [T, N] of the segment from step t to t + 1 (Eq. 14)


class State(Protocol):
    """A learner's train state: a pytree with at least these fields."""

    @property
    def params(self) -> Any:
        """What ``act`` and ``assess`` take."""
        ...

    @property
    def steps(self) -> jax.Array:
        """int32 scalar, real environment steps so far."""
        ...

    @property
    def updates(self) -> jax.Array:
        """int32 scalar, batches learned from."""
        ...


class Init(Protocol):
    """How a train state begins."""

    def __call__(self, key: jax.Array) -> State:
        """The train state that training starts from."""
        ...


class TrainStep(Protocol):
    """How a train state goes on."""

    def __call__(self, state: Any, /) -> tuple[Any, dict[str, jax.Array]]:
        """One update: (next train state, metrics), see :class:`Learner`."""
        ...


class Act(Protocol):
    """How the team decides."""

    def __call__(
        self, params: Any, carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array, greedy: bool
    ) -> tuple[jax.Array, Carry]:
        """One decision of the team.

        Args:
            params: of the train state.
            carry: what the agents remember, leaves [B, N, ...].
            obs: [B, N, O].
            avail: [B, N, A] bool.
            key: consumed where the decision is drawn.
            greedy: take the best action instead of drawing one; static.

        Returns:
            action [B, N] int32, always available; the next carry.
        """
        ...


class InitialCarry(Protocol):
    """What the team starts an episode with."""

    def __call__(self, num_envs: int) -> Carry:
        """What the agents of ``num_envs`` fresh episodes remember."""
        ...


class Assess(Protocol):
    """How credit is told, for pictures."""

    def __call__(self, params: Any, rollout: "Rollout") -> Assessment:
        """Order and contributions over one whole episode, leaves [T, 1, ...], as training would see it."""
        ...


class Learner(NamedTuple):
    """A learner, as everything above it sees it: pure functions over one environment.

    ``train_step``'s metrics are float32 scalars. A key under ``sum/`` is a total over the update
    (``sum/episodes``, ``sum/wins``, ``sum/return``, ``sum/length``, over the episodes that ended
    in it; returns in the environment's own unit, before reward scaling; ``sum/steps``); every
    other key is a mean over the update, NaN-free unless training has diverged. ``finite`` is 1.0
    while losses and parameters are all finite.
    """

    init: Init
    train_step: TrainStep
    act: Act
    initial_carry: InitialCarry
    assess: Assess | None = None  # None: the learner assigns credit in no order
