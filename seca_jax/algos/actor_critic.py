"""The on-policy actor-critic that SeCA and its relatives share: everything but who deserves what.

One update, in the paper's order: collect experience, fit the critic f_phi to TD(lambda) targets,
let ``assign`` hand out advantages with the critic just fitted, ascend the policy gradient with
adaptive entropy. What distinguishes an algorithm is the ``assign`` function it passes in.
"""

from typing import Any, Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from seca_jax import rollout as rollouts
from seca_jax.config import Config
from seca_jax.envs.base import Environment
from seca_jax.networks import Agent, agent_input, initial_carry, make_critic, unroll
from seca_jax.pieces import cut, in_pieces, num_pieces
from seca_jax.returns import masked_mean, td_lambda
from seca_jax.types import Algorithm, Carry

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
    log_prob: jax.Array  # [T, B, N] of the action, when it was taken
    advantage: jax.Array  # [T, B, N]
    hidden: jax.Array  # [1, B, N, H] before the first step


@struct.dataclass
class Credit:
    """What ``assign`` sees: the batch, from the fitted critic's point of view."""

    mixer: Callable = struct.field(pytree_node=False)  # state [..., S] -> Mixer, f at that state
    pieces: int = struct.field(pytree_node=False)  # in how many the batch's states are worked on
    policy: jax.Array  # [T, B, N, A]
    action: jax.Array  # [T, B, N, A] one-hot
    rollout: rollouts.Rollout

    def at_states(self, function: Callable, *trees: Any) -> Any:
        """``function(mixer, *trees)`` at the batch's states: the hypernetwork runs once for all that
        it evaluates there. Trees and result have leaves [T, B, ...]; it sees [rows, ...]."""
        states = self.rollout.view.state
        return in_pieces(lambda part: function(self.mixer(part[0]), *part[1:]), (states, *trees), self.pieces)


# Credit -> (advantage [T, B, N], f(s; u) [T, B], {metric: scalar})
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


def passes(
    update: Callable, carry: Any, batch: Any, key: jax.Array, count: int, minibatches: int
) -> tuple[Any, Any]:
    """``count`` passes of ``update`` over a batch, each in ``minibatches`` random sets of environments.

    Whole environments stay together: a recurrent agent learns from unbroken sequences.

    Args:
        update: ``(carry, part) -> (carry, log)``, as in ``lax.scan``.
        carry: its first argument.
        batch: pytree with leaves [T, B, ...].
        key: for shuffling; unused with one minibatch, whose order does not matter.
        count: passes.
        minibatches: parts of a pass; divides B.

    Returns:
        carry, logs stacked to [count, minibatches, ...].
    """

    def one(carry, key):
        if minibatches == 1:
            parts = jax.tree.map(lambda x: x[None], batch)
        else:
            num_envs = jax.tree.leaves(batch)[0].shape[1]
            places = jax.random.permutation(key, num_envs).reshape(minibatches, -1)
            parts = jax.tree.map(lambda x: jnp.moveaxis(jnp.take(x, places, axis=1), 1, 0), batch)
        return jax.lax.scan(update, carry, parts)

    return jax.lax.scan(one, carry, jax.random.split(key, count))


