"""The phases of a value-based update, which QMIX, VDN, QTRAN, QPLEX and QPD go through.

Whole episodes with epsilon-greedy agents go into the replay buffer, gradient steps on episodes drawn from
it follow. What the agents' values have to do with the team's is each learner's own: its loss.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Callable, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import struct

from seca_jax.algos.minibatches import descend
from seca_jax.arrays import all_finite, masked_mean
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience import replay as replays
from seca_jax.experience.batch import Rollout
from seca_jax.experience.replay import Batch, Replay
from seca_jax.experience.rollout import collect_episodes
from seca_jax.networks import agent as networks
from seca_jax.networks.agent import MASKED, Network, agent_input, apply, initial_carry
from seca_jax.networks.mixers import Utilities, best_actions, unroll
from seca_jax.types import Carry, Learner, View

Log = dict[str, jax.Array]  # scalars by the names of the metrics


@struct.dataclass
class Params:
    """Every network's parameters; a target network has the same."""

    agent: Any
    mixer: Any  # of whatever makes up the team's value from the agents'; may be empty


@struct.dataclass
class TrainState:
    """All that changes while a value-based learner learns; what a checkpoint holds."""

    params: Params
    target: Params
    opt: Any
    replay: Any  # the replay buffer's state, most of the bytes of a checkpoint
    key: jax.Array
    steps: jax.Array  # int32, real environment steps
    updates: jax.Array  # int32, batches of num_envs episodes


class Mixer(NamedTuple):
    """How the agents' values make up the team's.

    Attributes:
        init: ``key -> parameters``.
        apply: ``(parameters, q [..., N], state [..., S]) -> [...]``; those of QTRAN, QPLEX and QPD read
            something else, see their files.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[..., jax.Array]


class Parts(NamedTuple):
    """What a learner is made of, and what does not change while it learns."""

    config: Config
    env: Environment
    agent: Network
    mixer: Mixer
    replay: Replay
    tx: optax.GradientTransformation


class Players(Protocol):
    """What acting takes of a learner's parts, whether it replays or not."""

    @property
    def config(self) -> Config:
        """The run's keys."""
        ...

    @property
    def env(self) -> Environment:
        """What the agents play in."""
        ...

    @property
    def agent(self) -> Network:
        """The agents' network."""
        ...


class Keys(NamedTuple):
    """One update's keys, each consumed once."""

    rollout: jax.Array
    replay: jax.Array
    next: jax.Array  # the next update's


# (parameters, target parameters, the learning agents' utilities [T + 1, B, ...], the target agents', batch)
# -> (loss [], metrics). The metrics have ``critic_loss``, the mean squared TD error.
Loss = Callable[[Params, Params, Utilities, Utilities, Batch], tuple[jax.Array, Log]]


def td_target(reward: jax.Array, terminated: jax.Array, next_value: jax.Array, gamma: float) -> jax.Array:
    """One-step targets; a time limit keeps its bootstrap. All [T, B]; ``next_value`` after the step."""
    return reward + gamma * jnp.where(terminated, 0.0, next_value)


def epsilon_at(config: Config, steps: jax.Array) -> jax.Array:
    """Share of random actions after ``steps`` environment steps: a ramp, then flat."""
    schedule = optax.linear_schedule(config.q.epsilon, config.q.epsilon_final, config.q.epsilon_steps)
    return jnp.asarray(schedule(steps))


def rate_at(config: Config, steps: jax.Array) -> Any:
    """Learning rate after ``steps`` environment steps."""
    if not config.lr_decay:
        return config.q.lr
    return optax.linear_schedule(config.q.lr, 0.0, config.total_steps)(steps)


def explore(key: jax.Array, greedy: jax.Array, avail: jax.Array, epsilon: jax.Array | float) -> jax.Array:
    """``greedy`` [B, N], each with probability ``epsilon`` replaced by any of ``avail`` [B, N, A]."""
    coin_key, any_key = jax.random.split(key)
    anything = jax.random.categorical(any_key, jnp.where(avail, 0.0, MASKED))
    return jnp.where(jax.random.uniform(coin_key, greedy.shape) < epsilon, anything, greedy)


