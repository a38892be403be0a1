"""QPLEX: duplex dueling against Eq. 7 to 10 in loops, its best joint action, what no monotonic mix has."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_qmix import GAMMA, A, B, N, S, T, config_of, learn, made_up

from seca_jax.algos import q_learning, qplex
from seca_jax.networks.mixers import DuplexMixer

HEADS, WIDTH = 3, 5
JOINT = np.array(list(itertools.product(range(A), repeat=N)))
MODULE = DuplexMixer(heads=HEADS, hypernet=WIDTH, depth=1)


def params_of(key, module=MODULE):
    """Weights several times their initial size, of either sign, biases too."""
    q = jnp.zeros((1, N))
    params = module.init(jax.random.key(0), q, q, jnp.zeros((1, N, A)), jnp.zeros((1, S)))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(key), len(leaves))
    return tree.unflatten([2.0 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])


def by_hand(params, q, best, action, state):
    """Eq. 7 to 10 for one state. q [N], best [N], one-hot action [N, A], state [S]."""
    p = {name: {k: np.asarray(v) for k, v in layer.items()} for name, layer in params["params"].items()}

    def dense(name, x):
        return x @ p[name]["kernel"] + p[name]["bias"]

    def sigmoid(x):
        return 1.0 / (1.0 + np.exp(-x))

    weight = np.abs(dense("weight", np.maximum(dense("weight_hidden", state), 0.0)))
    bias = dense("bias", np.maximum(dense("bias_hidden", state), 0.0))
    joint = np.concatenate([state, action.ravel()])
    key, agent, pair = dense("key", state), dense("agent", state), dense("action", joint)
    total = 0.0
    for i in range(N):
        importance = sum(
            abs(key[k]) * sigmoid(agent[k * N + i]) * sigmoid(pair[k * N + i]) for k in range(HEADS)
        )
        total += weight[i] * best[i] + bias[i] + importance * weight[i] * (q[i] - best[i])
    return total


def test_the_mix_is_duplex_dueling():
    rng = np.random.default_rng(0)
    params = params_of(1)
    for _ in range(10):
        table, state = rng.normal(size=(N, A)), rng.normal(size=S)
        action = rng.integers(A, size=N)
        q, best, row = table[np.arange(N), action], table.max(-1), np.eye(A)[action]
        np.testing.assert_allclose(
            MODULE.apply(params, q, best, row, state), by_hand(params, q, best, row, state), rtol=1e-4
        )


@pytest.mark.parametrize("depth", [1, 3])
def test_the_agents_best_actions_are_the_best_joint_action(depth):
    """And it is no monotonic mix: what the others do changes which of an agent's lesser actions is better."""
    module = DuplexMixer(heads=HEADS, hypernet=WIDTH, depth=depth)
    mix = jax.jit(module.apply)
    changes = 0
    for i in range(50):
        rng = np.random.default_rng(i)
        table, state = rng.normal(size=(N, A)), np.broadcast_to(rng.normal(size=S), (len(JOINT), S))
        best = np.broadcast_to(table.max(-1), (len(JOINT), N))
        values = mix(params_of(i, module), table[np.arange(N), JOINT], best, np.eye(A)[JOINT], state)
        own_best = (JOINT == table.argmax(-1)).all(-1).argmax()
        assert (
            values[own_best] >= values.max() - 1e-5
        )  # weights near 0 may tie it with others, up to rounding
        ranking = np.argsort(np.asarray(values).reshape(A, -1), axis=0)  # of agent 0's actions
        changes += (ranking != ranking[:, :1]).any()
    assert changes > 10


def test_agents_learn_through_the_weighted_sum_alone():
    """No gradient through the advantages that lambda weighs, nor through the maximum in them."""
    params, rng = params_of(3), np.random.default_rng(3)
    table, state, action = rng.normal(size=(N, A)), rng.normal(size=S), np.eye(A)[[0, 1, 2]]
    slopes = jax.grad(lambda q, best: MODULE.apply(params, q, best, action, state), (0, 1))(
        jnp.asarray(table[:, 0]), jnp.asarray(table.max(-1))
    )
    hidden = np.maximum(
        state @ params["params"]["weight_hidden"]["kernel"] + params["params"]["weight_hidden"]["bias"], 0.0
    )
    weight = np.abs(hidden @ params["params"]["weight"]["kernel"] + params["params"]["weight"]["bias"])
    np.testing.assert_allclose(slopes[0], weight, rtol=1e-4)
    assert not slopes[1].any()


def test_the_loss_is_the_one_step_double_q_error():
    batch, own, theirs, lengths, ended = made_up(5)
    params, target = (q_learning.Params({}, params_of(i)) for i in (5, 6))
    loss, metrics = qplex.duplex_loss(MODULE.apply, GAMMA, params, target, own, theirs, batch)

    def team(who, q, avail, action, state):
        best = np.where(avail, q, -np.inf).max(-1)
        return by_hand(who.mixer, q[np.arange(N), action], best, np.eye(A)[action], state)

    errors = []
    q, judged, avail = np.asarray(own.q), np.asarray(theirs.q), np.asarray(batch.view.avail)
    state = np.asarray(batch.view.state)
    for b in range(B):
        for t in range(lengths[b]):
            y = float(batch.reward[t, b])
            if not (ended[b] and t == lengths[b] - 1):
                choice = np.where(avail[t + 1, b], q[t + 1, b], -np.inf).argmax(-1)
                y += GAMMA * team(target, judged[t + 1, b], avail[t + 1, b], choice, state[t + 1, b])
            chosen = team(params, q[t, b], avail[t, b], np.asarray(batch.action[t, b]), state[t, b])
            errors.append(chosen - y)
    np.testing.assert_allclose(loss, np.mean(np.square(errors)), rtol=1e-4)
    assert metrics["critic_loss"] == loss and lengths.max() == T


@pytest.mark.slow
def test_it_represents_the_matrix_game():
    """Son et al. 2019, Table 1, under full exploration, which QMIX and VDN fail (``test_qmix``)."""
    config = config_of("matrix", "qplex", epsilon_final=1.0, heads=10, depth=3)  # its authors' for matrices
    returns, _ = learn(config, 3000, 3)
    np.testing.assert_allclose(returns, 8.0)
