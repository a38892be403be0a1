"""Path integrated gradients (Eq. 1, 14): completeness, analytic cases, masks and stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.credit.attribution import path_contribution

STEPS, ENVS, AGENTS, ACTIONS, STATE = 6, 2, 3, 4, 5
FINE = 400  # points a segment, where a test needs the integral rather than its sum


@pytest.fixture
def path():
    rng = np.random.default_rng(1)
    policy = rng.dirichlet(np.ones(ACTIONS), size=(STEPS, ENVS, AGENTS))
    return policy.astype(np.float32), rng.normal(size=(STEPS, ENVS, STATE)).astype(np.float32)


WEIGHT = np.random.default_rng(2).normal(size=(AGENTS, ACTIONS)).astype(np.float32)
STATE_WEIGHT = np.random.default_rng(3).normal(size=STATE).astype(np.float32)


def linear(state, v):
    return (v * WEIGHT).sum((-2, -1)) + state @ STATE_WEIGHT


def product(state, v):
    """Bilinear in state and policy: quadratic along a segment, its gradients known by hand."""
    return (state @ STATE_WEIGHT) * (v * WEIGHT).sum((-2, -1))


def smooth(state, v):
    return jnp.sin((v * WEIGHT).sum((-2, -1)) + state @ STATE_WEIGHT) + (v**2).sum((-2, -1))


def contribution(evaluate, policy, state, points=5, mask=None, stage=None):
    steps, envs = policy.shape[:2]
    mask = np.ones((steps - 1, envs), bool) if mask is None else mask
    stage = np.zeros((steps, envs), np.int32) if stage is None else stage
    arrays = {"mask": jnp.asarray(mask), "stage": jnp.asarray(stage)}
    result = path_contribution(evaluate, jnp.asarray(policy), jnp.asarray(state), points=points, **arrays)
    assert result.shape == policy.shape[:3]
    return np.asarray(result)


def test_linear_critic_analytically(path):
    """f = sum_a w^a . v^a + g(s): c^a = w^a . (pi_T - pi_0), whatever the path and the points."""
    policy, state = path
    expected = (WEIGHT * (policy[-1] - policy[0])).sum(-1)
    for points in (1, 5):
        got = contribution(linear, policy, state, points)
        np.testing.assert_allclose(got, np.broadcast_to(expected, got.shape), rtol=1e-4, atol=1e-5)


def test_completeness_with_a_state_that_stands_still(path):
    """With a constant state the policies alone carry f from start to end."""
    policy, state = path
    state = np.broadcast_to(state[:1], state.shape)
    got = contribution(smooth, policy, state, FINE)
    expected = smooth(state[-1], policy[-1]) - smooth(state[0], policy[0])
    np.testing.assert_allclose(got.sum(-1)[0], expected, rtol=5e-3, atol=5e-3)


def test_error_falls_with_the_number_of_points(path):
    policy, state = path
    state = np.broadcast_to(state[:1], state.shape)
    expected = np.asarray(smooth(state[-1], policy[-1]) - smooth(state[0], policy[0]))
    errors = [np.abs(contribution(smooth, policy, state, k).sum(-1)[0] - expected).max() for k in (1, 8, 64)]
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[1]


def test_completeness_with_the_state_gradient_added(path):
    """sum_a c^a + the state's own path integral = f(end) - f(start), the latter from NumPy quadrature."""
    policy, state = path
    got = contribution(smooth, policy, state, FINE).sum(-1)[0]
    alpha = ((np.arange(2000) + 0.5) / 2000)[:, None, None]
    inner = (
        (1 - alpha) * (policy[:-1] * WEIGHT).sum((-2, -1)) + alpha * (policy[1:] * WEIGHT).sum((-2, -1))
    ) + ((1 - alpha) * (state[:-1] @ STATE_WEIGHT) + alpha * (state[1:] @ STATE_WEIGHT))
    by_state = (np.cos(inner).mean(0) * ((state[1:] - state[:-1]) @ STATE_WEIGHT)).sum(0)
    expected = np.asarray(smooth(state[-1], policy[-1]) - smooth(state[0], policy[0]))
    np.testing.assert_allclose(got + by_state, expected, rtol=1e-2, atol=1e-2)
    assert np.abs(by_state).min() > 0.05  # the state's share is not nothing: the test can fail


