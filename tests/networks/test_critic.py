"""f(s; v) is one function, however many v at a state it is asked about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.networks.critic import Hypernetwork

ROWS, STATE, AGENTS, ACTIONS = 5, 7, 3, 4


@pytest.fixture(scope="module")
def asked():
    """Head of random weights, none of them zero, at states; a row v for each."""
    network = Hypernetwork(inputs=AGENTS * ACTIONS, mixing=6, hypernet_hidden=8)
    state = jax.random.normal(jax.random.key(0), (ROWS, STATE))
    params = network.init(jax.random.key(1), state)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    params = jax.tree.unflatten(tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])
    return network, params, state, jax.random.normal(jax.random.key(3), (ROWS, AGENTS, ACTIONS))


def test_once_is_the_same_number(asked):
    network, params, state, v = asked
    head = network.apply(params, state)
    np.testing.assert_allclose(head.once(v), head(v), rtol=1e-4, atol=1e-4)
    w1 = np.einsum("bh,him->bim", head.features, head.kernel) + np.asarray(head.w1_fixed)
    hidden = np.maximum(np.einsum("bi,bim->bm", v.reshape(ROWS, -1), w1) + np.asarray(head.b1), 0)
    np.testing.assert_allclose(head(v), (hidden * head.w2).sum(-1) + head.b2, rtol=1e-4, atol=1e-4)


def test_once_has_the_same_gradients(asked):
    network, params, state, v = asked

    def error(params, v, one):
        head = network.apply(params, state)
        return jnp.sum(jnp.square((head.once(v) if one else head(v)) - 1.0))

    both = [jax.grad(error, argnums=(0, 1))(params, v, one) for one in (True, False)]
    for ours, theirs in zip(*map(jax.tree.leaves, both)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)
