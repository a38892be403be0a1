"""The phases of an on-policy update, which SeCA, COMA, COMA-newArchi and LICA go through.

Collect experience, fit the critic to TD(lambda) targets, judge the batch with the critic just fitted,
ascend with adaptive entropy. Every learner's file tells its own update with them, from top to bottom.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Callable, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct

from seca_jax.algos import critic as critics
from seca_jax.algos import policy
from seca_jax.algos.critic import Critic, Targets
from seca_jax.algos.minibatches import optimiser
from seca_jax.algos.policy import Judgement, Objective, Samples
from seca_jax.arrays import all_finite, alongside, in_chunks, masked_mean
from seca_jax.config.schema import Config, CreditConfig
from seca_jax.envs.base import Environment
from seca_jax.experience import rollout as rollouts
from seca_jax.experience.batch import Rollout, unplayed
from seca_jax.experience.rollout import Stream, start_stream
from seca_jax.networks.agent import Network, agent_input, initial_carry
from seca_jax.types import Assess, Carry, Learner

Log = dict[str, jax.Array]  # scalars by the names of the metrics
State = TypeVar("State", bound=Any)  # any train state with params, stream, key, steps and updates


@struct.dataclass
class Params:
    """Every network's parameters, the target critic's apart."""

    actor: Any
    critic: Any


@struct.dataclass
class TrainState:
    """All that changes while an actor and its critic learn; what a checkpoint holds."""

    params: Params
    target: Any  # the critic's target parameters
    actor_opt: Any
    critic_opt: Any
    stream: Any  # environments between two windows; None where rollouts are whole episodes
    key: jax.Array
    steps: jax.Array  # int32, real environment steps
    updates: jax.Array  # int32, batches learned from
    critic_updates: jax.Array  # int32
    slope: Any = None  # of the credit, SeCA's under credit.calibrate
    waiting: tuple[Rollout, ...] = ()  # windows that have not been learned from, under lookahead


class Parts(NamedTuple):
    """What a learner is made of, and what does not change while it learns."""

    config: Config
    env: Environment
    agent: Network
    critic: Critic
    actor_tx: optax.GradientTransformation
    critic_tx: optax.GradientTransformation


class Keys(NamedTuple):
    """One update's keys, each consumed once."""

    rollout: jax.Array
    critic: jax.Array
    actor: jax.Array
    next: jax.Array  # the next update's

    @property
    def meter(self) -> jax.Array:
        """Beside the critic's, so that no other key depends on there being a meter."""
        return jax.random.fold_in(self.critic, 1)


class Rates(NamedTuple):
    """What falls while training goes on, or does not."""

    critic: Any  # learning rate
    actor: Any  # learning rate
    entropy: Any  # xi


class UnderCritic(NamedTuple):
    """A batch before the critic that judges it."""

    critic: Critic
    params: Any  # the critic's
    inputs: Any  # the critic's, leaves [T, B, ...]
    policy: jax.Array  # [T, B, N, A]
    action: jax.Array  # [T, B, N, A] one-hot
    rollout: Rollout

    @property
    def chunks(self) -> int:
        """In how many chunks the batch's states are worked on."""
        return self.critic.chunks(self.rollout.mask)

    def evaluate(self, inputs: Any, v: jax.Array) -> jax.Array:
        """f(s; v) at any inputs: leaves [..., ...] and ``v`` [..., N, A]."""
        return self.critic.apply(self.params, inputs)(v)

    def at_states(self, function: Callable, *trees: Any) -> Any:
        """``function(f, policy, action, *trees)`` at the batch's states, f being the critic there.

        The hypernetwork runs once for all that the function evaluates. Trees and result have leaves
        [T, B, ...]; the function sees [rows, ...].
        """

        def at(part: tuple) -> Any:
            return function(self.critic.apply(self.params, part[0]), *part[1:])

        return in_chunks(at, (self.inputs, self.policy, self.action, *trees), self.chunks)


def assemble(config: Config, env: Environment, critic: Critic) -> Parts:
    """The parts of a run's learner with ``critic``."""
    return Parts(
        config=config,
        env=env,
        agent=policy.make_agent(config, env),
        critic=critic,
        actor_tx=optimiser(config.actor.max_grad_norm),
        critic_tx=optimiser(config.critic.max_grad_norm),
    )


def learner(
    parts: Parts, update: Callable[[Parts, Any], tuple[Any, Log]], assess: Assess | None = None
) -> Learner:
    """The learner whose train step is ``update`` of its parts."""
    return Learner(
        init=partial(init, parts),
        train_step=partial(update, parts),
        act=partial(act, parts),
        initial_carry=partial(fresh_carry, parts),
        assess=assess,
    )


