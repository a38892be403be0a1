"""Shapley Q-values against exact ones by enumeration, and SQDDPG's critic against loops."""

import itertools
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transitions import rollout_of

from seca_jax.algos import sqddpg
from seca_jax.algos.critic import Targets, targets
from seca_jax.config import compose
from seca_jax.credit.shapley import predecessors, random_orders, shapley_values
from seca_jax.envs.base import Environment
from seca_jax.types import Carry, View

B, N, A, K = 4, 3, 4, 2
BITS = 1 << np.arange(N)
ENV = Environment(
    "none", N, A, 5, 6, 10, 1.0, **dict.fromkeys(("reset", "step", "view", "restart", "select"))
)
CONFIG = compose.compose({"algo": "sqddpg", "shapley.samples": K})
ALL_ORDERS = jnp.asarray(list(itertools.permutations(range(N))))


@pytest.fixture(scope="module")
def games():
    """(w [B, 2^N], marginal): what every coalition is worth, and an agent's contribution to one."""
    worth = np.random.default_rng(0).normal(size=(B, 2**N))

    def marginal(coalitions):  # [B, K, N, N] -> [B, K, N]
        before = jnp.sum(coalitions * BITS, axis=-1)
        value = lambda code: jax.vmap(lambda w, c: w[c])(jnp.asarray(worth), code)  # noqa: E731
        return value(before + BITS) - value(before)

    return worth, marginal


def exact(worth):
    """Shapley's formula: sum over coalitions C without n of |C|! (N - |C| - 1)! / N! (w(C + n) - w(C))."""
    found = np.zeros((len(worth), N))
    for n in range(N):
        others = [m for m in range(N) if m != n]
        for size in range(N):
            for members in itertools.combinations(others, size):
                code = sum(BITS[m] for m in members)
                weight = factorial(size) * factorial(N - size - 1) / factorial(N)
                found[:, n] += weight * (worth[:, code + BITS[n]] - worth[:, code])
    return found


def test_over_all_orders_they_are_shapley_values(games):
    worth, marginal = games
    got = shapley_values(marginal, jnp.broadcast_to(ALL_ORDERS, (B, 6, N)))
    np.testing.assert_allclose(got, exact(worth), rtol=1e-5, atol=1e-6)


def test_drawn_orders_estimate_them_and_always_add_up(games):
    worth, marginal = games
    orders = random_orders(jax.random.key(0), (B,), 20_000, N)
    np.testing.assert_allclose(shapley_values(marginal, orders), exact(worth), atol=0.05)
    for few in (1, 2, 5):  # efficiency: w(all) - w(nobody), whatever was drawn
        total = shapley_values(marginal, orders[:, :few]).sum(-1)
        np.testing.assert_allclose(total, worth[:, -1] - worth[:, 0], rtol=1e-4, atol=1e-5)


def test_every_order_is_as_likely_as_any_other():
    orders = np.asarray(random_orders(jax.random.key(1), (100,), 60, N)).reshape(-1, N)
    counts = [np.all(orders == order, axis=-1).sum() for order in np.asarray(ALL_ORDERS)]
    assert sum(counts) == 6000 and min(counts) > 880 and max(counts) < 1120  # 1000 each, s.e. 29


def test_predecessors_are_those_before():
    found = np.asarray(predecessors(jnp.array([2, 0, 1])))
    expected = {2: [], 0: [2], 1: [0, 2]}
    for n, members in expected.items():
        assert list(np.flatnonzero(found[n])) == members


