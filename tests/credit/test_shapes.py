"""Arrays of the wrong shape are refused where they enter, before they broadcast into something."""

import jax.numpy as jnp
import pytest

from seca_jax.credit import advantage, attribution
from seca_jax.experience.returns import td_lambda

T, B, N, A, S = 4, 3, 2, 5, 6


def f(v):
    return jnp.sum(v, axis=(-2, -1))


@pytest.mark.parametrize("function", [advantage.sequential, advantage.exact])
def test_an_order_has_a_row_for_every_state(function):
    policy = jnp.ones((B, N, A))
    function(f, policy, policy, jnp.zeros((B, N), int))
    with pytest.raises(AssertionError):
        function(f, policy, policy, jnp.arange(N))
    with pytest.raises(AssertionError):
        function(f, policy, policy[:1], jnp.zeros((B, N), int))


def test_counterfactuals_need_actions_as_rows():
    with pytest.raises(AssertionError):
        advantage.coma(f, jnp.ones((B, N, A)), jnp.ones((B, N)))


@pytest.mark.parametrize("mask, stage", [((T, B), (T, B)), ((T - 1, B), (T - 1, B)), ((T - 1,), (T,))])
def test_a_segment_lies_between_two_steps(mask, stage):
    with pytest.raises(AssertionError):
        attribution.path_contribution(
            lambda s, v: f(v),
            jnp.ones((T, B, N, A)),
            jnp.ones((T, B, S)),
            points=1,
            mask=jnp.ones(mask, bool),
            stage=jnp.ones(stage, int),
        )


@pytest.mark.parametrize("value", [(T, 1), (T - 1, B), (T,), (T, N, B)])
def test_values_follow_the_rewards(value):
    reward, never = jnp.ones((T, B)), jnp.zeros((T, B), bool)
    with pytest.raises(AssertionError):
        td_lambda(reward, never, never, jnp.ones(value), gamma=0.9, lam=0.9)