def optimiser(config: Config) -> optax.GradientTransformation:
    """Clipped Adam, plain or rectified, or RMSprop as PyMARL sets it (smoothing 0.99, 1e-5 beside the root).

    No learning rate.
    """
    scale = {
        "adam": optax.scale_by_adam,
        "radam": optax.scale_by_radam,
        "rmsprop": lambda: optax.scale_by_rms(decay=0.99, eps=1e-5, eps_in_sqrt=False),
    }[config.q.optimiser]
    return optax.chain(optax.clip_by_global_norm(config.q.max_grad_norm), scale())


def agent_of(config: Config, env: Environment) -> Network:
    """The agents' network of a run."""
    return networks.make(config.actor, env.num_agents, env.num_actions)


def assemble(config: Config, env: Environment, mixer: Mixer) -> Parts:
    """The parts of a run's learner with ``mixer``.

    Raises:
        ValueError: windows instead of whole episodes were asked for, or the replay buffer has no room.
    """
    if config.rollout != "episode":
        raise ValueError(f"rollout={config.rollout}: {config.algo} replays whole episodes; leave the key out")
    return Parts(
        config=config,
        env=env,
        agent=agent_of(config, env),
        mixer=mixer,
        replay=replays.make(config, env),
        tx=optimiser(config),
    )


def learner(parts: Parts, update: Callable[[Parts, Any], tuple[Any, Log]]) -> Learner:
    """The learner whose train step is ``update`` of its parts."""
    return Learner(
        init=partial(init, parts),
        train_step=partial(update, parts),
        act=partial(act, parts),
        initial_carry=partial(fresh_carry, parts),
    )


def fresh_carry(parts: Players, num_envs: int) -> Carry:
    """What the agents remember at an episode's start."""
    return initial_carry(num_envs, parts.env.num_agents, parts.config.actor.hidden)


def init(parts: Parts, key: jax.Array) -> TrainState:
    """The state that training starts from."""
    env = parts.env
    agent_key, mixer_key, key = jax.random.split(key, 3)
    carry = fresh_carry(parts, 1)
    x = agent_input(jnp.zeros((1, env.num_agents, env.obs_size)), carry.last_action, env.num_actions)
    params: Any = Params(parts.agent.init(agent_key, carry.hidden, x, True), parts.mixer.init(mixer_key))
    return TrainState(
        params=params,
        # A copy: the two trees must not share buffers once the state is donated.
        target=jax.tree.map(jnp.copy, params),
        opt=parts.tx.init(params),
        replay=parts.replay.init(),
        key=key,
        steps=jnp.zeros((), jnp.int32),
        updates=jnp.zeros((), jnp.int32),
    )


