"""Trains with credit that the simulator gives instead of a critic: what would right credit be worth?

    python experiments/simulator_credit.py map=2s3z seeds=6 seed=100 total_steps=300_000 credit.lam=0.9

``algo=simulator`` is SeCA with ``critic.kind=dueling``, but the differences of Eq. 9 are not the critic's. At
every step of a batch the battle is branched: the first i agents (in their own order) do what they did, the
others draw from their policies, the step is played, and

    D_i = mean over BRANCHES of r + gamma V(s') with i agents given, less the same with i - 1,

both sides with the same draws and the same chance. Only V is learned, from outcomes. The keys are SeCA's;
``credit.residual`` and ``credit.weight`` count as there, ``credit.order`` does not.

``algo=simulator_later`` takes what the team's actions changed at later steps from an action's advantage, too:

    A_i = y - V + D_i - sum_j D_j - sum over l >= 1 of (gamma lambda)^l (sum_j D_j at t + l)

Drawn after the action, it is noise to it, whose mean is 0, and of all that lies between an action and its
outcome it leaves chance and what V misses.

Besides SeCA's metrics it logs ``train/credit_share`` and ``train/joint_share``: which part of the mean
square of y - V(s) the credit of an agent's action is, and that of the joint action. Both are products of two
independent halves of the branches, so that the noise of either does not count.
"""

import dataclasses
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seca_jax import register_learner
from seca_jax.algos import actor_critic as phases
from seca_jax.algos.actor_critic import Log, Parts, TrainState
from seca_jax.algos.critic import team_critic
from seca_jax.algos.policy import policy_gradient
from seca_jax.algos.seca import weighed
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.experience.batch import Rollout
from seca_jax.experience.returns import td_lambda
from seca_jax.train import main
from seca_jax.types import Learner, View

BRANCHES = 4  # of a step; an even number
SETTINGS = {
    "reads": ["lam", "window", "actor", "critic", "credit"],
    "settings": {
        "critic.kind": "dueling",
        "critic.updates": 8,
        "critic.credit_stride": 4,
        "critic.surprise_lam": 0.0,
        "credit.lam": 0.9,
    },
}


@struct.dataclass
class Moment(View):
    """A view, and the battle that it is of."""

    battle: Any = None  # the environment's state, leaves [B, ...]


def remembering(env: Environment) -> Environment:
    """The environment whose views hold its state; of the SMAX core, whose states have B last."""

    def view(state: Any) -> Moment:
        seen = env.view(state)
        battle = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), state)
        return Moment(seen.obs, seen.avail, seen.state, battle)

    return dataclasses.replace(env, view=view)


def differences(parts: Parts, value: Any, rollout: Rollout, key: jax.Array) -> jax.Array:
    """D_i of every branch, [T, BRANCHES, B, N], along the agents' own order.

    Args:
        parts: of the learner.
        value: ``state [rows, S] -> V [rows]``.
        rollout: of an environment that is :func:`remembering`, with its logits.
        key: of the branches.
    """
    env, gamma = parts.env, parts.config.gamma
    given = jnp.arange(env.num_agents) < jnp.arange(env.num_agents + 1)[:, None]  # [N + 1, N]

    def at(step: tuple) -> jax.Array:
        battle, action, logits, key = step
        draw_key, step_key = jax.random.split(key)
        drawn = jax.random.categorical(draw_key, logits, shape=(BRANCHES, *action.shape))
        joint = jnp.where(given[:, None, None], action, drawn)  # [N + 1, BRANCHES, B, N]
        lead = joint.shape[:3]
        # Prefixes of one branch share the step's chance
        keys = jnp.broadcast_to(jax.random.split(step_key, lead[1:]), lead).reshape(-1)

        def repeated(x: jax.Array) -> jax.Array:
            rows = jnp.broadcast_to(x, (*lead[:2], *x.shape)).reshape(-1, *x.shape[1:])
            return jnp.moveaxis(rows, 0, -1)

        after, outcome = env.step(
            keys, jax.tree.map(repeated, battle), joint.reshape(-1, env.num_agents).astype(jnp.int32)
        )
        following = jnp.where(outcome.terminated, 0.0, value(env.view(after).state))
        worth = (outcome.reward + gamma * following).reshape(lead)
        return jnp.moveaxis(worth[1:] - worth[:-1], 0, -1)

    view: Any = rollout.view
    keys = jax.random.split(key, rollout.action.shape[0])
    return jax.lax.map(at, (view.battle, rollout.action, rollout.extra, keys))


