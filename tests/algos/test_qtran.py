"""QTRAN's constraints on tables small enough to check by hand, and its loss on a made-up batch."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from test_qmix import GAMMA, A, B, N, T, made_up

from seca_jax.algos import q_learning, qtran
from seca_jax.config.schema import ActorConfig, Config
from seca_jax.envs import probes
from seca_jax.networks.mixers import JointQ, StateValue

JOINT = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])


def errors(tables, value):
    """(opt error at the best joint action, nopt errors [3, 3]) of the agents' values ``tables`` [2, 3]."""
    best = np.argmax(tables, axis=-1)
    total = tables[0][:, None] + tables[1][None, :]
    opt = qtran.opt_error(total[best[0], best[1]], JOINT[best[0], best[1]], value)
    return float(opt), np.asarray(qtran.nopt_error(total, JOINT, value))


@pytest.mark.parametrize(
    "tables, value",
    [
        ([[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]], 0.0),
        # V makes up for agents that are wrong by a constant
        ([[5.0, 1.0, 0.5], [1.0, -2.0, -2.0]], 2.0),
    ],
)
def test_a_factorisation_meets_both_constraints(tables, value):
    """Theorem 1: then the agents' best actions are the joint value's best."""
    tables = np.array(tables)
    opt, nopt = errors(tables, value)
    total = tables[0][:, None] + tables[1][None, :]
    for i, j in itertools.product(range(3), repeat=2):
        assert total[i, j] - JOINT[i, j] + value >= 0  # Eq. 4b, so there must be no error
    assert opt == 0 and not nopt.any()
    assert np.unravel_index(np.argmax(total), (3, 3)) == np.unravel_index(np.argmax(JOINT), (3, 3))


def test_a_mistaken_best_action_is_told_so():
    """The monotonic answer: both agents prefer action 1. Equality holds; inequality fails at the optimum."""
    tables = np.array([[-6.0, 0.0, 0.0], [-6.0, 0.0, 0.0]])
    opt, nopt = errors(tables, 0.0)
    assert opt == 0
    hand = np.zeros((3, 3))
    hand[0, 0] = -6 - 6 - 8
    np.testing.assert_array_equal(nopt, hand)


def test_errors_by_hand():
    opt, nopt = errors(np.array([[1.0, 0.0, -3.0], [2.0, 0.5, -4.0]]), 0.25)
    assert opt == 1.0 + 2.0 - 8.0 + 0.25
    hand = [[-4.75, 0.0, 0.0], [0.0, 0.0, -3.75], [0.0, -2.25, -6.75]]
    np.testing.assert_allclose(nopt, hand)


@pytest.mark.parametrize("error", [qtran.opt_error, qtran.nopt_error])
def test_constraints_do_not_move_the_joint_value(error):
    slopes = jax.grad(lambda *args: error(*args) ** 2, (0, 1, 2))(1.0, 3.0, 0.5)
    assert slopes == (-3.0, 0.0, -3.0)


def test_the_loss_is_td_and_both_constraints():
    """The networks are taken as they are; everything around them is done again in a loop."""
    batch, own, theirs, lengths, ended = made_up(3)
    config = Config(map="one_step", gamma=GAMMA, actor=ActorConfig(hidden=2))
    # The made-up batch has the sizes of no game
    env = dataclasses.replace(
        probes.make("one_step"), num_agents=N, num_actions=A, state_size=batch.view.state.shape[-1]
    )
    mixer = qtran.mixer_of(config, env)
    params, target = (q_learning.Params({}, mixer.init(jax.random.key(i))) for i in range(2))
    loss, metrics = qtran.loss(GAMMA, params, target, own, theirs, batch)

    def joint(who, hidden, action, t, b):
        one_hot = np.eye(A)[np.asarray(action)]
        return float(JointQ().apply(who.mixer["q"], hidden[t, b], one_hot, batch.view.state[t, b]))

    td, opt, nopt = [], [], []
    for b in range(B):
        for t in range(lengths[b]):
            best = []
            for moment in (t, t + 1):
                q = np.where(batch.view.avail[moment, b], own.q[moment, b], -np.inf)
                best.append(q.argmax(-1))
            y = float(batch.reward[t, b])
            if not (ended[b] and t == lengths[b] - 1):
                y += GAMMA * joint(target, theirs.hidden, best[1], t + 1, b)
            action = np.asarray(batch.action[t, b])
            q = joint(params, own.hidden, action, t, b)
            value = float(StateValue().apply(params.mixer["v"], batch.view.state[t, b]))
            utility = np.asarray(own.q[t, b])
            td.append(q - y)
            opt.append(
                utility[np.arange(N), best[0]].sum() - joint(params, own.hidden, best[0], t, b) + value
            )
            nopt.append(min(utility[np.arange(N), action].sum() - q + value, 0.0))
    td, opt, nopt = (np.mean(np.square(x)) for x in (td, opt, nopt))
    np.testing.assert_allclose(
        [metrics["critic_loss"], metrics["opt_loss"], metrics["nopt_loss"]], [td, opt, nopt], rtol=1e-4
    )
    np.testing.assert_allclose(loss, td + opt + 0.1 * nopt, rtol=1e-4)
    assert len(lengths) == B and lengths.max() == T
