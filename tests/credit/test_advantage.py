"""Sequential advantages against Eq. 7 by brute force, Claim 1 for every order, COMA against Eq. 5."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.credit import advantage

AGENTS, ACTIONS, BATCH = 3, 4, 6


def random_policy(rng, *leading):
    policy = rng.dirichlet(np.ones(ACTIONS), size=(*leading, AGENTS))
    policy[..., 0, 1] = 0.0  # an unavailable action
    return policy / policy.sum(-1, keepdims=True)


def random_action(rng, *leading):
    return np.eye(ACTIONS)[rng.integers(ACTIONS, size=(*leading, AGENTS))]


@pytest.fixture
def batch():
    """Policies, one-hot actions, a table Q[b, u1, u2, u3]; every element has another order.

    All six orders: two of them are not their own inverse, which tells an order from ranks.
    """
    rng = np.random.default_rng(0)
    return (
        random_policy(rng, BATCH),
        random_action(rng, BATCH),
        rng.normal(size=(BATCH,) + (ACTIONS,) * AGENTS),
        np.array(list(itertools.permutations(range(AGENTS)))),
    )


def multilinear(table):
    """f(v) = sum_u Q(u) prod_a v[a, u_a]: linear in each agent's row, equal to Q at one-hot actions."""
    table = jnp.asarray(table)

    def evaluate(v):
        return jnp.einsum("bijk,bi,bj,bk->b", table, v[..., 0, :], v[..., 1, :], v[..., 2, :])

    return evaluate


def nonlinear(v):
    """No structure that any test could rely on: rows interact, and no row enters linearly."""
    flat = v.reshape(*v.shape[:-2], -1)
    weight = jnp.cos(jnp.arange(flat.shape[-1]) * 1.7)
    return jnp.tanh(flat @ weight) + (flat**2).sum(-1) * jnp.sin(3.0 * flat[..., 0] * flat[..., -1])


def expectation(value, policy, action, known):
    """E of value(joint indices) with the agents in ``known`` at their action and the others ~ policy."""
    total = 0.0
    for joint in itertools.product(range(ACTIONS), repeat=AGENTS):
        weight = 1.0
        for agent, choice in enumerate(joint):
            weight *= action[agent, choice] if agent in known else policy[agent, choice]
        total += weight * value(joint)
    return total


def brute_force(value, policy, action, order):
    """Eq. 7 for one element: both terms enumerate every joint action of the agents not yet assessed."""
    result = np.zeros(AGENTS)
    for i, agent in enumerate(order):
        with_agent = expectation(value, policy, action, set(order[: i + 1]))
        result[agent] = with_agent - expectation(value, policy, action, set(order[:i]))
    return result


def test_sequential_is_eq7_when_the_critic_is_linear_in_each_row(batch):
    policy, action, table, order = batch
    got = advantage.sequential(
        multilinear(table), jnp.asarray(policy), jnp.asarray(action), jnp.asarray(order)
    )
    assert got.shape == (BATCH, AGENTS)
    for b in range(BATCH):
        expected = brute_force(lambda joint, q=table[b]: q[joint], policy[b], action[b], list(order[b]))
        np.testing.assert_allclose(got[b], expected, rtol=1e-4, atol=1e-5)


def test_exact_is_eq7_for_a_critic_of_any_shape(batch):
    policy, action, _, order = batch
    got = advantage.exact(nonlinear, jnp.asarray(policy), jnp.asarray(action), jnp.asarray(order))
    assert got.shape == (BATCH, AGENTS)
    joints = list(itertools.product(range(ACTIONS), repeat=AGENTS))
    one_hot = np.eye(ACTIONS)[np.array(joints)]
    value = dict(zip(joints, np.asarray(nonlinear(jnp.asarray(one_hot)))))
    for b in range(BATCH):
        expected = brute_force(value.__getitem__, policy[b], action[b], list(order[b]))
        np.testing.assert_allclose(got[b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(AGENTS))))
