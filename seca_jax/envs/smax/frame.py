"""One moment of a battle, as a renderer needs it: positions, health, types and who shoots whom."""

import jax
from flax import struct

from seca_jax.envs.smax.scenarios import Ridge


@struct.dataclass
class Frame:
    """``U`` units on a map of 32 x 32 cells, allies first (``num_allies`` of them), then enemies.

    ``unit_type`` indexes the rows of :data:`seca_jax.envs.smax.units.TABLE` (names, one-letter
    shorthands, radii). Arrays keep ``B`` first, as every view does.
    """

    x: jax.Array  # [B, U] float32, map cells, 0 (left) to 32
    y: jax.Array  # [B, U] float32, map cells, 0 (bottom) to 32
    health_fraction: jax.Array  # [B, U] float32, 0 to 1
    alive: jax.Array  # [B, U] bool
    unit_type: jax.Array  # [B, U] int32, row of units.TABLE
    target: jax.Array  # [B, U] int32, unit that was shot at (or healed) in the step just taken, else -1
    cooldown_fraction: jax.Array  # [B, U] float32, 0 to 1: weapon cooldown left, or a healer's energy
    num_allies: int = struct.field(pytree_node=False)
    ridge: Ridge | None = struct.field(pytree_node=False, default=None)  # of the map
