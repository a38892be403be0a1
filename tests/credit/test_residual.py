"""What the TD residual does to advantages: what they add up to, and when the policy gradient is right.

One state, all joint actions enumerated. An agent's part of the policy gradient is decided by what its
advantage is on average after each of its actions, apart from a constant; that is compared with the same
of Q itself, however wrong the critic is.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.credit import advantage

AGENTS, ACTIONS = 3, 3
JOINT = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)))  # [J, N]
ONE_HOT = jnp.eye(ACTIONS)[JOINT]  # [J, N, A]
CRITICS = 100


def multilinear(rng):
    """A critic that is linear in each agent's row, and wrong."""
    table = jnp.asarray(rng.normal(size=(ACTIONS,) * AGENTS))
    return lambda v: jnp.einsum("ijk,...i,...j,...k->...", table, *jnp.moveaxis(v, -2, 0))


def relu(rng):
    """A critic of the hypernetwork's form at one state: a hidden layer of rectified units."""
    w1 = rng.normal(size=(AGENTS * ACTIONS, 16))
    b1, w2 = rng.normal(size=16), rng.normal(size=16) / 4

    def f(v):
        return jax.nn.relu(v.reshape(*v.shape[:-2], AGENTS * ACTIONS) @ w1 + b1) @ w2

    return f


def cases(make):
    """Critics with a policy, its joint probabilities [J] and the true Q [J] of another function."""
    for seed in range(CRITICS):
        rng = np.random.default_rng(seed)
        policy = rng.dirichlet(np.ones(ACTIONS), size=AGENTS)  # [N, A]
        probability = np.prod(policy[np.arange(AGENTS), JOINT], axis=-1)
        yield make(rng), policy, probability, rng.normal(size=len(JOINT))


def advantages(kind, f, policy, q, residual):
    """[J, N] of every joint action; Q is the target y, without noise."""
    everywhere = jnp.broadcast_to(policy, ONE_HOT.shape)
    if kind == "coma":
        own = advantage.coma(f, everywhere, ONE_HOT)
    else:
        own = advantage.sequential(
            f, everywhere, ONE_HOT, jnp.broadcast_to(jnp.array([1, 2, 0]), JOINT.shape)
        )
    return np.asarray(own + residual * (q - f(ONE_HOT))[:, None])


def pulls(values, policy, probability):
    """What ``values`` [J, N] are on average after each action, less their mean: [N, A]."""
    mean = np.array(
        [
            [
                np.average(values[JOINT[:, i] == a, i], weights=probability[JOINT[:, i] == a])
                for a in range(ACTIONS)
            ]
            for i in range(AGENTS)
        ]
    )
    return mean - np.sum(policy * mean, axis=-1, keepdims=True)


def errors(kind, make, residual):
    """[CRITICS] the largest error of any agent's pull towards any action."""
    found = []
    for f, policy, probability, q in cases(make):
        got = pulls(advantages(kind, f, policy, q, residual), policy, probability)
        truth = pulls(np.repeat(q[:, None], AGENTS, axis=1), policy, probability)
        found.append(np.abs(got - truth).max())
    return np.array(found)


@pytest.mark.parametrize("residual", [0.0, 0.5, 1.0])
def test_what_the_advantages_add_up_to(residual):
    for f, policy, _, q in cases(relu):
        total = advantages("sequential", f, policy, q, residual).sum(-1)
        joint = np.asarray(f(ONE_HOT) - f(jnp.asarray(policy)))
        residuals = q - np.asarray(f(ONE_HOT))
        np.testing.assert_allclose(total, joint + AGENTS * residual * residuals, atol=1e-5)


def test_the_residual_removes_a_multilinear_critics_error():
    assert errors("sequential", multilinear, 0.0).min() > 0.3
    assert errors("sequential", multilinear, 1.0).max() < 1e-5


def test_of_a_rectified_critics_error_the_residual_leaves_some():
    without, with_residual = errors("sequential", relu, 0.0), errors("sequential", relu, 1.0)
    assert with_residual.mean() < without.mean() / 3
    assert with_residual.max() > 0.05


def test_comas_advantage_with_the_residual_is_right_whatever_the_critic():
    # y - f(s; u) + f(s; u) - f(s; u with row a replaced): the baseline does not know the agent's action.
    assert errors("coma", relu, 0.0).min() > 0.3
    assert errors("coma", relu, 1.0).max() < 1e-5
