"""TD(lambda) against a NumPy loop from Eq. 10, hand-computed numbers and its two limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.experience.returns import td_lambda


def loop(reward, terminated, truncated, next_value, gamma, lam):
    """Eq. 10, one environment and one step at a time."""
    steps, envs = reward.shape
    target = np.zeros((steps, envs))
    for b in range(envs):
        for t in reversed(range(steps)):
            if terminated[t, b]:
                target[t, b] = reward[t, b]
            elif truncated[t, b] or t == steps - 1:
                target[t, b] = reward[t, b] + gamma * next_value[t, b]
            else:
                mixed = lam * target[t + 1, b] + (1 - lam) * next_value[t, b]
                target[t, b] = reward[t, b] + gamma * mixed
    return target


def random_window(seed, steps=17, envs=6):
    rng = np.random.default_rng(seed)
    reward = rng.normal(size=(steps, envs))
    next_value = rng.normal(size=(steps, envs))
    end = rng.random((steps, envs))
    return reward, end < 0.15, (end >= 0.15) & (end < 0.3), next_value


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_a_loop_over_random_windows(seed, lam):
    reward, terminated, truncated, next_value = random_window(seed)
    got = td_lambda(
        jnp.asarray(reward),
        jnp.asarray(terminated),
        jnp.asarray(truncated),
        jnp.asarray(next_value),
        gamma=0.9,
        lam=lam,
    )
    assert got.shape == reward.shape
    np.testing.assert_allclose(
        got, loop(reward, terminated, truncated, next_value, 0.9, lam), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        # gamma = lam = 1/2, reward 1 2 4, next_value 8 16 32; worked by hand from the last step back.
        ((0, 0, 0), (0, 0, 0), (1 + 0.5 * (0.5 * 11 + 4), 2 + 0.5 * (0.5 * 20 + 8), 20)),
        ((0, 0, 1), (0, 0, 0), (1 + 0.5 * (0.5 * 7 + 4), 2 + 0.5 * (0.5 * 4 + 8), 4)),
        ((0, 1, 0), (0, 0, 0), (1 + 0.5 * (0.5 * 2 + 4), 2, 20)),
        ((0, 0, 0), (0, 1, 0), (1 + 0.5 * (0.5 * 10 + 4), 10, 20)),
        ((0, 0, 0), (1, 0, 1), (5, 2 + 0.5 * (0.5 * 20 + 8), 20)),
        ((1, 0, 0), (0, 0, 0), (1, 2 + 0.5 * (0.5 * 20 + 8), 20)),
    ],
)
def test_hand_computed(terminated, truncated, expected):
    def column(values, dtype=float):
        return jnp.asarray(np.array(values, dtype)[:, None])

    got = td_lambda(
        column((1, 2, 4)),
        column(terminated, bool),
        column(truncated, bool),
        column((8, 16, 32)),
        gamma=0.5,
        lam=0.5,
    )
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-6)


def test_lambda_one_is_the_discounted_return_and_lambda_zero_the_one_step_target():
    reward = np.array([[1.0], [2.0], [3.0], [4.0]])
    next_value = np.array([[10.0], [20.0], [30.0], [40.0]])
    never = jnp.zeros((4, 1), bool)
    monte_carlo = td_lambda(jnp.asarray(reward), never, never, jnp.asarray(next_value), gamma=0.9, lam=1.0)
    discounts = 0.9 ** np.arange(5)
    np.testing.assert_allclose(monte_carlo[0, 0], discounts @ [1, 2, 3, 4, 40], rtol=1e-6)
    one_step = td_lambda(jnp.asarray(reward), never, never, jnp.asarray(next_value), gamma=0.9, lam=0.0)
    np.testing.assert_allclose(one_step, reward + 0.9 * next_value, rtol=1e-6)


def test_nothing_leaks_across_an_episode_boundary():
    """What follows an end, and the value behind a termination, must not move the targets before it."""
    reward, terminated, truncated, next_value = random_window(3)
    terminated[:], truncated[:] = False, False
    terminated[5, :3], truncated[5, 3:] = True, True
    other_reward, other_value = reward.copy(), next_value.copy()
    other_reward[6:] += 100.0
    other_value[6:] -= 50.0
    other_value[5, :3] = 1e6
    first, second = (
        td_lambda(
            jnp.asarray(r),
            jnp.asarray(terminated),
            jnp.asarray(truncated),
            jnp.asarray(v),
            gamma=0.99,
            lam=0.8,
        )
        for r, v in ((reward, next_value), (other_reward, other_value))
    )
    np.testing.assert_array_equal(first[:6], second[:6])
    assert np.all(np.asarray(first[6:] != second[6:]))


def test_gamma_and_lambda_may_be_traced():
    reward, terminated, truncated, next_value = random_window(4, steps=5, envs=2)
    compiled = jax.jit(
        lambda gamma, lam: td_lambda(reward, terminated, truncated, next_value, gamma=gamma, lam=lam)
    )
    for gamma, lam in ((0.9, 0.8), (0.5, 0.1)):
        expected = loop(reward, terminated, truncated, next_value, gamma, lam)
        np.testing.assert_allclose(compiled(gamma, lam), expected, rtol=2e-5, atol=2e-5)
