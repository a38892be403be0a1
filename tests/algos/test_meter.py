"""The meter of credit, where the truth is known: all joint actions of uniform policies, each as likely."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.algos import coma_newarchi, seca
from seca_jax.algos.actor_critic import METERED, UnderCritic, credit_meter
from seca_jax.algos.critic import Critic

AGENTS, ACTIONS = 3, 2
JOINT = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)))  # a step each
Q = np.random.default_rng(0).normal(size=(ACTIONS,) * AGENTS)
ENVS = 2 * METERED


def batch_of(scale, mask=None):
    """(every joint action in every environment, before a critic that is ``scale`` times the truth; y)."""
    action = jnp.broadcast_to(jnp.eye(ACTIONS)[JOINT][:, None], (len(JOINT), ENVS, AGENTS, ACTIONS))
    mask = jnp.ones(action.shape[:2], bool) if mask is None else mask

    def apply(params, inputs):
        del inputs
        return lambda v: params * jnp.einsum("ijk,...i,...j,...k->...", Q, *jnp.moveaxis(v, -2, 0))

    rollout = SimpleNamespace(mask=mask, view=SimpleNamespace(avail=jnp.ones(action.shape, bool)))
    inputs = jnp.zeros((*mask.shape, 1))
    batch = UnderCritic(
        Critic(None, None, apply, 1), scale, inputs, jnp.full_like(action, 0.5), action, rollout
    )
    return batch, jnp.broadcast_to(Q[tuple(JOINT.T)][:, None], mask.shape)


def terms(order):
    """Eq. 7 by enumeration, [joint actions, N]: what is expected changes as agents' actions get known."""
    found = np.zeros(JOINT.shape)
    for row, u in enumerate(JOINT):
        for i, agent in enumerate(order):
            with_own, without = (
                np.mean([Q[tuple(v)] for v in JOINT if (v[order[:k]] == u[order[:k]]).all()])
                for k in (i + 1, i)
            )
            found[row, agent] = with_own - without
    return found


@pytest.mark.parametrize("scale", [1.0, 4.0, -1.0])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_slope_is_what_makes_the_credit_right(order, scale):
    batch, y = batch_of(scale)
    turns = jnp.broadcast_to(jnp.array(order), (*y.shape, AGENTS))
    log = credit_meter(batch, y, seca.sequential_and_value, turns)
    np.testing.assert_allclose(log["credit_slope"], 1.0 / scale, rtol=1e-4)
    size = np.sqrt(np.mean(np.square(terms(order))))
    np.testing.assert_allclose(log["credit_rms"], abs(scale) * size, rtol=1e-4)
    np.testing.assert_allclose(log["outcome_rms"], np.sqrt(np.mean((Q - scale * Q.mean()) ** 2)), rtol=1e-4)


def test_counterfactual_credit_is_measured_alike():
    batch, y = batch_of(2.0)
    log = credit_meter(batch, y, coma_newarchi.counterfactual_and_value)
    np.testing.assert_allclose(log["credit_slope"], 0.5, rtol=1e-4)


def test_noise_has_no_slope_and_padding_no_say():
    batch, y = batch_of(1.0)
    unrelated = jnp.full_like(y, 3.0)
    log = credit_meter(batch, unrelated, coma_newarchi.counterfactual_and_value)
    np.testing.assert_allclose(log["credit_slope"], 0.0, atol=1e-5)
    mask = jnp.ones(y.shape, bool).at[4:, :1].set(False)
    padded, _ = batch_of(1.0, mask)
    first = credit_meter(padded, y, coma_newarchi.counterfactual_and_value)
    second = credit_meter(padded, y.at[4:, :1].set(jnp.nan), coma_newarchi.counterfactual_and_value)
    assert jax.tree.map(float, first) == jax.tree.map(float, second)


def test_credit_of_nobody_is_finite():
    batch, y = batch_of(0.0)
    log = credit_meter(batch, y, coma_newarchi.counterfactual_and_value)
    assert log["credit_slope"] == log["credit_rms"] == 0.0
