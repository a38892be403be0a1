"""What the value-based learners share: everything but how the agents' values make up the team's.

One update of a seed: whole episodes with epsilon-greedy agents, into the replay buffer, a few gradient
steps on episodes drawn from it. What distinguishes an algorithm is its :class:`Method`.
"""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from seca_jax.arrays import all_finite
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience import replay as memory
from seca_jax.experience import rollout as rollouts
from seca_jax.experience.replay import Batch
from seca_jax.networks.agent import MASKED, Agent, agent_input, initial_carry
from seca_jax.networks.mixers import Utilities, unroll
from seca_jax.types import Carry, Learner


@struct.dataclass
class Params:
    agent: Any
    mixer: Any  # whatever the Method needs besides the agents; may be empty


@struct.dataclass
class TrainState:
    params: Params
    target: Params
    opt: Any
    replay: Any  # the replay buffer's state, most of the bytes of a checkpoint
    key: jax.Array
    steps: jax.Array  # int32, real environment steps
    updates: jax.Array  # int32, batches of num_envs episodes


class Method(NamedTuple):
    """How the agents' values make up the team's.

    Attributes:
        init: ``key -> mixer parameters``.
        loss: ``(params, target, own, theirs, batch) -> (loss [], {metric: scalar})``; ``own`` and
            ``theirs`` are the :class:`Utilities` [T + 1, B, ...] of the learning and of the target
            agents. The metrics must have ``critic_loss``, the mean squared TD error.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Params, Params, Utilities, Utilities, Batch], tuple[jax.Array, dict[str, jax.Array]]]


def td_target(reward: jax.Array, terminated: jax.Array, next_value: jax.Array, gamma: float) -> jax.Array:
    """One-step targets; a time limit keeps its bootstrap. All [T, B]; ``next_value`` after the step."""
    return reward + gamma * jnp.where(terminated, 0.0, next_value)


def epsilon_at(config: Config, steps: jax.Array) -> jax.Array:
    """Share of random actions after ``steps`` environment steps: a ramp, then flat."""
    done = jnp.clip(steps / config.q.epsilon_steps, 0.0, 1.0)
    return config.q.epsilon + (config.q.epsilon_final - config.q.epsilon) * done


def explore(key: jax.Array, greedy: jax.Array, avail: jax.Array, epsilon: jax.Array | float) -> jax.Array:
    """``greedy`` [B, N], each with probability ``epsilon`` replaced by any of ``avail`` [B, N, A]."""
    coin_key, any_key = jax.random.split(key)
    anything = jax.random.categorical(any_key, jnp.where(avail, 0.0, MASKED))
    return jnp.where(jax.random.uniform(coin_key, greedy.shape) < epsilon, anything, greedy)


def optimiser(config: Config) -> optax.GradientTransformation:
    """Clipped Adam, or RMSprop as PyMARL sets it (smoothing 0.99, 1e-5 beside the root); no learning rate."""
    scale = {
        "adam": optax.scale_by_adam,
        "rmsprop": lambda: optax.scale_by_rms(decay=0.99, eps=1e-5, eps_in_sqrt=False),
    }[config.q.optimiser]
    return optax.chain(optax.clip_by_global_norm(config.q.max_grad_norm), scale())


def make(config: Config, env: Environment, method: Method) -> Learner:
    """The learner around a method.

    Raises:
        ValueError: windows instead of whole episodes were asked for, or the replay buffer has no room.
    """
    if config.rollout != "episode":
        raise ValueError(f"rollout={config.rollout}: {config.algo} replays whole episodes; leave the key out")
    agent = Agent(hidden=config.actor.hidden, num_actions=env.num_actions)
    replay = memory.make(config, env)
    tx = optimiser(config)

    def fresh_carry(num_envs: int) -> Carry:
        return initial_carry(num_envs, env.num_agents, config.actor.hidden)

    def init(key):
        agent_key, mixer_key, key = jax.random.split(key, 3)
        carry = fresh_carry(1)
        x = agent_input(jnp.zeros((1, env.num_agents, env.obs_size)), carry.last_action, env.num_actions)
        params = Params(agent.init(agent_key, carry.hidden, x, True), method.init(mixer_key))
        return TrainState(
            params=params,
            # A copy: the two trees must not share buffers once the state is donated.
            target=jax.tree.map(jnp.copy, params),
            opt=tx.init(params),
            replay=replay.init(),
            key=key,
            steps=jnp.zeros((), jnp.int32),
            updates=jnp.zeros((), jnp.int32),
        )

    def best(params, carry, obs, avail):
        x = agent_input(obs, carry.last_action, env.num_actions)
        hidden, q = agent.apply(params.agent, carry.hidden, x, avail)
        return jnp.argmax(q, axis=-1), hidden

    def act(params, carry, obs, avail, key, greedy):
        action, hidden = best(params, carry, obs, avail)
        if not greedy:
            action = explore(key, action, avail, config.q.epsilon_final)
        return action.astype(jnp.int32), Carry(hidden, action.astype(jnp.int32))

    def policy(params_epsilon, carry, obs, avail, key):
        params, epsilon = params_epsilon
        action, hidden = best(params, carry, obs, avail)
        action = explore(key, action, avail, epsilon).astype(jnp.int32)
        return action, Carry(hidden, action), ()

    def gradient_of(params, target, batch):
        theirs = unroll(agent, target.agent, batch.view.obs, batch.last_action)

        def loss(params):
            own = unroll(agent, params.agent, batch.view.obs, batch.last_action)
            return method.loss(params, target, own, theirs, batch)

        return jax.grad(loss, has_aux=True)(params)

    def train_step(state):
        rollout_key, replay_key, key = jax.random.split(state.key, 3)
        epsilon = epsilon_at(config, state.steps)
        rollout = rollouts.collect_episodes(
            replay.watched,
            policy,
            (state.params, epsilon),
            fresh_carry(config.num_envs),
            rollout_key,
            config.num_envs,
        )
        memory = replay.add(state.replay, rollout)

        lr = config.q.lr
        if config.lr_decay:
            lr = lr * jnp.clip(1.0 - state.steps / config.total_steps, 0.0, 1.0)

        def update(carry, key):
            params, opt = carry
            episodes = replay.sample(memory, key)
            gradient, metrics = replay.seen(lambda batch: gradient_of(params, state.target, batch), episodes)
            change, opt = tx.update(gradient, opt, params)
            params = optax.apply_updates(params, jax.tree.map(lambda c: -lr * c, change))
            return (params, opt), {**metrics, "grad_norm": optax.tree.norm(gradient)}

        keys = jax.random.split(replay_key, config.q.updates)
        (params, opt), metrics = jax.lax.scan(update, (state.params, state.opt), keys)

        before = state.updates * config.num_envs // config.q.target_interval
        copy = (state.updates + 1) * config.num_envs // config.q.target_interval > before
        totals = rollout.totals()
        metrics = {**totals, **jax.tree.map(jnp.mean, metrics), "epsilon": epsilon}
        metrics["finite"] = all_finite((params, metrics))
        return TrainState(
            params=params,
            target=jax.tree.map(lambda p, t: jnp.where(copy, p, t), params, state.target),
            opt=opt,
            replay=memory,
            key=key,
            steps=state.steps + totals["sum/steps"].astype(jnp.int32),
            updates=state.updates + 1,
        ), metrics

    return Learner(init, train_step, act, fresh_carry)