@pytest.fixture(scope="module")
def critic():
    """(critic, params, inputs, f, policy, action), with random weights at random inputs."""
    own = sqddpg.critic_of(CONFIG, ENV, jax.random.key(7))
    keys = jax.random.split(jax.random.key(0), 6)
    params = own.init(keys[0])
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(keys[1], x.shape), params)
    view = View(
        obs=jax.random.normal(keys[2], (B, N, ENV.obs_size)),
        avail=None,
        state=jax.random.normal(keys[3], (B, ENV.state_size)),
    )
    inputs = own.inputs(view, jax.random.randint(keys[4], (B, N), -1, A))
    policy = jax.nn.softmax(2.0 * jax.random.normal(keys[5], (B, N, A)))
    action = np.random.default_rng(0).integers(0, A, (B, N))
    return own, params, inputs, own.apply(params, inputs), policy, action


def test_critic_is_the_mean_of_what_an_agent_adds_to_those_before_it(critic):
    """Dense layers by hand, one state, order and agent at a time; nobody sees those after it."""
    _, params, (state, obs, last, orders), f, _, action = critic
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    got = np.asarray(f(jax.nn.one_hot(action, A)))
    assert orders.shape == (B, K, N) and got.shape == (B, N)
    for b, n in itertools.product(range(B), range(N)):
        values = []
        for order in np.asarray(orders[b]):
            before = np.eye(A)[last[b, n]] if last[b, n] >= 0 else np.zeros(A)
            own = np.concatenate([obs[b, n], before, np.eye(N)[n]])
            x = own @ p["own"]["kernel"] + p["own"]["bias"] + np.asarray(state[b]) @ p["shared"]["kernel"]
            for m in order[: list(order).index(n)]:
                x = x + p["members"][m, action[b, m]]
            x = np.maximum(x, 0) @ p["second"]["kernel"] + p["second"]["bias"]
            values.append((np.maximum(x, 0) @ p["head"]["kernel"] + p["head"]["bias"])[action[b, n]])
        np.testing.assert_allclose(got[b, n], np.mean(values), rtol=1e-3, atol=1e-4)


def test_advantage_is_against_the_expectation_over_the_agents_own_policy(critic):
    *_, f, policy, action = critic
    advantage, value = sqddpg.advantage_and_value(f, policy, jax.nn.one_hot(action, A))
    own = np.asarray(f(jax.nn.one_hot(action, A)))
    np.testing.assert_allclose(value, np.asarray(f(policy)).sum(-1), rtol=1e-5)
    for n in range(N):
        baseline = 0.0
        for u in range(A):
            joint = np.where(np.arange(N) == n, u, action)
            baseline += np.asarray(policy)[:, n, u] * np.asarray(f(jax.nn.one_hot(joint, A)))[:, n]
        np.testing.assert_allclose(advantage[:, n], own[:, n] - baseline, rtol=1e-3, atol=1e-4)


def test_the_sum_is_what_is_fitted_and_bootstraps(critic):
    own, params, inputs, f, policy, action = critic
    one_hot = jax.nn.one_hot(action, A)
    goal = Targets(values=jnp.arange(B, dtype=jnp.float32), outcome=None)
    expected = np.square(np.asarray(f(one_hot)).sum(-1) - np.arange(B))
    np.testing.assert_allclose(own.errors(f, policy, one_hot, goal), expected, rtol=1e-4)

    # One step, then the end of the window: y = r + gamma * the sum of the policies' Shapley Q-values there
    state, obs, last, _ = inputs
    none = np.zeros((1, B), bool)
    batch = rollout_of(state[None], action[None], np.ones((1, B)), none, none, jnp.stack([state, state]))
    view = lambda x: View(jnp.stack([obs] * len(x)), None, x)  # noqa: E731
    batch = batch.replace(
        view=view(batch.view.state),
        tail=view(batch.tail.state),
        tail_carry=Carry(None, jnp.stack([last, last])),
    )
    tail = jnp.stack([policy, policy])
    found = targets(own, params, batch, one_hot[None], tail, gamma=0.9, lam=0.5)
    there = own.apply(params, own.inputs(batch.tail, batch.tail_carry.last_action))(tail)
    np.testing.assert_allclose(found.values[0], 1 + 0.9 * np.asarray(there[0]).sum(-1), rtol=1e-4)