def shares(difference: jax.Array, outcome: jax.Array) -> Log:
    """How much of the outcomes [T, B] is credit; ``difference`` as of :func:`differences`."""
    first, second = (half.mean(axis=1) for half in jnp.split(difference, 2, axis=1))  # [T, B, N]
    whole = jnp.mean(jnp.square(outcome))
    return {
        "credit_share": jnp.mean(first * second) / whole,
        "joint_share": jnp.mean(first.sum(-1) * second.sum(-1)) / whole,
        "outcome_rms": jnp.sqrt(whole),
    }


def of_later_steps(joint: jax.Array, linked: jax.Array, decay: float) -> jax.Array:
    """The sum over l >= 1 of decay^l joint_{t+l}, within the episode.

    Args:
        joint: [T, B].
        linked: [T - 1, B] bool, steps t and t + 1 belong to one episode.
        decay: within 0 and 1.

    Returns:
        [T, B].
    """
    ended = jnp.concatenate([~linked, jnp.ones_like(linked[:1])])
    nothing = jnp.zeros_like(joint)
    return td_lambda(joint, ended, jnp.zeros_like(ended), nothing, gamma=decay, lam=1.0) - joint


def update(parts: Parts, state: TrainState, later: bool = False) -> tuple[TrainState, Log]:
    """SeCA's update with the simulator's differences; ``later``: those of later steps taken out."""
    config = parts.config
    keys, rates = phases.prepare(parts, state)
    stream, rollout = phases.collect(parts, state, keys.rollout)
    targets = phases.td_targets(parts, state, rollout, config.credit.lam)
    state, critic_log = phases.fit_critic(parts, state, rollout, targets, rates.critic, keys.critic)

    def value(states: jax.Array) -> jax.Array:
        return parts.critic.apply(state.params.critic, states).value  # pyright: ignore[reportFunctionMemberAccess]

    difference = differences(parts, value, rollout, jax.random.fold_in(keys.critic, 1))
    expected = value(rollout.view.state)
    share_log = shares(difference, targets.outcome - expected)
    advantage = difference.mean(axis=1)
    joint = advantage.sum(axis=-1)
    advantage, done = weighed(config.credit.weight, advantage, expected + joint)
    residual = targets.outcome - done
    if later:
        lam = config.lam if config.credit.lam < 0 else config.credit.lam
        residual -= of_later_steps(joint, rollout.linked, config.gamma * lam)
    samples, credit_log = phases.settle(config.credit, advantage, residual, rollout)

    objective = partial(policy_gradient, config.actor)
    state, actor_log = phases.fit_actor(parts, state, samples, objective, rates, keys.actor)
    return phases.finish(state, stream, keys.next, rollout, critic_log, share_log, credit_log, actor_log)


def make(later: bool, config: Config, env: Environment) -> Learner:
    """The learner."""
    parts = phases.assemble(config, remembering(env), team_critic(config, env))
    return phases.learner(parts, partial(update, later=later))


if __name__ == "__main__":
    register_learner("simulator", partial(make, False), SETTINGS)
    register_learner("simulator_later", partial(make, True), SETTINGS)
    words = sys.argv[1:]
    chosen = [] if any(word.startswith("algo=") for word in words) else ["algo=simulator"]
    sys.exit(main([*chosen, *words]))
