"""LICA's gradient through the critic, against enumeration over joint actions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.algos import lica
from seca_jax.algos.critic import Critic
from seca_jax.algos.policy import Samples
from seca_jax.arrays import CHUNK

T, B, N, A = 4, 2, 3, 3


def test_gradient_is_that_of_the_expected_value_where_the_critic_is_linear(monkeypatch):
    """f(s; v) = sum_n w_n(s) . v_n: then f(s; pi) = E[Q(s, u)], and its gradient in the logits is
    sum_u P(u) Q(s, u) (1[u_n = i] - pi_n(i))."""
    rng = np.random.default_rng(0)
    state, logits = rng.normal(size=(T, B, N * A)), rng.normal(size=(T, B, N, A))
    critic = Critic(
        init=None,
        inputs=None,
        apply=lambda params, s: lambda v: params * jnp.sum(s.reshape(v.shape) * v, axis=(-2, -1)),
        floats=1,
    )
    monkeypatch.setitem(CHUNK, jax.default_backend(), B)  # a chunk for every step
    mask = jnp.ones((T, B), bool)
    assert critic.chunks(mask) == T
    samples = Samples(*[None] * 4, mask=mask, action=None, data=jnp.asarray(state), hidden=None)

    def objective(logits):
        return lica.value_of_policies(critic, 2.0, logits, samples)

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

    f = objective(jnp.asarray(logits))
    assert f.shape == (T, B)
    np.testing.assert_allclose(f, value, rtol=1e-4, atol=1e-5)
    got = jax.grad(lambda z: objective(z).sum())(jnp.asarray(logits))
    np.testing.assert_allclose(got, gradient, rtol=1e-4, atol=1e-5)
