"""The on-policy actor-critic that SeCA and its relatives share: everything but who deserves what.

One update, in the paper's order: collect experience, fit the critic to TD(lambda) targets, set the
actor's aim with the critic just fitted, ascend towards it with adaptive entropy. What distinguishes
an algorithm is the critic and the aim it passes in; most aims are a policy gradient with advantages
that an ``assign`` function hands out, :func:`by_advantage`.
"""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from seca_jax.algos import critic
from seca_jax.algos.critic import Evaluator
from seca_jax.algos.minibatches import descend, optimiser, passes
from seca_jax.arrays import all_finite, alongside, in_chunks, masked_mean
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience import rollout as rollouts
from seca_jax.networks.agent import Agent, agent_input, initial_carry, unroll
from seca_jax.types import Carry, Learner

ENTROPY_FLOOR = 1e-3  # nats; below it the adaptive term stops growing instead of dividing 0 by 0


@struct.dataclass
class Params:
    actor: Any
    critic: Any


@struct.dataclass
class TrainState:
    params: Params
    target: Any  # the critic's target parameters
    actor_opt: Any
    critic_opt: Any
    stream: Any  # environments between two windows; None where rollouts are whole episodes
    key: jax.Array
    steps: jax.Array  # int32, real environment steps
    updates: jax.Array  # int32, batches learned from
    critic_updates: jax.Array  # int32


@struct.dataclass
class Batch:
    """What the actor learns from; leaves [T, B, ...], the hidden state's [1, B, ...]."""

    obs: jax.Array  # [T, B, N, O]
    last_action: jax.Array  # [T, B, N] int32
    avail: jax.Array  # [T, B, N, A] bool
    start: jax.Array  # [T, B] bool
    mask: jax.Array  # [T, B] bool
    action: jax.Array  # [T, B, N] int32
    data: Any  # what the aim's objective needs besides, leaves [T, B, ...]
    hidden: jax.Array  # [1, B, N, H] before the first step


@struct.dataclass
class Credit:
    """What an aim is set by: the batch, from the fitted critic's point of view."""

    mixer: Callable = struct.field(pytree_node=False)  # what the critic reads -> its function of v
    chunks: int = struct.field(pytree_node=False)  # in how many the batch's states are worked on
    reads: Any  # leaves [T, B, ...], what the critic reads: the state for f_phi
    policy: jax.Array  # [T, B, N, A]
    action: jax.Array  # [T, B, N, A] one-hot
    rollout: rollouts.Rollout

    def at_states(self, function: Callable, *trees: Any) -> Any:
        """``function(mixer, *trees)`` at the batch's states: the hypernetwork runs once for all that
        it evaluates there. Trees and result have leaves [T, B, ...]; it sees [rows, ...]."""
        trees = (self.reads, *trees)
        return in_chunks(lambda part: function(self.mixer(part[0]), *part[1:]), trees, self.chunks)


class Aim(NamedTuple):
    """What the actor ascends, given one batch.

    Attributes:
        objective: ``(logits [T, B, N, A], Batch) -> [T, B, N]``: every agent's part of what a step is
            worth, without the entropy; sees minibatches.
        data: becomes ``Batch.data``.
        metrics: scalars by name.
    """

    objective: Callable
    data: Any
    metrics: dict[str, jax.Array]


# (Credit, the critic's targets) -> Aim
SetAim = Callable[[Credit, jax.Array], Aim]
# Credit -> (advantage [T, B, N], value of the taken actions [T, B] or [T, B, N], {metric: scalar})
Assign = Callable[[Credit], tuple[jax.Array, jax.Array, dict[str, jax.Array]]]


def make_agent(config: Config, env: Environment) -> Agent:
    return Agent(hidden=config.actor.hidden, num_actions=env.num_actions)


def logits_of(agent: Agent, params: Any, carry: Carry, obs: jax.Array, avail: jax.Array):
    """One step of the agents: (masked logits [..., B, N, A], next hidden)."""
    x = agent_input(obs, carry.last_action, agent.num_actions)
    hidden, logits = agent.apply(params, carry.hidden, x, avail)
    return logits, hidden


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Log-probability of ``action`` [...] under masked ``logits`` [..., A]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def entropy_of(logits: jax.Array) -> jax.Array:
    """Entropy in nats over the available actions. Masked logits [..., A] -> [...]."""
    return -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), axis=-1)


