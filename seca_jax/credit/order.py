"""Who is assessed first: orders of agents, [..., N] agent indices, first assessed first.

Ties keep the agents' own numbering, so that an order is a function of its inputs alone.
"""

from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax import extensions
from seca_jax.config.errors import ConfigError
from seca_jax.credit import names


def by_contribution(contribution: jax.Array) -> jax.Array:
    """Highest contribution first (Section 3.4). [..., N] -> [..., N]."""
    return jnp.argsort(-contribution, axis=-1, stable=True)


def by_probability(policy: jax.Array, action: jax.Array) -> jax.Array:
    """Highest probability of the taken action first (SeCA-Prob).

    Args:
        policy: [..., N, A].
        action: [..., N, A], one-hot.
    """
    return by_contribution(jnp.sum(policy * action, axis=-1))


def by_entropy(policy: jax.Array) -> jax.Array:
    """Lowest policy entropy first (SeCA-Entro). [..., N, A] -> [..., N]."""
    return by_contribution(jnp.sum(jax.scipy.special.xlogy(policy, policy), axis=-1))


def fixed(policy: jax.Array) -> jax.Array:
    """The agents' own numbering (SeCA-Fixed). [..., N, A] -> [..., N]."""
    return jnp.broadcast_to(jnp.arange(policy.shape[-2]), policy.shape[:-1])


def at_random(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Drawn uniformly, every one by itself: ``shape`` is [..., N]."""
    return jnp.argsort(jax.random.uniform(key, shape), axis=-1)


def shuffled(policy: jax.Array) -> jax.Array:
    """Drawn uniformly, the policies' bits being the seed: a function of its inputs, as all orders are.

    [..., N, A] -> [..., N].
    """
    bits = jax.lax.bitcast_convert_type(policy.astype(jnp.float32), jnp.uint32)
    return at_random(
        jax.random.fold_in(jax.random.key(0), jnp.sum(bits, dtype=jnp.uint32)), policy.shape[:-1]
    )


def stages(age: jax.Array, episode: jax.Array, length: int | None) -> jax.Array:
    """Label of the stage each step belongs to.

    Args:
        age: [T, B] steps since the start of the step's episode.
        episode: [T, B] number of the episode within its environment's part of the rollout.
        length: steps of a stage (1, 10, 20 in the paper), or None: the whole episode.

    Returns:
        [T, B] int32, unique per (episode, stage) within one environment.
    """
    if length is None:
        return episode
    # An episode's stages are consecutive numbers; episodes are kept apart by the largest of them.
    stride = jnp.max(age) // length + 1
    return episode * stride + age // length


def with_last(stage: jax.Array, linked: jax.Array) -> jax.Array:
    """Stages with the last step of every episode in the stage before, if it would be alone in its own.

    No segment of the path starts at it, so its own stage would tell nothing of the agents, and ties
    would order them by their numbers.

    Args:
        stage: [T, B] of :func:`stages`.
        linked: [T - 1, B] bool, steps t and t + 1 belong to one episode.

    Returns:
        [T, B].
    """
    never = jnp.zeros_like(stage[:1], bool)
    last = jnp.concatenate([never, linked]) & ~jnp.concatenate([linked, never])
    return jnp.where(last, jnp.roll(stage, 1, axis=0), stage)


def named(
    name: str, policy: jax.Array, action: jax.Array, contribution: Callable[[int | None], jax.Array]
) -> jax.Array:
    """The order that a name of :mod:`seca_jax.credit.names` stands for.

    Args:
        name: value of ``credit.order``.
        policy: [..., N, A].
        action: [..., N, A], one-hot.
        contribution: ``length -> [..., N]``, each agent's contribution to the stage of ``length`` steps
            (None: the episode) that a step belongs to; called only where the order depends on it.

    Returns:
        [..., N].

    Raises:
        ValueError: no such order; or another package's cannot be loaded or makes something else.
    """
    kind, length = names.parse(name)
    if kind == names.BROUGHT:
        return brought(name, policy, action, contribution)
    if kind == "fixed":
        return fixed(policy)
    if kind == "random":
        return shuffled(policy)
    if kind == "prob":
        return by_probability(policy, action)
    if kind == "entropy":
        return by_entropy(policy)
    if kind == "ig":
        return by_contribution(contribution(length))
    raise ValueError(f"{name}: a name without a function; give it one here")


def brought(
    name: str, policy: jax.Array, action: jax.Array, contribution: Callable[[int | None], jax.Array]
) -> jax.Array:
    """The order that another package's function makes; arguments as :func:`named`'s.

    Raises:
        ConfigError: it cannot be loaded, fails, or does not return every agent once, [..., N].
    """
    function, whose = extensions.load("order", name), extensions.origin("order", name)

    def made(*given: Any) -> jax.Array:
        try:
            found = function(*given)
        except Exception as error:  # whatever another package's function can raise
            detail = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"credit.order={name}: {whose} failed ({type(error).__name__}: {detail})"
            ) from error
        if not isinstance(found, jax.Array):
            told = type(found).__name__
        elif found.shape == given[0].shape[:-1] and jnp.issubdtype(found.dtype, jnp.integer):
            return found
        else:
            told = f"{found.dtype}{list(found.shape)}"
        raise ConfigError(
            f"credit.order={name}: {whose} made {told}, "
            f"not the agents' numbers, int32{list(given[0].shape[:-1])}"
        )

    found = made(policy, action, contribution)
    # What is traced cannot be looked at: a few steps that can be
    with jax.ensure_compile_time_eval():
        keys = jax.random.split(jax.random.key(0), 3)
        shape = (2, 3, *policy.shape[-2:])
        policies = jax.nn.softmax(jax.random.normal(keys[0], shape))
        actions = jax.nn.one_hot(jax.random.randint(keys[1], shape[:-1], 0, shape[-1]), shape[-1])
        tried = made(policies, actions, lambda length: jax.random.normal(keys[2], shape[:-1]))
        numbers = np.sort(np.asarray(tried), axis=-1)
        if (numbers != np.arange(shape[-2])).any():
            raise ConfigError(f"credit.order={name}: {whose} did not return every agent once")
    return found