def look(
    parts: Players, params: Params, carry: Carry, obs: jax.Array, avail: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One step of the agents: (masked values [..., B, N, A], next hidden state [..., B, N, H])."""
    x = agent_input(obs, carry.last_action, parts.env.num_actions)
    hidden, q = apply(parts.agent, params.agent, carry.hidden, x, avail)
    return q, hidden


def act(
    parts: Players,
    params: Params,
    carry: Carry,
    obs: jax.Array,
    avail: jax.Array,
    key: jax.Array,
    greedy: bool,
) -> tuple[jax.Array, Carry]:
    """One decision of the team, see :class:`~seca_jax.types.Act`; not greedy explores as at the end."""
    q, hidden = look(parts, params, carry, obs, avail)
    action = jnp.argmax(q, axis=-1)
    if not greedy:
        action = explore(key, action, avail, parts.config.q.epsilon_final)
    return action.astype(jnp.int32), Carry(hidden, action.astype(jnp.int32))


def double_q(
    team: Callable[[Any, jax.Array, jax.Array, View], jax.Array],
    gamma: float,
    params: Params,
    target: Params,
    own: Utilities,
    judges: Utilities,
    batch: Batch,
) -> tuple[jax.Array, Log]:
    """Double Q-learning of the team's value: mean squared one-step TD error.

    Where the team's value is highest at the agents' own best actions, the target's maximum needs no search.

    Args:
        team: ``(mixer parameters, the agents' values [..., N, A], action [..., N], View) -> [...]``.
        gamma: discount.
        params: what is learned.
        target: the target parameters.
        own: of the learning agents, [T + 1, B, ...].
        judges: of the target agents.
        batch: replayed episodes.
    """
    now, after = jax.tree.map(lambda x: x[:-1], batch.view), jax.tree.map(lambda x: x[1:], batch.view)
    chosen = team(params.mixer, own.q[:-1], batch.action, now)
    # Double Q: the learning agents choose, the target agents judge.
    choice = best_actions(own.q, batch.view.avail)[1:]
    following = team(target.mixer, judges.q[1:], choice, after)
    y = td_target(batch.reward, batch.terminated, following, gamma)
    loss = masked_mean(jnp.square(chosen - jax.lax.stop_gradient(y)), batch.mask)
    return loss, {"critic_loss": loss, "q": masked_mean(chosen, batch.mask)}


# --- the phases ---------------------------------------------------------------------------------------


def collect(parts: Parts, state: TrainState, key: jax.Array) -> tuple[Any, Rollout, Log]:
    """Whole episodes with epsilon-greedy agents: (replay buffer with them, they themselves, metrics)."""
    num_envs = parts.config.num_envs
    epsilon = epsilon_at(parts.config, state.steps)

    def draw(
        params: Any, carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Carry, Any]:
        q, hidden = look(parts, params, carry, obs, avail)
        action = explore(key, jnp.argmax(q, axis=-1), avail, epsilon).astype(jnp.int32)
        return action, Carry(hidden, action), ()

    fresh = fresh_carry(parts, num_envs)
    rollout = collect_episodes(parts.replay.watched, draw, state.params, fresh, key, num_envs)
    return parts.replay.add(state.replay, rollout), rollout, {"epsilon": epsilon}


def fit(parts: Parts, state: TrainState, memory: Any, loss: Loss, key: jax.Array) -> tuple[TrainState, Log]:
    """Gradient steps of agents and mixer down ``loss``, each on a batch of episodes from the buffer."""
    replay, agent = parts.replay, parts.agent
    lr = rate_at(parts.config, state.steps)

    def gradient_of(params: Any, batch: Batch) -> tuple[Any, Log]:
        watched = batch.view.obs, batch.last_action, batch.start
        judges = unroll(agent, state.target.agent, *watched)

        def value(params: Params) -> tuple[jax.Array, Log]:
            own = unroll(agent, params.agent, *watched)
            return loss(params, state.target, own, judges, batch)

        return jax.grad(value, has_aux=True)(params)

    def step(learned: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], Log]:
        params, opt = learned
        episodes = replay.sample(memory, key)
        gradient, log = replay.seen(lambda batch: gradient_of(params, batch), episodes)
        return descend(parts.tx, gradient, opt, params, lr), {**log, "grad_norm": optax.tree.norm(gradient)}

    keys = jax.random.split(key, parts.config.q.updates)
    (params, opt), log = jax.lax.scan(step, (state.params, state.opt), keys)
    return replace(state, params=params, opt=opt), jax.tree.map(jnp.mean, log)


def finish(
    parts: Parts, state: TrainState, memory: Any, key: jax.Array, rollout: Rollout, *logs: Log
) -> tuple[TrainState, Log]:
    """The next update's state, its target copied every ``q.target_interval`` episodes, and the metrics."""
    episodes, interval = parts.config.num_envs, parts.config.q.target_interval
    copy = (state.updates + 1) * episodes // interval > state.updates * episodes // interval
    metrics = rollout.totals()
    state = replace(
        state,
        target=jax.tree.map(lambda p, t: jnp.where(copy, p, t), state.params, state.target),
        replay=memory,
        key=key,
        steps=state.steps + metrics["sum/steps"].astype(jnp.int32),
        updates=state.updates + 1,
    )
    for log in logs:
        metrics |= log
    return state, {**metrics, "finite": all_finite((state.params, metrics))}