def adaptive_entropy(entropy: jax.Array, counted: jax.Array, coefficient: Any, normalise: str) -> jax.Array:
    """Adaptive entropy term, Eq. 12: xi H / stop_gradient(H), whose gradient is xi dH / H.

    Args:
        entropy: [T, B, N].
        counted: [T, B, N] bool, real steps of agents with a choice; elsewhere the term is 0 (an
            agent with one action left has H = 0 and nothing to explore).
        coefficient: xi, may be traced.
        normalise: ``state`` divides by every state's own entropy (the paper), ``batch`` by the mean
            over the batch (the authors' code).

    Returns:
        [T, B, N].
    """
    scale = masked_mean(entropy, counted) if normalise == "batch" else entropy
    scale = jax.lax.stop_gradient(jnp.maximum(scale, ENTROPY_FLOOR))
    return jnp.where(counted, coefficient * entropy / scale, 0.0)


def by_advantage(config: Config, assign: Assign) -> SetAim:
    """The policy gradient of Eq. 13 with the advantages that ``assign`` hands out.

    One update a batch ascends log pi(u) A; more of them ascend PPO's clipped surrogate.
    """
    reuse = config.actor.epochs * config.actor.minibatches > 1

    def objective(logits, batch):
        before, advantage = batch.data
        log_prob = log_prob_of(logits, batch.action)
        if reuse:
            ratio = jnp.exp(log_prob - before)
            clipped = jnp.clip(ratio, 1.0 - config.actor.clip, 1.0 + config.actor.clip)
            return jnp.minimum(ratio * advantage, clipped * advantage)
        return log_prob * advantage

    def aim(credit, y):
        rollout = credit.rollout
        gain, q, metrics = assign(credit)
        choice = rollout.mask[..., None] & (jnp.sum(rollout.view.avail, axis=-1) > 1)
        if config.credit.residual:
            gain = gain + alongside(config.credit.residual * (y - q), gain)
        spread = jnp.sqrt(masked_mean(jnp.square(gain), choice))
        if config.credit.normalise:
            gain = gain / (spread + 1e-6)
        before = log_prob_of(rollout.extra, rollout.action)
        return Aim(objective, (before, jax.lax.stop_gradient(gain)), {**metrics, "advantage_rms": spread})

    return aim


