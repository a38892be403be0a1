"""LICA's gradient through the critic, against enumeration over joint actions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.algos import lica
from seca_jax.algos.actor_critic import Batch, Credit
from seca_jax.algos.critic import Evaluator
from seca_jax.arrays import CHUNK

T, B, N, A = 4, 2, 3, 3


def test_gradient_is_that_of_the_expected_value_where_the_critic_is_linear(monkeypatch):
    """f(s; v) = sum_n w_n(s) . v_n: then f(s; pi) = E[Q(s, u)], and its gradient in the logits is
    sum_u P(u) Q(s, u) (1[u_n = i] - pi_n(i))."""
    rng = np.random.default_rng(0)
    state, logits = rng.normal(size=(T, B, N * A)), rng.normal(size=(T, B, N, A))
    evaluator = Evaluator(
        init=None,
        reads=None,
        at=lambda params, s: lambda v: params * jnp.sum(s.reshape(v.shape) * v, axis=(-2, -1)),
        floats=1,
    )
    monkeypatch.setitem(CHUNK, jax.default_backend(), B)  # a piece for every step
    mask = jnp.ones((T, B), bool)
    assert evaluator.chunks(mask) == T
    credit = Credit(
        mixer=lambda s: evaluator.at(2.0, s),
        chunks=1,
        reads=jnp.asarray(state),
        policy=None,
        action=None,
        rollout=None,
    )
    aim = lica.through_critic(evaluator, credit)
    batch = Batch(*[None] * 4, mask=mask, action=None, data=aim.data, hidden=None)

    policy = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    value, gradient = np.zeros((T, B)), np.zeros((T, B, N, A))
    for t, b in itertools.product(range(T), range(B)):
        weights = state[t, b].reshape(N, A)
        for joint in itertools.product(range(A), repeat=N):
            q = 2.0 * sum(weights[n, joint[n]] for n in range(N))
            p = np.prod([policy[t, b, n, joint[n]] for n in range(N)])
            value[t, b] += p * q
            for n, i in itertools.product(range(N), range(A)):
                gradient[t, b, n, i] += p * q * ((joint[n] == i) - policy[t, b, n, i])

    parts = aim.objective(jnp.asarray(logits), batch)
    assert parts.shape == (T, B, N)
    np.testing.assert_allclose(parts.sum(-1), value, rtol=1e-4, atol=1e-5)
    got = jax.grad(lambda z: aim.objective(z, batch).sum())(jnp.asarray(logits))
    np.testing.assert_allclose(got, gradient, rtol=1e-4, atol=1e-5)