def fresh_carry(parts: Parts, num_envs: int) -> Carry:
    """What the agents remember at an episode's start."""
    return initial_carry(num_envs, parts.env.num_agents, parts.config.actor.hidden)


def init(parts: Parts, key: jax.Array) -> TrainState:
    """The state that training starts from."""
    config, env = parts.config, parts.env
    actor_key, critic_key, env_key, key = jax.random.split(key, 4)
    carry = fresh_carry(parts, 1)
    obs = jnp.zeros((1, env.num_agents, env.obs_size))
    avail = jnp.ones((1, env.num_agents, env.num_actions), bool)
    x = agent_input(obs, carry.last_action, env.num_actions)
    params = Params(
        actor=parts.agent.init(actor_key, carry.hidden, x, avail),
        critic=parts.critic.init(critic_key),
    )
    stream = None
    if config.rollout == "stream":
        stream = start_stream(env, fresh_carry(parts, config.num_envs), env_key, config.num_envs)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        params=params,
        # A copy: the two trees must not share buffers once the state is donated.
        target=jax.tree.map(jnp.copy, params.critic),
        actor_opt=parts.actor_tx.init(params.actor),
        critic_opt=parts.critic_tx.init(params.critic),
        stream=stream,
        key=key,
        steps=zero,
        updates=zero,
        critic_updates=zero,
    )
    if config.lookahead:
        window = unplayed(jax.eval_shape(lambda *given: played(parts, *given)[1], state, key))
        state = replace(state, waiting=(window,) * config.lookahead)
    return state


def act(
    parts: Parts,
    params: Params,
    carry: Carry,
    obs: jax.Array,
    avail: jax.Array,
    key: jax.Array,
    greedy: bool,
) -> tuple[jax.Array, Carry]:
    """One decision of the team, see :class:`~seca_jax.types.Act`."""
    logits, hidden = policy.logits_of(parts.agent, params.actor, carry, obs, avail)
    action = jnp.argmax(logits, -1) if greedy else jax.random.categorical(key, logits)
    return action.astype(jnp.int32), Carry(hidden, action.astype(jnp.int32))


# --- the phases ---------------------------------------------------------------------------------------


def prepare(parts: Parts, state: TrainState) -> tuple[Keys, Rates]:
    """Keys and rates of the update that ``state`` is before."""
    config = parts.config
    keys = Keys(*jax.random.split(state.key, 4))

    def falling(start: float, end: float) -> Any:
        return optax.linear_schedule(start, end, config.total_steps)(state.steps)

    critic_lr, actor_lr, xi = config.critic.lr, config.actor.lr, config.actor.entropy
    if config.lr_decay:
        critic_lr, actor_lr = falling(critic_lr, 0.0), falling(actor_lr, 0.0)
    final = config.actor.entropy_final
    xi = jnp.where(final < 0, xi, falling(xi, final))
    return keys, Rates(critic_lr, actor_lr, xi)


def collect(parts: Parts, state: TrainState, key: jax.Array) -> tuple[Stream | None, Rollout]:
    """A batch of experience to learn from; the logits that it was played by, [T, B, N, A], are its ``extra``.

    Under ``lookahead`` it is not the window just played but the one so many before, which knows the later.
    """
    stream, rollout = played(parts, state, key)
    first, *later = *state.waiting, rollout
    return stream, replace(first, later=tuple(later))


def played(parts: Parts, state: TrainState, key: jax.Array) -> tuple[Stream | None, Rollout]:
    """The stream's next window, or whole episodes, with the current policy; its logits are ``extra``."""
    config, env = parts.config, parts.env

    def draw(
        params: Any, carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Carry, Any]:
        logits, hidden = policy.logits_of(parts.agent, params, carry, obs, avail)
        action = jax.random.categorical(key, logits).astype(jnp.int32)
        return action, Carry(hidden, action), logits

    fresh = fresh_carry(parts, config.num_envs)
    return rollouts.collect(
        env, draw, state.params.actor, state.stream, fresh, key, config.num_envs, config.window
    )


def td_targets(
    parts: Parts, state: TrainState, rollout: Rollout, outcome_lam: float | None = None
) -> Targets:
    """Targets of the critic, Eq. 10; ``outcome_lam``, unless negative, is what agents are judged by."""
    config, length, rollout = parts.config, len(rollout.mask), rollout.whole()
    tail = rollout.tail
    logits, _ = policy.logits_of(parts.agent, state.params.actor, rollout.tail_carry, tail.obs, tail.avail)
    action, tail_policy = jax.nn.one_hot(rollout.action, parts.env.num_actions), jax.nn.softmax(logits)
    found = critics.targets(
        parts.critic,
        state.target,
        rollout,
        action,
        tail_policy,
        gamma=config.gamma,
        lam=config.lam,
        outcome_lam=None if outcome_lam is None or outcome_lam < 0 else outcome_lam,
    )
    return jax.tree.map(lambda x: x[:length], found)


