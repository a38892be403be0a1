"""A batch of experience: what is known of every step, and what followed the last ones."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seca_jax.arrays import alongside
from seca_jax.types import View

APART = ("carry", "tail", "tail_carry", "slot")  # of a Rollout, what does not follow on in the next window


@struct.dataclass
class Rollout:
    """What a batch of environments went through; ``extra`` is the policy's own (logits, ...)."""

    view: View  # leaves [T, B, ...]
    action: jax.Array  # [T, B, N] int32
    extra: Any  # leaves [T, B, ...]
    reward: jax.Array  # [T, B]
    terminated: jax.Array  # [T, B] bool
    truncated: jax.Array  # [T, B] bool
    won: jax.Array  # [T, B] bool
    mask: jax.Array  # [T, B] bool, a real step
    age: jax.Array  # [T, B] int32, steps since the episode's start
    returned: jax.Array  # [T, B], return of the episode up to and including the step, own unit
    carry: Any  # Carry before the first step
    tail: View  # leaves [1 + slots, B, ...], views to bootstrap from: see next_value
    tail_carry: Any  # leaves [1 + slots, B, ...]
    slot: jax.Array  # [T] int32, which tail a truncated step t bootstraps from
    later: tuple["Rollout", ...] = ()  # the stream's next windows, where they are known already

    @property
    def start(self) -> jax.Array:
        """[T, B] bool, the step is the first of its episode."""
        return self.age == 0

    @property
    def ended(self) -> jax.Array:
        """[T, B] bool, the step was the last of its episode."""
        return (self.terminated | self.truncated) & self.mask

    @property
    def episode(self) -> jax.Array:
        """[T, B] int32, number of the step's episode within its environment's part."""
        return jnp.cumsum(self.start, axis=0)

    @property
    def linked(self) -> jax.Array:
        """[T - 1, B] bool, steps t and t + 1 belong to one episode."""
        return self.mask[1:] & ~self.start[1:]

    def last_action(self) -> jax.Array:
        """[T, B, N] int32, every agent's action before the step; -1 at an episode's start."""
        before = jnp.concatenate([self.carry.last_action[None], self.action[:-1]])
        return jnp.where(self.start[..., None], -1, before)

    def totals(self) -> dict[str, jax.Array]:
        """The ``sum/`` metrics of :class:`~seca_jax.types.Learner`: of the window played last."""
        if self.later:
            return self.later[-1].totals()
        ended = self.ended
        return {
            "sum/steps": jnp.sum(self.mask, dtype=jnp.float32),
            "sum/episodes": jnp.sum(ended, dtype=jnp.float32),
            "sum/wins": jnp.sum(ended & self.won, dtype=jnp.float32),
            "sum/return": jnp.sum(jnp.where(ended, self.returned, 0.0)),
            "sum/length": jnp.sum(jnp.where(ended, self.age + 1, 0), dtype=jnp.float32),
        }

    def whole(self) -> "Rollout":
        """This window and the later ones as one, T steps of each."""
        if not self.later:
            return self
        windows = (replace(self, later=()), *self.later)

        def joined(*leaves: jax.Array) -> jax.Array:
            return jnp.concatenate(leaves)

        def tails(name: str) -> Any:
            """What the last window ends in, then every window's time limits."""
            ends = [getattr(window, name) for window in windows]
            limits = (jax.tree.map(lambda x: x[1:], end) for end in ends)
            return jax.tree.map(joined, jax.tree.map(lambda x: x[:1], ends[-1]), *limits)

        slots = len(jax.tree.leaves(self.tail)[0]) - 1
        along: Rollout = jax.tree.map(
            joined, *(replace(window, **dict.fromkeys(APART)) for window in windows)
        )
        return replace(
            along,
            carry=self.carry,
            tail=tails("tail"),
            tail_carry=tails("tail_carry"),
            slot=joined(*(window.slot + i * slots for i, window in enumerate(windows))),
        )


def unplayed(rollout: Any) -> Rollout:
    """A window of ShapeDtypeStructs as if none of its steps were real: what precedes the first window."""
    empty: Rollout = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), rollout)
    return replace(empty, view=replace(empty.view, avail=jnp.ones_like(empty.view.avail)))


def next_value(rollout: Rollout, value: jax.Array, tail_value: jax.Array) -> jax.Array:
    """Value of the state after every transition, before any restart: what Eq. 10 bootstraps from.

    Args:
        value: [T, B] or [T, B, N], value of step t's own state and action.
        tail_value: [1 + slots, B] or [1 + slots, B, N], values of ``rollout.tail``: the view after
            the window's last step, then the views where the time limit struck.

    Returns:
        as ``value``. Meaningless where the transition terminated.
    """
    following = jnp.concatenate([value[1:], tail_value[:1]])
    return jnp.where(alongside(rollout.truncated, value), tail_value[rollout.slot], following)
