"""PQN-VDN's targets, passes and agents against loops written from the paper."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from transitions import rollout_of

from seca_jax import envs
from seca_jax.algos import pqn_vdn
from seca_jax.config import compose
from seca_jax.experience import rollout as experience
from seca_jax.networks.agent import MASKED
from seca_jax.types import Carry, View

T, B, N, A = 6, 3, 2, 4


def parts_of(**words):
    small = {"map": "delayed", "algo": "pqn_vdn", "num_envs": 8, "window": 7, "actor.hidden": 8}
    config = compose.compose(small | words)
    env = envs.make(config)
    return pqn_vdn.Parts(config, env, pqn_vdn.agent_of(config, env), pqn_vdn.optimiser(config))


def test_targets_are_q_lambda_of_the_sum_of_the_agents_best(monkeypatch):
    """A loop over the n-step returns: sum_n lambda^(n-1) weights, cut where an episode or the window ends."""
    rng = np.random.default_rng(0)
    q, tail_q = rng.normal(size=(T, B, N, A)), rng.normal(size=(2, B, N, A))
    for values in (q, tail_q):  # the largest may not be taken
        values[..., 0] = np.where(rng.random(values.shape[:-1]) < 0.5, MASKED, 9.0)
    reward = rng.normal(size=(T, B))
    terminated, truncated = np.zeros((2, T, B), bool)
    terminated[2, 0] = truncated[3, 1] = terminated[T - 1, 2] = True
    state = np.zeros((T, B, 1))
    batch = rollout_of(state, np.zeros((T, B, N), int), reward, terminated, truncated, state[:2])
    batch = batch.replace(extra=jnp.asarray(q), tail=View(None, None, None))
    monkeypatch.setattr(pqn_vdn, "look", lambda *_: (jnp.asarray(tail_q), None))
    parts = parts_of(gamma=0.97, lam=0.7)
    got = pqn_vdn.q_lambda(parts, None, batch)

    def best(values):
        return sum(max(values[n]) for n in range(N))

    def after(t, b):
        if truncated[t, b]:
            return best(tail_q[1, b])
        return best(q[t + 1, b] if t + 1 < T else tail_q[0, b])

    expected = np.zeros((T, B))
    for t, b in itertools.product(range(T), range(B)):
        returns, total = [], 0.0
        for later in range(t, T):
            total += 0.97 ** (later - t) * reward[later, b]
            ahead = 0.0 if terminated[later, b] else 0.97 ** (later - t + 1) * after(later, b)
            returns.append(total + ahead)
            if terminated[later, b] or truncated[later, b]:
                break
        weights = [(1 - 0.7) * 0.7**n for n in range(len(returns))]
        weights[-1] = 0.7 ** (len(returns) - 1)
        expected[t, b] = np.dot(weights, returns)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def collected():
    parts = parts_of()
    state = jax.jit(lambda key: pqn_vdn.init(parts, key))(jax.random.key(0))
    collect = jax.jit(lambda state, key: pqn_vdn.collect(parts, state, 0.3, key)[1])
    return parts, state, collect(state, jax.random.key(1))


def test_values_that_acted_are_those_that_learn(collected):
    """Unrolled over the window they are what was recorded step by step, across episodes' ends."""
    parts, state, rollout = collected
    assert rollout.ended[:-1].any()
    batch = pqn_vdn.samples(rollout, rollout.reward)
    unrolled = pqn_vdn.unroll(
        parts.agent,
        state.params.agent,
        batch.hidden[0],
        batch.obs,
        batch.last_action,
        batch.avail,
        batch.start,
    )
    np.testing.assert_allclose(unrolled, rollout.extra, rtol=1e-4, atol=1e-6)


def test_explores_as_often_as_it_should(collected):
    _, _, rollout = collected
    greedy = np.asarray(rollout.action == jnp.argmax(rollout.extra, -1)).mean()
    assert greedy == pytest.approx(1 - 0.3 * 0.5, abs=0.1)  # two actions: half of the random ones are greedy


def test_a_step_descends_the_mean_squared_error_of_the_sum(collected):
    """One pass with one minibatch is one step of rectified Adam on a gradient by finite differences."""
    _, state, rollout = collected
    words = {"actor.epochs": 1, "actor.minibatches": 1, "q.max_grad_norm": 1e9, "lr_decay": False}
    parts = parts_of(**words, **{"q.lr": 0.01})
    y = jax.random.normal(jax.random.key(2), rollout.reward.shape)
    batch = pqn_vdn.samples(rollout, y)
    after, log = jax.jit(lambda s, b: pqn_vdn.fit(parts, s, b, jax.random.key(0)))(state, batch)

    def error(params):
        """Agents stepped one by one, as they act."""

        def step(carry, now):
            start, obs, avail, action, y = now
            q, hidden = pqn_vdn.look(parts, params, experience.fresh_where(start, carry), obs, avail)
            chosen = sum(q[jnp.arange(8), n, action[:, n]] for n in range(parts.env.num_agents))
            return Carry(hidden, action), jnp.sum((chosen - y) ** 2)

        view = rollout.view
        steps = (rollout.start, view.obs, view.avail, rollout.action, y)
        return jnp.sum(jax.lax.scan(step, rollout.carry, steps)[1]) / rollout.mask.size

    value, gradient = jax.jit(jax.value_and_grad(error))(state.params)
    np.testing.assert_allclose(log["critic_loss"], value, rtol=1e-5)
    change, _ = optax.radam(0.01).update(gradient, optax.radam(0.01).init(state.params))
    expected = optax.apply_updates(state.params, change)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), after.params, expected)


def test_agents_are_normalised_layer_by_layer(collected):
    """What the dense layer makes of an input has mean 0 and standard deviation 1, however large it is."""
    parts, state, _ = collected
    params = state.params.agent
    x = jax.random.normal(jax.random.key(1), (5, len(params["params"]["embed"]["kernel"])))
    hidden = jnp.zeros((5, parts.config.actor.hidden))
    _, seen = parts.agent.apply(params, hidden, 100.0 * x, True, capture_intermediates=True)
    out = np.asarray(seen["intermediates"]["norm"]["__call__"][0])
    np.testing.assert_allclose(out.mean(-1), 0.0, atol=1e-4)
    np.testing.assert_allclose(out.std(-1), 1.0, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one_step", "delayed", "leader"])
def test_solves_the_probe(name):
    from seca_jax.envs import probes

    words = {"map": name, "num_envs": 16, "window": 10, "actor.hidden": 16, "q.lr": 3e-3, "lam": 0.8}
    parts = parts_of(**words, **{"q.epsilon_steps": 32_000, "total_steps": 64_000, "actor.epochs": 2})

    @jax.jit
    def learn_and_test(key):
        state = pqn_vdn.init(parts, key)
        state, _ = jax.lax.scan(lambda s, _: pqn_vdn.update(parts, s), state, length=400)
        act = lambda *args: pqn_vdn.act(parts, *args)  # noqa: E731
        fresh = lambda num_envs: pqn_vdn.fresh_carry(parts, num_envs)  # noqa: E731
        return experience.evaluate(parts.env, act, fresh, state.params, state.key, 32)

    result = learn_and_test(jax.random.key(0))
    np.testing.assert_allclose(result["return"], probes.GAMES[name].best, rtol=1e-6)
