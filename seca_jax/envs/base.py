"""The batched environment protocol: a handful of pure functions over ``B`` environments at once.

An environment is a value, not a class to inherit from. Its state is an opaque pytree whose
layout is its own business (the SMAX core keeps ``B`` last, jaxmarl's keeps it first); everything
that leaves it (:class:`~seca_jax.types.View`, :class:`~seca_jax.types.Outcome`) has ``B`` first.

A rollout composes the functions: ``view`` -> act -> ``step`` -> (keep the state where it was
truncated, for the bootstrap) -> ``restart`` where episodes ended. ``step`` itself never restarts,
so whole-episode rollouts and evaluation pay for no restart at all.
"""

from dataclasses import dataclass
from typing import Any, Callable

import jax
import jax.numpy as jnp

from seca_jax.types import Outcome, View


@dataclass(frozen=True)
class Environment:
    """Sizes and functions of a batched environment.

    Attributes:
        name: the map or task.
        num_agents: ``N``.
        num_actions: ``A``, the same for every agent.
        obs_size: ``O``.
        state_size: ``S``.
        max_steps: an episode is at most this many transitions long.
        reward_scale: factor already applied to ``Outcome.reward``; divide by it to report
            returns in the environment's own unit.
        reset: ``(key, num_envs) -> state``: ``num_envs`` fresh episodes.
        step: ``(key, state, action [B, N] int32) -> (state, Outcome)``. Stepping past an
            episode's end is allowed and its result is meaningless. One key for all, or [B] of them:
            then what happens to an environment does not depend on its place in the batch.
        view: ``state -> View``.
        restart: ``(key, state, ended [B] bool) -> state``: fresh episodes where ``ended``.
        select: ``(mask [B] bool, a, b) -> state``: states of ``a`` where ``mask``, else of ``b``.
        frame: ``state -> Frame`` for rendering, or None (see ``envs/smax/frame.py``).
        moves: actions 0 to ``moves - 1`` move or wait and each of the others has a target of its own; 0: they
            are of one kind.
    """

    name: str
    num_agents: int
    num_actions: int
    obs_size: int
    state_size: int
    max_steps: int
    reward_scale: float
    reset: Callable[[jax.Array, int], Any]
    step: Callable[[jax.Array, Any, jax.Array], tuple[Any, Outcome]]
    view: Callable[[Any], View]
    restart: Callable[[jax.Array, Any, jax.Array], Any]
    select: Callable[[jax.Array, Any, Any], Any]
    frame: Callable[[Any], Any] | None = None
    moves: int = 0


def check(env: Any) -> None:
    """Raises ValueError, one line, where an environment's shapes and types are not what it says they are.

    Nothing is computed: its functions are traced with two environments and with three.
    """
    if not isinstance(env, Environment):
        raise ValueError(f"made no seca_jax.envs.base.Environment but {type(env).__name__}")
    array: Any = jax.ShapeDtypeStruct
    n, key = env.num_agents, jax.eval_shape(jax.random.key, 0)
    for b in (2, 3):
        flag = array((b,), jnp.bool_)
        view = View(
            obs=array((b, n, env.obs_size), jnp.float32),
            avail=array((b, n, env.num_actions), jnp.bool_),
            state=array((b, env.state_size), jnp.float32),
        )
        outcome = Outcome(array((b,), jnp.float32), flag, flag, flag)
        state = jax.eval_shape(lambda key, b=b: env.reset(key, b), key)
        action = array((b, n), jnp.int32)
        after, brought = jax.eval_shape(env.step, key, state, action)
        _same("view", jax.eval_shape(env.view, state), view)
        _same("step: the state after", after, state)
        keys = jax.eval_shape(lambda key, b=b: jax.random.split(key, b), key)
        try:
            jax.eval_shape(env.step, keys, state, action)
        except (TypeError, ValueError) as error:
            detail = " ".join(str(error).split())[:120]
            raise ValueError(
                f"step: must take one key, or [B] of them as audits give it ({detail}); "
                "seca_jax.envs.base.draw draws from either"
            ) from None
        _same("step: the outcome", brought, outcome)
        _same("restart", jax.eval_shape(env.restart, key, state, flag), state)
        _same("select", jax.eval_shape(env.select, flag, state, state), state)


def _same(what: str, found: Any, expected: Any) -> None:
    """Raises ValueError where two trees of arrays differ in shapes or types, and says which leaf does."""
    if jax.tree.structure(found) != jax.tree.structure(expected):
        raise ValueError(f"{what}: {jax.tree.structure(found)} instead of {jax.tree.structure(expected)}")
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, leaf), right in pairs:
        if (leaf.shape, leaf.dtype) != (right.shape, right.dtype):
            told = [f"{x.dtype}{list(x.shape)}" for x in (leaf, right)]
            raise ValueError(f"{what}{jax.tree_util.keystr(path)} is {told[0]} instead of {told[1]}")


def _many(key: jax.Array) -> bool:
    """Whether these are [B] keys and not one; jax.random.PRNGKey's kind has an axis more."""
    return key.ndim > (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)


def each(key: jax.Array, num_envs: int) -> jax.Array:
    """[B] keys, one for every environment: ``key`` itself if it is that already, else split."""
    return key if _many(key) else jax.random.split(key, num_envs)


def split(key: jax.Array, num: int = 2) -> jax.Array:
    """``num`` keys out of one, ``[num]``, or out of each of [B] keys, ``[num, B]``."""
    if _many(key):
        return jax.vmap(lambda own: jax.random.split(own, num), out_axes=1)(key)
    return jax.random.split(key, num)


def draw(
    kind: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    key: jax.Array,
    shape: tuple[int, ...],
    num_envs: int,
) -> jax.Array:
    """``kind(key, shape)`` for every environment, ``[*shape, B]``: in one wide draw from one key, or from
    [B] keys in one draw for each."""
    if _many(key):
        return jax.vmap(lambda own: kind(own, shape), out_axes=-1)(key)
    return kind(key, (*shape, num_envs))


def batch_axes(env: Environment) -> Any:
    """Where the batch is in every leaf of the environment's state: a tree like it, of axis numbers."""
    # The layout is the environment's own business, so look where its shapes follow the batch's size.
    shapes = [jax.eval_shape(lambda key, n=n: env.reset(key, n), jax.random.key(0)) for n in (2, 3)]
    return jax.tree.map(lambda a, b: [x != y for x, y in zip(a.shape, b.shape)].index(True), *shapes)


def take(env: Environment, state: Any, index: jax.Array) -> Any:
    """The states at places ``index`` [B] of a batch of them, which may be taken more than once."""
    return jax.tree.map(lambda x, axis: jnp.take(x, index, axis=axis), state, batch_axes(env))
