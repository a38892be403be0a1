"""LICA: learning implicit credit assignment (Zhou et al. 2020): ascend f(s; pi) through the policy."""

import jax
import jax.numpy as jnp

from seca_jax.algos import actor_critic
from seca_jax.algos.actor_critic import Aim, Batch, Credit
from seca_jax.algos.critic import Evaluator, hypernetwork
from seca_jax.arrays import in_chunks
from seca_jax.config.schema import Config
from seca_jax.envs.base import Environment
from seca_jax.types import Learner


def through_critic(evaluator: Evaluator, credit: Credit) -> Aim:
    """The aim f(s; pi), whose gradient d f / d pi . d pi / d theta takes no score function.

    It is exact for whatever policy there is now, so several passes over a batch need no ratio; that
    the batch's states are an older policy's is all that ages.
    """

    def objective(logits: jax.Array, batch: Batch) -> jax.Array:
        # The hypernetwork's weights at all states would be the largest array of the update, so the
        # backward pass computes them again, piece by piece.
        evaluate = jax.checkpoint(lambda part: credit.mixer(part[0])(part[1]))
        f = in_chunks(evaluate, (batch.data, jax.nn.softmax(logits)), evaluator.chunks(batch.mask))
        # One value for all, in equal parts: the learner sums over agents.
        num_agents = logits.shape[-2]
        return jnp.broadcast_to(f[..., None] / num_agents, logits.shape[:-1])

    return Aim(objective, credit.reads, {})


def make(config: Config, env: Environment) -> Learner:
    """The LICA learner of a run."""
    critic = hypernetwork(config, env)
    return actor_critic.make(config, env, critic, lambda credit, y: through_critic(critic, credit))