def test_claim_1_the_advantages_of_every_order_add_up_to_q_minus_v(batch, order):
    policy, action, _, _ = batch
    orders = jnp.broadcast_to(jnp.array(order), (BATCH, AGENTS))
    got = advantage.sequential(nonlinear, jnp.asarray(policy), jnp.asarray(action), orders)
    total = nonlinear(jnp.asarray(action)) - nonlinear(jnp.asarray(policy))
    np.testing.assert_allclose(got.sum(-1), total, rtol=1e-5, atol=1e-5)


def test_each_agent_gets_the_difference_of_its_own_replacement(batch):
    """Eq. 9 element by element with a nonlinear critic: the result is by agent, not by place in the order."""
    policy, action, _, order = batch
    got = advantage.sequential(nonlinear, jnp.asarray(policy), jnp.asarray(action), jnp.asarray(order))
    for b in range(BATCH):
        v = policy[b].copy()
        before = float(nonlinear(jnp.asarray(v)))
        for agent in order[b]:
            v[agent] = action[b, agent]
            after = float(nonlinear(jnp.asarray(v)))
            np.testing.assert_allclose(got[b, agent], after - before, rtol=1e-4, atol=1e-5)
            before = after


def test_sequential_in_a_game_where_the_order_decides():
    """Q = 1 when both agents match, policies uniform over two actions, both play 0: worked by hand.

    V = 1/2; once one agent plays 0 the expectation is still 1/2; with both it is 1. So whoever is
    assessed first gets 0 and whoever comes second 1/2.
    """
    policy = jnp.full((2, 2), 0.5)
    action = jnp.array([[1.0, 0.0], [1.0, 0.0]])

    def match(v):
        return (v[..., 0, :] * v[..., 1, :]).sum(-1)

    first = advantage.sequential(match, policy, action, jnp.array([0, 1]))
    second = advantage.sequential(match, policy, action, jnp.array([1, 0]))
    np.testing.assert_allclose(first, [0.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(second, [0.5, 0.0], atol=1e-6)


def test_two_leading_axes_equal_one_flat_axis(batch):
    policy, action, _, order = (jnp.asarray(x) for x in batch)
    flat = advantage.sequential(nonlinear, policy, action, order)
    nested = advantage.sequential(
        nonlinear, *(x.reshape(1, BATCH, *x.shape[1:]) for x in (policy, action, order))
    )
    np.testing.assert_allclose(nested[0], flat, rtol=1e-6)


def test_coma_replaces_one_row_by_its_policy(batch):
    policy, action, table, _ = batch
    got = advantage.coma(nonlinear, jnp.asarray(policy), jnp.asarray(action))
    multi = advantage.coma(multilinear(table), jnp.asarray(policy), jnp.asarray(action))
    assert got.shape == multi.shape == (BATCH, AGENTS)
    for b, agent in itertools.product(range(BATCH), range(AGENTS)):
        v = action[b].copy()
        v[agent] = policy[b, agent]
        expected = float(nonlinear(jnp.asarray(action[b])) - nonlinear(jnp.asarray(v)))
        np.testing.assert_allclose(got[b, agent], expected, rtol=1e-4, atol=1e-5)
        # Eq. 5 itself, where the critic is a table: Q(u) minus the policy's mean over u'^a.
        joint = list(action[b].argmax(-1))
        taken = table[b][tuple(joint)]
        counterfactual = 0.0
        for choice in range(ACTIONS):
            joint[agent] = choice
            counterfactual += policy[b, agent, choice] * table[b][tuple(joint)]
        np.testing.assert_allclose(multi[b, agent], taken - counterfactual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sequential", "exact", "coma"])
def test_compiles(batch, name):
    policy, action, _, order = (jnp.asarray(x) for x in batch)
    arguments = (policy, action) if name == "coma" else (policy, action, order)
    function = getattr(advantage, name)
    compiled = jax.jit(lambda *a: function(nonlinear, *a))(*arguments)
    np.testing.assert_allclose(compiled, function(nonlinear, *arguments), rtol=1e-5, atol=1e-5)
