"""SeCA: sequential credit assignment, ordered by integrated gradients (Sections 3.3 and 3.4)."""

from typing import Callable

import jax
import jax.numpy as jnp

from seca_jax.algos import actor_critic
from seca_jax.algos.actor_critic import Credit, by_advantage
from seca_jax.algos.critic import hypernetwork
from seca_jax.config.schema import Config
from seca_jax.credit import advantage, attribution, order
from seca_jax.envs.base import Environment
from seca_jax.types import Learner


def contribution(credit: Credit, *, points: int, length: int | None, backward: bool = False) -> jax.Array:
    """Contribution of every agent to the stage that each step belongs to, Eq. 14.

    Args:
        credit: the batch as the critic sees it.
        points: K, points on each segment of the path.
        length: steps of a stage; None: the episode (the part of it inside the window).
        backward: take the path's differences backwards, as the authors' code does; the
            contributions, and with them the order, change sign.

    Returns:
        [T, B, N].
    """
    rollout = credit.rollout
    c = attribution.path_contribution(
        lambda state, v: credit.mixer(state)(v),
        credit.policy,
        rollout.view.state,
        points=points,
        mask=rollout.linked,
        stage=order.stages(rollout.age, rollout.episode, length),
        chunks=credit.chunks,
    )
    return -c if backward else c


def make_order(config: Config) -> Callable[[Credit], jax.Array]:
    """The order function that ``credit.order`` names: Credit -> [T, B, N] agent indices."""
    name = config.credit.order
    if name == "fixed":
        return lambda credit: order.fixed(credit.policy)
    if name == "prob":
        return lambda credit: order.by_probability(credit.policy, credit.action)
    if name == "entropy":
        return lambda credit: order.by_entropy(credit.policy)
    stage = name.removeprefix("ig-")
    length = None if stage == "episode" else int(stage)

    def by_path(credit):
        backward = config.credit.path == "backward"
        c = contribution(credit, points=config.credit.points, length=length, backward=backward)
        return order.by_contribution(c)

    return by_path


def make(config: Config, env: Environment) -> Learner:
    """The SeCA learner of a run."""
    place = make_order(config)

    def judge(mixer, policy, action, turn):
        return advantage.sequential(mixer, policy, action, turn), mixer(action)

    def assign(credit):
        turn = place(credit)
        gain, q = credit.at_states(judge, credit.policy, credit.action, turn)
        # How often the order departs from the agents' own numbering: 0 for fixed, 1 - 1/N at random.
        moved = jnp.mean(turn != jnp.arange(env.num_agents), axis=-1)
        return gain, q, {"order_moved": jnp.mean(moved)}

    return actor_critic.make(config, env, hypernetwork(config, env), by_advantage(config, assign))
