"""LICA's gradient through the critic, against enumeration over joint actions, and its entropy's."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax import envs
from seca_jax.algos import actor_critic, lica
from seca_jax.algos.critic import Critic, team_critic
from seca_jax.algos.policy import Samples, unrolled
from seca_jax.arrays import CHUNK
from seca_jax.config.schema import ActorConfig, Config, CriticConfig

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


def test_entropy_counts_as_its_mean_over_agents():
    """With a critic that says 0 everywhere, the gradient is the entropy's: xi mean_a H_a / stop(H_a)."""
    xi = 0.06
    config = Config(
        map="matrix",
        algo="lica",
        rollout="episode",
        num_envs=8,
        actor=ActorConfig(hidden=8, entropy=xi, entropy_final=-1.0, epochs=1, minibatches=1),
        critic=CriticConfig(lr=1e-12, updates=1, minibatches=1),
    )
    env = envs.make(config)
    parts = actor_critic.assemble(config, env, team_critic(config, env))
    state = actor_critic.init(parts, jax.random.key(0))
    mute = jax.tree.map(jnp.zeros_like, state.params.critic)
    actor = jax.tree.map(lambda p: 3.0 * p, state.params.actor)  # away from the uniform policy
    state = state.replace(params=state.params.replace(actor=actor, critic=mute), target=mute)
    keys, _ = actor_critic.prepare(parts, state)
    _, rollout = actor_critic.collect(parts, state, keys.rollout)
    assert env.num_agents > 1 and bool(rollout.mask.all()) and bool(rollout.view.avail.all())

    def authors(params):
        p = jax.nn.softmax(unrolled(parts.agent, params, rollout))
        entropy = -jnp.sum(p * jnp.log(p), axis=-1)  # [T, B, N]
        return xi * jnp.mean(jnp.mean(entropy / jax.lax.stop_gradient(entropy), axis=-1))

    squares = jax.tree.map(lambda g: jnp.sum(g**2), jax.grad(authors)(actor))
    expected = np.sqrt(sum(jax.tree.leaves(squares)))
    _, log = jax.jit(lambda state: lica.update(parts, state))(state)
    assert expected > 1e-4
    np.testing.assert_allclose(log["actor_grad_norm"], expected, rtol=1e-3)