def fit_critic(
    parts: Parts, state: TrainState, rollout: Rollout, targets: Targets, lr: Any, key: jax.Array
) -> tuple[TrainState, Log]:
    """The critic's passes over the batch, towards ``targets`` of :func:`td_targets`."""
    inputs = parts.critic.inputs(rollout.view, rollout.last_action())
    action = jax.nn.one_hot(rollout.action, parts.env.num_actions)
    learned = (state.params.critic, state.target, state.critic_opt, state.critic_updates)
    policies = None if parts.critic.surprise_lam is None else jax.nn.softmax(rollout.extra)
    batch = (inputs, policies, action, targets._replace(outcome=None), rollout.mask)
    learned, log = critics.fit(parts.config.critic, parts.critic, parts.critic_tx, learned, batch, lr, key)
    params, target, opt, count = learned
    state = replace(
        state,
        params=replace(state.params, critic=params),
        target=target,
        critic_opt=opt,
        critic_updates=count,
    )
    return state, log


def under_critic(parts: Parts, params: Any, rollout: Rollout, logits: jax.Array) -> UnderCritic:
    """The batch before the critic with parameters ``params``; ``logits`` [T, B, N, A] of the policies."""
    return UnderCritic(
        critic=parts.critic,
        params=params,
        inputs=parts.critic.inputs(rollout.view, rollout.last_action()),
        policy=jax.nn.softmax(logits),
        action=jax.nn.one_hot(rollout.action, parts.env.num_actions),
        rollout=rollout,
    )


def settle(
    config: CreditConfig, advantage: jax.Array, residual: jax.Array, rollout: Rollout
) -> tuple[Samples, Log]:
    """The advantages as the actor gets them, ours: with a share of the residual, and divided by their size.

    Args:
        config: ``residual`` and ``normalise`` matter.
        advantage: [T, B, N].
        residual: [T, B] or [T, B, N], targets less the critic's value of what was done.
        rollout: the batch, with its logits.

    Returns:
        samples for :func:`~seca_jax.algos.policy.policy_gradient`, metrics.
    """
    if config.residual:
        advantage = advantage + alongside(config.residual * residual, advantage)
    return sized(config, advantage, rollout)


def sized(config: CreditConfig, advantage: jax.Array, rollout: Rollout) -> tuple[Samples, Log]:
    """Finished advantages as the actor gets them: divided by their root mean square, if so configured.

    Args:
        config: ``normalise`` matters.
        advantage: [T, B, N].
        rollout: the batch, with its logits.

    Returns:
        samples for :func:`~seca_jax.algos.policy.policy_gradient`, metrics.
    """
    size = jnp.sqrt(masked_mean(jnp.square(advantage), policy.choices(rollout.mask, rollout.view.avail)))
    if config.normalise:
        advantage = advantage / (size + 1e-6)
    judgement = Judgement(
        advantage=jax.lax.stop_gradient(advantage),
        log_prob=policy.log_prob_of(rollout.extra, rollout.action),
    )
    return policy.samples(rollout, judgement), {"advantage_rms": size}


def fit_actor(
    parts: Parts, state: TrainState, batch: Samples, objective: Objective, rates: Rates, key: jax.Array
) -> tuple[TrainState, Log]:
    """The actor's passes over the batch, up the objective."""
    if parts.config.lookahead and isinstance(batch.data, Judgement):
        batch = policy.renewed(parts.agent, state.params.actor, batch)
    (params, opt), log = policy.fit(
        parts.config.actor,
        parts.agent,
        parts.actor_tx,
        (state.params.actor, state.actor_opt),
        batch,
        objective,
        rates.actor,
        rates.entropy,
        key,
    )
    return replace(state, params=replace(state.params, actor=params), actor_opt=opt), log


def finish(
    state: State, stream: Stream | None, key: jax.Array, rollout: Rollout, *logs: Log
) -> tuple[State, Log]:
    """The next update's state, and this one's metrics, of whoever learns from the batch just played."""
    metrics, known = rollout.totals(), len(rollout.later)
    if known:  # while the first batch waits, what updates make of nothing is no number
        logs = tuple(jax.tree.map(lambda x: jnp.where(state.updates < known, 0.0, x), log) for log in logs)
        state = replace(state, waiting=rollout.later)
    state = replace(
        state,
        stream=stream,
        key=key,
        steps=state.steps + metrics["sum/steps"].astype(jnp.int32),
        updates=state.updates + 1,
    )
    for log in logs:
        metrics |= log
    return state, {**metrics, "finite": all_finite((state.params, metrics))}
