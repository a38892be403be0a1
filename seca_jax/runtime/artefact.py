"""A policy as a function that plays without this package: lowered by jax.export, and described in JSON."""

from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from seca_jax.config.check import ConfigError
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.networks import agent as networks
from seca_jax.networks.agent import MASKED, agent_input
from seca_jax.types import Carry, Learner

PLATFORMS = ("cpu", "cuda", "tpu")
TRIES = 8  # random steps on which the function is held against the learner's own decisions

# (hidden [B, N, H], last action [B, N] int32), obs [B, N, O], avail [B, N, A] bool
# -> (carry, action [B, N] int32, worth [B, N, A])
Play = Callable[..., tuple[tuple[jax.Array, jax.Array], jax.Array, jax.Array]]


def value_based(params: Any) -> bool:
    """Whether the policy is greedy in its agents' values of actions: it has no probabilities."""
    return hasattr(params, "agent")


def play_of(config: Config, env: Environment, learner: Learner, params: Any) -> Play:
    """The greedy policy as a plain function of what the team remembers, sees and may do.

    Args:
        config: of the run.
        env: its environment.
        learner: its learner.
        params: of one seed.

    Raises:
        ConfigError: the learner, another package's, decides in some other way than by this package's network.
    """
    own = getattr(params, "agent", None) if value_based(params) else getattr(params, "actor", None)
    norm = any("norm" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(own))
    network = networks.make(config.actor, env.num_agents, env.num_actions, layer_norm=norm)

    def play(carry: tuple[jax.Array, jax.Array], obs: jax.Array, avail: jax.Array) -> Any:
        hidden, last = carry
        x = agent_input(obs, last, env.num_actions)
        hidden, logits = networks.apply(network, own, hidden, x, avail)
        action = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return (hidden, action), action, logits if value_based(params) else jax.nn.softmax(logits)

    try:
        agrees = own is not None and _agrees(play, env, learner, params)
    except Exception:  # another network's parameters break ours in any way
        agrees = False
    if not agrees:
        raise ConfigError(
            f"algo={config.algo}: its policy is no network of this package; it cannot be exported"
        )
    return play


def _agrees(play: Play, env: Environment, learner: Learner, params: Any) -> bool:
    """Whether the function decides as the learner does, on steps with random observations and masks."""
    draw = np.random.default_rng(0)
    carry = learner.initial_carry(TRIES)
    ours = (carry.hidden, carry.last_action)
    act, step = jax.jit(learner.act, static_argnums=5), jax.jit(play)
    for _ in range(TRIES):
        obs = draw.normal(size=(TRIES, env.num_agents, env.obs_size)).astype(np.float32)
        avail = draw.random((TRIES, env.num_agents, env.num_actions)) < 0.5
        avail[..., 0] |= ~avail.any(axis=-1)
        expected, after = act(params, carry, obs, avail, jax.random.key(0), True)
        ours, action, _ = step(ours, obs, avail)
        carry = Carry(after.hidden, after.last_action)
        if not np.array_equal(action, expected):
            return False
    return True


def lowered(play: Play, env: Environment, hidden: int) -> bytes:
    """The function for any number of environments, on CPU, GPU and TPU, as jax.export serialises it.

    Args:
        play: of :func:`play_of`; its parameters become constants.
        env: the environment that it was made for.
        hidden: H.
    """
    (b,) = jax.export.symbolic_shape("b")
    n = env.num_agents
    carry = (
        jax.ShapeDtypeStruct((b, n, hidden), jnp.float32),
        jax.ShapeDtypeStruct((b, n), jnp.int32),
    )
    obs = jax.ShapeDtypeStruct((b, n, env.obs_size), jnp.float32)
    avail = jax.ShapeDtypeStruct((b, n, env.num_actions), jnp.bool_)
    return bytes(jax.export.export(jax.jit(play), platforms=PLATFORMS)(carry, obs, avail).serialize())


def description(config: Config, env: Environment, params: Any, step: int, seed: int) -> dict[str, Any]:
    """What who plays the policy must know, for JSON; ``b`` is the number of environments."""
    n, a, o, h = env.num_agents, env.num_actions, env.obs_size, config.actor.hidden
    worth = "q_values" if value_based(params) else "probabilities"

    def array(dtype: str, *shape: Any, **more: Any) -> dict[str, Any]:
        return {"shape": ["b", *shape], "dtype": dtype, **more}

    return {
        "format": "seca_jax policy 1",
        "map": config.map,
        "algo": config.algo,
        "seed": seed,
        "step": step,
        "agents": n,
        "actions": a,
        "observation_size": o,
        "hidden_size": h,
        "inputs": {
            "carry": {
                "hidden": array("float32", n, h, start=0.0),
                "last_action": array("int32", n, start=-1),
            },
            "observation": array("float32", n, o),
            "available": array("bool", n, a),
        },
        "outputs": {
            "carry": "as the input",
            "action": array("int32", n),
            worth: array("float32", n, a),
        },
        "unavailable_actions": (
            f"available is true where an action may be taken, at least once for every agent; the logits of "
            f"the others become {MASKED:g} before anything is made of them"
        ),
        "network": {
            "kind": config.actor.kind,
            "shared": config.actor.shared,
            "input": f"observation ({o}), last action one-hot ({a}, zeros at a start), agent's number "
            f"one-hot ({n}); hidden is the state after dense layer and {config.actor.kind}",
        },
        "config": {
            "env": {name: getattr(config.env, name) for name in ("backend", "observation", "time_limit")},
            "scenario": config.env.scenario,
        },
    }