def test_the_state_moves_along_the_segment(path):
    """f = g(s) h(v): the integral of g over a straight segment is the mean of its ends, by hand."""
    policy, state = path
    g = state @ STATE_WEIGHT
    mean_g = (g[:-1] + g[1:]) / 2
    step = ((policy[1:] - policy[:-1]) * WEIGHT).sum(-1)
    expected = (mean_g[..., None] * step).sum(0)
    got = contribution(product, policy, state, FINE)
    np.testing.assert_allclose(got[0], expected, rtol=1e-2, atol=5e-3)


def test_one_point_is_exact_for_a_quadratic(path):
    """The documented rule takes midpoints: exact where f is quadratic along the segment."""
    policy, state = path
    g = state @ STATE_WEIGHT
    step = ((policy[1:] - policy[:-1]) * WEIGHT).sum(-1)
    expected = (((g[:-1] + g[1:]) / 2)[..., None] * step).sum(0)
    got = contribution(product, policy, state, points=1)
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


def test_masked_segments_are_left_out(path):
    policy, state = path
    mask = np.ones((STEPS - 1, ENVS), bool)
    mask[2, 0] = mask[4, 1] = False
    step = (WEIGHT * (policy[1:] - policy[:-1])).sum(-1)
    expected = (step * mask[..., None]).sum(0)
    got = contribution(linear, policy, state, mask=mask)
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


def test_masked_segments_are_left_out_even_when_they_are_not_finite(path):
    policy, state = path
    mask = np.ones((STEPS - 1, ENVS), bool)
    mask[-1] = False
    state = state.copy()
    state[-1] = np.nan
    assert np.isfinite(contribution(product, policy, state, mask=mask)).all()


def test_every_step_gets_the_sum_of_its_own_stage(path):
    """Labels are names: any integers, and each environment has its own stages."""
    policy, state = path
    stage = np.array([[3, 0], [3, 0], [3, 1], [40, 1], [40, 1], [40, 7]], np.int32)
    step = (WEIGHT * (policy[1:] - policy[:-1])).sum(-1)
    got = contribution(linear, policy, state, stage=stage)
    for b in range(ENVS):
        for t in range(STEPS):
            # A segment belongs to the stage of its first step.
            segments = [i for i in range(STEPS - 1) if stage[i, b] == stage[t, b]]
            expected = step[segments, b].sum(0)
            np.testing.assert_allclose(got[t, b], expected, rtol=1e-4, atol=1e-5)


def test_one_stage_per_step_is_the_single_transition(path):
    policy, state = path
    stage = np.broadcast_to(np.arange(STEPS, dtype=np.int32)[:, None], (STEPS, ENVS))
    got = contribution(linear, policy, state, stage=stage)
    step = (WEIGHT * (policy[1:] - policy[:-1])).sum(-1)
    np.testing.assert_allclose(got[:-1], step, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[-1], np.zeros((ENVS, AGENTS)))


def test_an_agent_whose_policy_never_moves_contributes_nothing(path):
    policy, state = path
    policy = policy.copy()
    policy[:, :, 1] = policy[:1, :, 1]
    got = contribution(smooth, policy, state)
    np.testing.assert_array_equal(got[:, :, 1], 0.0)
    assert (np.abs(got[:, :, [0, 2]]) > 1e-4).all()


def test_compiles(path):
    policy, state = path
    mask, stage = np.ones((STEPS - 1, ENVS), bool), np.zeros((STEPS, ENVS), np.int32)
    compiled = jax.jit(lambda p, s, m, g: path_contribution(smooth, p, s, points=5, mask=m, stage=g))
    expected = contribution(smooth, policy, state)
    np.testing.assert_allclose(compiled(policy, state, mask, stage), expected, rtol=1e-4, atol=1e-5)
