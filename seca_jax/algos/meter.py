"""The meter of credit that every run of a learner with an advantage has."""

from typing import Any, Callable

import jax
import jax.numpy as jnp

from seca_jax.algos.actor_critic import Log, UnderCritic
from seca_jax.algos.policy import choices
from seca_jax.arrays import alongside, in_chunks, masked_mean

METERED = 2  # credit is measured in one of so many environments


def credit_meter(batch: UnderCritic, targets: jax.Array, judge: Callable, key: jax.Array, *trees: Any) -> Log:
    """How true a critic's credit is on a batch that it has not been fitted to yet.

    With A_i an agent's credit, the difference of f that is its advantage before anything is added to it,
    A'_i what it would have been had the policies drawn other actions, and y - f(s; pi) the surprise of what
    came of the step:

    * ``credit_slope``: E[(y - f(s; pi)) (A_i - A'_i)] / E[(A_i - A'_i)^2 / 2], 1 where credit is right on
      average (an agent's credit is then what its action changes of what is to be expected), 0 where it is
      noise;
    * ``credit_rms``, ``outcome_rms``: root mean squares of A_i, as far as it depends on actions, and of
      y - f(s; pi).

    What all actions at a state have in common is no credit and changes no gradient, but a critic that is not
    linear in v can have it, and where V errs it is a good guess of y - f(s; pi): without A' it would pass for
    credit that is right.

    Means are over real steps and agents with a choice, of one environment in METERED: what it costs is
    then lost in what the update costs.

    Args:
        batch: before the critic that has not been fitted to it.
        targets: of the critic, [T, B] or [T, B, N].
        judge: ``(f, policy, action, *trees) -> (advantage [..., N], ...)``.
        key: for the other actions.
        trees: what it needs besides, leaves [T, B, ...].
    """
    few = max(1, targets.shape[1] // METERED)
    mask, avail = batch.rollout.mask[:, :few], batch.rollout.view.avail[:, :few]

    def at(part: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
        other, inputs, policies, action, *rest = part
        f = batch.critic.apply(batch.params, inputs)
        one, another = (judge(f, policies, u, *rest)[0] for u in (action, other))
        return one, another, f(policies)

    known = (batch.inputs, batch.policy, batch.action, *trees)
    inputs, policies, *rest = jax.tree.map(lambda x: x[:, :few], known)
    other = jax.nn.one_hot(jax.random.categorical(key, jnp.log(policies)), policies.shape[-1])
    credit, another, value = in_chunks(at, (other, inputs, policies, *rest), batch.critic.chunks(mask))
    changed = credit - another
    outcome = jnp.broadcast_to(alongside(targets[:, :few] - value, credit), credit.shape)
    counted = choices(mask, avail)
    square = masked_mean(jnp.square(changed), counted) / 2
    return {
        "credit_slope": masked_mean(outcome * changed, counted) / jnp.maximum(square, 1e-12),
        "credit_rms": jnp.sqrt(square),
        "outcome_rms": jnp.sqrt(masked_mean(jnp.square(outcome), counted)),
    }
