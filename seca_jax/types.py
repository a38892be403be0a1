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

from typing import Any, Callable, NamedTuple

import jax
from flax import struct


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


class Algorithm(NamedTuple):
    """A learner, as the runner sees it: four pure functions over one environment.

    The state that ``init`` returns is a pytree with at least the fields ``params`` (what ``act``
    takes), ``steps`` (int32 scalar, real environment steps so far) and ``updates`` (int32 scalar).

    ``train_step``'s metrics are float32 scalars. A key under ``sum/`` is a total over the update
    (``sum/episodes``, ``sum/wins``, ``sum/return``, ``sum/length``, over the episodes that ended
    in it; returns in the environment's own unit, before reward scaling; ``sum/steps``); every
    other key is a mean over the update, NaN-free unless training has diverged. ``finite`` is 1.0
    while losses and parameters are all finite.
    """

    init: Callable[..., Any]  # key -> TrainState
    train_step: Callable[..., Any]  # TrainState -> (TrainState, {name: scalar})
    act: Callable[..., Any]  # (params, carry, obs, avail, key, greedy) -> (action [B, N], carry)
    initial_carry: Callable[[int], Any]  # num_envs -> carry of fresh episodes