def make(config: Config, env: Environment, evaluator: Evaluator, set_aim: SetAim) -> Learner:
    """The learner around a critic and an aim.

    Args:
        config: the run's configuration.
        env: where it learns.
        evaluator: the critic.
        set_aim: what the actor ascends, once the critic is fitted.
    """
    agent = make_agent(config, env)
    actor_tx = optimiser(config.actor.max_grad_norm)
    critic_tx = optimiser(config.critic.max_grad_norm)

    def fresh_carry(num_envs):
        return initial_carry(num_envs, env.num_agents, config.actor.hidden)

    def init(key):
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        carry = fresh_carry(1)
        obs = jnp.zeros((1, env.num_agents, env.obs_size))
        avail = jnp.ones((1, env.num_agents, env.num_actions), bool)
        x = agent_input(obs, carry.last_action, env.num_actions)
        params = Params(
            actor=agent.init(actor_key, carry.hidden, x, avail),
            critic=evaluator.init(critic_key),
        )
        stream = None
        if config.rollout == "stream":
            stream = rollouts.start_stream(env, fresh_carry(config.num_envs), env_key, config.num_envs)
        zero = jnp.zeros((), jnp.int32)
        return TrainState(
            params=params,
            # A copy: the two trees must not share buffers once the state is donated.
            target=jax.tree.map(jnp.copy, params.critic),
            actor_opt=actor_tx.init(params.actor),
            critic_opt=critic_tx.init(params.critic),
            stream=stream,
            key=key,
            steps=zero,
            updates=zero,
            critic_updates=zero,
        )

    def policy(params, carry, obs, avail, key):
        logits, hidden = logits_of(agent, params.actor, carry, obs, avail)
        action = jax.random.categorical(key, logits).astype(jnp.int32)
        return action, Carry(hidden, action), logits

    def act(params, carry, obs, avail, key, greedy):
        logits, hidden = logits_of(agent, params.actor, carry, obs, avail)
        action = jnp.argmax(logits, -1) if greedy else jax.random.categorical(key, logits)
        return action.astype(jnp.int32), Carry(hidden, action.astype(jnp.int32))

    def collect(state, key):
        if config.rollout == "stream":
            return rollouts.collect_stream(env, policy, state.params, state.stream, key, config.window)
        fresh = fresh_carry(config.num_envs)
        return None, rollouts.collect_episodes(env, policy, state.params, fresh, key, config.num_envs)

    def decayed(state, value, final):
        left = 1.0 - state.steps / config.total_steps
        return final + (value - final) * jnp.clip(left, 0.0, 1.0)

    def fit_critic(state, rollout, action, lr, key):
        tail_logits, _ = logits_of(
            agent, state.params.actor, rollout.tail_carry, rollout.tail.obs, rollout.tail.avail
        )
        tail_policy = jax.nn.softmax(tail_logits)
        y = critic.targets(config, evaluator, state.target, rollout, action, tail_policy)
        reads = evaluator.reads(rollout.view, rollout.last_action())
        learned = (state.params.critic, state.target, state.critic_opt, state.critic_updates)
        batch = (reads, action, y, rollout.mask)
        learned, metrics = critic.fit(config, evaluator, critic_tx, learned, batch, lr, key)
        params, target, opt, count = learned
        state = state.replace(
            params=state.params.replace(critic=params), target=target, critic_opt=opt, critic_updates=count
        )
        return state, reads, y, metrics

    def actor_loss(params, batch, objective, xi):
        logits = unroll(
            agent, params, batch.hidden[0], batch.obs, batch.last_action, batch.avail, batch.start
        )
        gain = objective(logits, batch)
        counted = batch.mask[..., None] & (jnp.sum(batch.avail, axis=-1) > 1)
        entropy = entropy_of(logits)
        bonus = adaptive_entropy(entropy, counted, xi, config.actor.normalise)
        # Eq. 13: summed over agents, averaged over steps.
        loss = -masked_mean(jnp.sum(gain + bonus, axis=-1), batch.mask)
        return loss, masked_mean(entropy, counted)

    def fit_actor(state, batch, objective, lr, xi, key):
        def update(carry, part):
            params, opt = carry
            loss_and_gradient = jax.value_and_grad(actor_loss, has_aux=True)
            (loss, entropy), gradient = loss_and_gradient(params, part, objective, xi)
            params, opt = descend(actor_tx, gradient, opt, params, lr)
            return (params, opt), (loss, entropy, optax.tree.norm(gradient))

        carry, (loss, entropy, norm) = passes(
            update,
            (state.params.actor, state.actor_opt),
            batch,
            key,
            config.actor.epochs,
            config.actor.minibatches,
        )
        state = state.replace(params=state.params.replace(actor=carry[0]), actor_opt=carry[1])
        return state, {
            "actor_loss": jnp.mean(loss),
            "entropy": jnp.mean(entropy[0]),
            "actor_grad_norm": jnp.mean(norm),
        }

    def train_step(state):
        rollout_key, critic_key, actor_key, key = jax.random.split(state.key, 4)
        stream, rollout = collect(state, rollout_key)
        logits = rollout.extra
        action = jax.nn.one_hot(rollout.action, env.num_actions)

        critic_lr, actor_lr = config.critic.lr, config.actor.lr
        if config.lr_decay:
            critic_lr, actor_lr = decayed(state, critic_lr, 0.0), decayed(state, actor_lr, 0.0)
        xi = config.actor.entropy
        if config.actor.entropy_final >= 0:
            xi = decayed(state, xi, config.actor.entropy_final)

        state, reads, y, critic_metrics = fit_critic(state, rollout, action, critic_lr, critic_key)
        fitted = state.params.critic
        credit = Credit(
            mixer=lambda part: evaluator.at(fitted, part),
            chunks=evaluator.chunks(rollout.mask),
            reads=reads,
            policy=jax.nn.softmax(logits),
            action=action,
            rollout=rollout,
        )
        aim = set_aim(credit, y)
        batch = Batch(
            obs=rollout.view.obs,
            last_action=rollout.last_action(),
            avail=rollout.view.avail,
            start=rollout.start,
            mask=rollout.mask,
            action=rollout.action,
            data=aim.data,
            hidden=rollout.carry.hidden[None],
        )
        state, actor_metrics = fit_actor(state, batch, aim.objective, actor_lr, xi, actor_key)

        totals = rollout.totals()
        state = state.replace(
            stream=stream,
            key=key,
            steps=state.steps + totals["sum/steps"].astype(jnp.int32),
            updates=state.updates + 1,
        )
        metrics = {**totals, **critic_metrics, **aim.metrics, **actor_metrics}
        metrics["finite"] = all_finite((state.params, metrics))
        return state, metrics

    return Learner(init, train_step, act, fresh_carry)