def make(config: Config, env: Environment, assign: Assign) -> Algorithm:
    """The learner around an ``assign`` function.

    Args:
        config: the run's configuration.
        env: where it learns.
        assign: hands out the advantages of a batch.
    """
    agent = make_agent(config, env)
    critic = make_critic(config, env.num_agents, env.num_actions)
    actor_tx = optax.chain(optax.clip_by_global_norm(config.actor.max_grad_norm), optax.scale_by_adam())
    critic_tx = optax.chain(optax.clip_by_global_norm(config.critic.max_grad_norm), optax.scale_by_adam())
    reuse = config.actor.epochs * config.actor.minibatches > 1

    def pieces_of(mask):
        length, width = mask.shape
        return num_pieces(length, width * env.num_agents * env.num_actions * config.critic.mixing)

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
            critic=critic.init(critic_key, jnp.zeros((1, env.state_size))),
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

    def descend(tx, gradient, opt, params, lr):
        update, opt = tx.update(gradient, opt, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: -lr * u, update)), opt

    def targets(state, rollout, action):
        """Eq. 10 with the target critic. [T, B]."""
        value = in_pieces(
            lambda part: critic.apply(state.target, part[0])(part[1]),
            (rollout.view.state, action),
            pieces_of(rollout.mask),
        )
        tail_logits, _ = logits_of(
            agent, state.params.actor, rollout.tail_carry, rollout.tail.obs, rollout.tail.avail
        )
        tail_value = critic.apply(state.target, rollout.tail.state)(jax.nn.softmax(tail_logits))
        return td_lambda(
            rollout.reward,
            rollout.terminated,
            rollout.truncated,
            rollouts.next_value(rollout, value, tail_value),
            gamma=config.gamma,
            lam=config.lam,
        )

    def fit_critic(state, rollout, action, y, lr, key):
        def update(carry, part):
            params, target, opt, count = carry

            def errors(params, piece):
                view_state, action, y, mask = piece
                return jnp.sum(jnp.where(mask, jnp.square(critic.apply(params, view_state)(action) - y), 0.0))

            def add(total, piece):
                return jax.tree.map(jnp.add, total, jax.value_and_grad(errors)(params, piece)), None

            mask = part[-1]
            nothing = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
            total, _ = jax.lax.scan(add, nothing, cut(part, pieces_of(mask)))
            loss, gradient = jax.tree.map(lambda x: x / jnp.maximum(jnp.sum(mask), 1), total)
            params, opt = descend(critic_tx, gradient, opt, params, lr)
            count = count + 1
            copy = count % config.critic.target_interval == 0
            target = jax.tree.map(lambda p, t: jnp.where(copy, p, t), params, target)
            return (params, target, opt, count), (loss, optax.tree.norm(gradient))

        batch = (rollout.view.state, action, y, rollout.mask)
        start = (state.params.critic, state.target, state.critic_opt, state.critic_updates)
        (params, target, opt, count), (loss, norm) = passes(
            update, start, batch, key, config.critic.updates, config.critic.minibatches
        )
        state = state.replace(
            params=state.params.replace(critic=params), target=target, critic_opt=opt, critic_updates=count
        )
        return state, {"critic_loss": jnp.mean(loss[0]), "critic_grad_norm": jnp.mean(norm)}

    def actor_loss(params, batch, xi):
        logits = unroll(
            agent, params, batch.hidden[0], batch.obs, batch.last_action, batch.avail, batch.start
        )
        log_prob = log_prob_of(logits, batch.action)
        if reuse:
            ratio = jnp.exp(log_prob - batch.log_prob)
            clipped = jnp.clip(ratio, 1.0 - config.actor.clip, 1.0 + config.actor.clip)
            gain = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
        else:
            gain = log_prob * batch.advantage
        counted = batch.mask[..., None] & (jnp.sum(batch.avail, axis=-1) > 1)
        entropy = entropy_of(logits)
        bonus = adaptive_entropy(entropy, counted, xi, config.actor.normalise)
        # Eq. 13: summed over agents, averaged over steps.
        loss = -masked_mean(jnp.sum(gain + bonus, axis=-1), batch.mask)
        return loss, masked_mean(entropy, counted)

    def fit_actor(state, batch, lr, xi, key):
        def update(carry, part):
            params, opt = carry
            (loss, entropy), gradient = jax.value_and_grad(actor_loss, has_aux=True)(params, part, xi)
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

        y = targets(state, rollout, action)
        state, critic_metrics = fit_critic(state, rollout, action, y, critic_lr, critic_key)

        credit = Credit(
            mixer=lambda s: critic.apply(state.params.critic, s),
            pieces=pieces_of(rollout.mask),
            policy=jax.nn.softmax(logits),
            action=action,
            rollout=rollout,
        )
        gain, q, assign_metrics = assign(credit)
        choice = rollout.mask[..., None] & (jnp.sum(rollout.view.avail, axis=-1) > 1)
        if config.credit.residual:
            gain = gain + config.credit.residual * (y - q)[..., None]
        spread = jnp.sqrt(masked_mean(jnp.square(gain), choice))
        if config.credit.normalise:
            gain = gain / (spread + 1e-6)
        batch = Batch(
            obs=rollout.view.obs,
            last_action=rollout.last_action(),
            avail=rollout.view.avail,
            start=rollout.start,
            mask=rollout.mask,
            action=rollout.action,
            log_prob=log_prob_of(logits, rollout.action),
            advantage=jax.lax.stop_gradient(gain),
            hidden=rollout.carry.hidden[None],
        )
        state, actor_metrics = fit_actor(state, batch, actor_lr, xi, actor_key)

        totals = rollout.totals()
        state = state.replace(
            stream=stream,
            key=key,
            steps=state.steps + totals["sum/steps"].astype(jnp.int32),
            updates=state.updates + 1,
        )
        metrics = {**totals, **critic_metrics, **assign_metrics, **actor_metrics, "advantage_rms": spread}
        sane = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((state.params, metrics))]
        metrics["finite"] = jnp.all(jnp.stack(sane)).astype(jnp.float32)
        return state, metrics

    return Algorithm(init, train_step, act, fresh_carry)
