"""Terms of credit from returns of coalitions, against their definitions."""

import itertools

import numpy as np

from seca_jax.credit import truth


def game(rng, num_agents, branches=6):
    """Returns of every coalition in every branch of two moments, [2, R, 2^N]."""
    return rng.normal(size=(2, branches, 2**num_agents))


def bits(agents):
    return sum(1 << int(a) for a in agents)


def test_every_term_is_the_difference_of_two_coalitions():
    rng = np.random.default_rng(0)
    for num_agents in (1, 3, truth.EVERY + 1):
        worth = game(rng, num_agents)
        orders = {
            name: np.stack([rng.permutation(num_agents) for _ in range(2)]) for name in ("one", "other")
        }
        masks = truth.coalitions(orders)
        returned = np.take_along_axis(worth, np.broadcast_to(masks[:, None], (2, 6, masks.shape[1])), axis=-1)
        found = truth.terms(returned, orders)
        mean, full = worth.mean(axis=1), 2**num_agents - 1
        for m in range(2):
            assert np.isclose(found.value.mean[m], mean[m, 0])
            assert np.isclose(found.q.mean[m], mean[m, full])
            for a in range(num_agents):
                assert np.isclose(found.coma.mean[m, a], mean[m, full] - mean[m, full - (1 << a)])
                assert np.isclose(found.marginal.mean[m, a], mean[m, 1 << a] - mean[m, 0])
                assert np.isclose(found.joint.mean[m, a], mean[m, full] - mean[m, 0])
            for name, order in orders.items():
                for place, a in enumerate(order[m]):
                    gain = worth[m, :, bits(order[m][: place + 1])] - worth[m, :, bits(order[m][:place])]
                    term = found.sequential[name]
                    assert np.isclose(term.mean[m, a], gain.mean())
                    assert np.isclose(term.error[m, a], gain.std(ddof=1) / np.sqrt(6))
                    assert np.allclose(term.halves[:, m, a], [gain[0::2].mean(), gain[1::2].mean()])
        assert (found.shapley is None) == (num_agents > truth.EVERY)


def test_shapley_values_are_the_average_over_all_orders():
    rng = np.random.default_rng(1)
    worth = game(rng, 4)
    values = np.zeros((2, 6, 4))
    turns = list(itertools.permutations(range(4)))
    for turn in turns:
        for place, a in enumerate(turn):
            gain = worth[..., bits(turn[: place + 1])] - worth[..., bits(turn[:place])]
            values[..., a] += gain / len(turns)
    np.testing.assert_allclose(truth.shapley(worth, 4), values, atol=1e-12)


def test_one_branch_has_no_error():
    found = truth.estimate(np.array([[1.0], [3.0]]))
    assert np.array_equal(found.mean, [1.0, 3.0])
    assert np.isnan(found.error).all() and np.isnan(found.halves[1]).all()
