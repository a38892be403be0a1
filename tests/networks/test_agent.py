"""The agents' network: its variations against loops, and every learner with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import algos
from seca_jax.config import compose
from seca_jax.config.schema import ActorConfig
from seca_jax.envs import probes
from seca_jax.networks import agent as networks

N, H, A, SEEN = 3, 4, 5, 2  # agents, hidden units, actions, features of an observation
WIDTH = SEEN + A + N


def inputs(*shape):
    """hidden, x and avail with leading axes ``shape``, the last of them the agents'."""
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, x = jax.random.normal(keys[0], (*shape, H)), jax.random.normal(keys[1], (*shape, WIDTH))
    return hidden, x, jax.random.bernoulli(keys[2], 0.7, (*shape, A)).at[..., 0].set(True)


def network(**changes):
    """A network and its parameters, none of them small: they must show in the output."""
    made = networks.make(dataclasses.replace(ActorConfig(hidden=H), **changes), N, A)
    params = made.init(jax.random.key(1), *inputs(1, N))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    return made, jax.tree.unflatten(tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])


@pytest.mark.parametrize("kind", ["gru", "mlp"])
@pytest.mark.parametrize("shape", [(N,), (6, N), (2, 6, N)])
def test_each_agent_has_its_own_parameters(kind, shape):
    made, params = network(kind=kind, shared=False)
    hidden, x, avail = inputs(*shape)
    after, logits = made.apply(params, hidden, x, avail)
    assert after.shape == hidden.shape and logits.shape == avail.shape
    alone, _ = network(kind=kind)
    for agent in range(N):
        own = jax.tree.map(lambda leaf, agent=agent: leaf[agent], params)
        expected = alone.apply(own, *(leaf[..., agent, :] for leaf in (hidden, x, avail)))
        for found, right in zip((after, logits), expected):
            np.testing.assert_allclose(found[..., agent, :], right, rtol=1e-5, atol=1e-5)


def test_rows_of_a_team_one_after_the_other_are_the_team():
    """As networks.unroll lays them out."""
    made, params = network(shared=False)
    whole = inputs(6, N)
    rows = [leaf.reshape(6 * N, -1) for leaf in whole]
    for team, flat in zip(made.apply(params, *whole), made.apply(params, *rows)):
        np.testing.assert_array_equal(team.reshape(6 * N, -1), flat)


def test_agents_start_from_parameters_of_their_own():
    made = networks.make(ActorConfig(hidden=H, shared=False), N, A)
    kernel = made.init(jax.random.key(1), *inputs(1, N))["params"]["embed"]["kernel"]
    assert kernel.shape == (N, WIDTH, H)
    assert not np.array_equal(kernel[0], kernel[1]) and not np.array_equal(kernel[1], kernel[2])
    # Spread as one set of parameters is: the shape without the agents is what the initialiser saw
    wide = networks.make(ActorConfig(hidden=400, shared=False), N, A)
    hidden, x, avail = inputs(1, N)
    kernel = wide.init(jax.random.key(1), jnp.zeros((1, N, 400)), x, avail)["params"]["embed"]["kernel"]
    np.testing.assert_allclose(np.std(kernel, axis=(1, 2)), np.sqrt(2 / WIDTH), rtol=0.06)


def test_an_mlp_is_two_layers_and_a_head_and_forgets():
    made, params = network(kind="mlp")
    hidden, x, avail = inputs(6, N)
    layers = params["params"]
    seen = np.asarray(x)
    for name in ("embed", "second"):
        seen = np.maximum(seen @ np.asarray(layers[name]["kernel"]) + np.asarray(layers[name]["bias"]), 0)
    logits = seen @ np.asarray(layers["head"]["kernel"]) + np.asarray(layers["head"]["bias"])
    after, found = made.apply(params, hidden, x, avail)
    np.testing.assert_allclose(after, seen, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, np.where(avail, logits, networks.MASKED), rtol=1e-5, atol=1e-5)
    for one, other in zip((after, found), made.apply(params, 7 + hidden, x, avail)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("changes", [{"shared": False}, {"kind": "mlp"}, {"kind": "mlp", "shared": False}])
def test_a_window_unrolled_is_its_steps_one_by_one(changes):
    made, params = network(**changes)
    keys = jax.random.split(jax.random.key(3), 4)
    t, b = 5, 2
    obs = jax.random.normal(keys[0], (t, b, N, SEEN))
    last_action = jax.random.randint(keys[1], (t, b, N), -1, A)
    start = jax.random.bernoulli(keys[2], 0.3, (t, b))
    hidden, _, _ = inputs(b, N)
    avail = jnp.ones((t, b, N, A), bool)
    found = networks.unroll(made, params, hidden, obs, last_action, avail, start)
    for step in range(t):
        hidden = jnp.where(start[step][:, None, None], 0.0, hidden)
        x = networks.agent_input(obs[step], last_action[step], A)
        hidden, logits = made.apply(params, hidden, x, avail[step])
        np.testing.assert_allclose(found[step], logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"kind": "mlp"}])
def test_a_wide_agents_window_and_gradient_are_those_of_steps_one_by_one(changes, monkeypatch):
    """Its gradient is written by hand; the other's is a scan's own."""
    made, params = network(**changes)
    keys = jax.random.split(jax.random.key(3), 5)
    t, b = 5, 2
    obs = jax.random.normal(keys[0], (t, b, N, SEEN))
    last_action = jax.random.randint(keys[1], (t, b, N), -1, A)
    avail = jax.random.bernoulli(keys[4], 0.7, (t, b, N, A))
    start = jax.random.bernoulli(keys[2], 0.3, (t, b))
    hidden, _, _ = inputs(b, N)
    weights = jax.random.normal(keys[3], (t, b, N, A + H))

    def total(params, hidden, obs):
        def both(logits, hidden):
            return jnp.concatenate([jnp.where(logits > networks.MASKED, logits, 0.0), hidden], axis=-1)

        found = networks.unroll(made, params, hidden, obs, last_action, avail, start, keep=both)
        return jnp.sum(found * weights), found

    def measured(wide):
        monkeypatch.setattr(networks, "WIDE", wide)
        return jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(params, hidden, obs)

    for one, other in zip(jax.tree.leaves(measured(H)), jax.tree.leaves(measured(H + 1)), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


TINY = {
    "map": "one_step", "num_envs": 4, "window": 5, "total_steps": 1_000, "actor.hidden": 8,
    "actor.epochs": 1, "actor.minibatches": 2, "critic.mixing": 8, "critic.hypernet_hidden": "8",
    "critic.updates": 1, "critic.minibatches": 2, "q.updates": 1, "q.batch": 4, "q.episodes": 12,
    "actor.kind": "mlp", "actor.shared": False,
}  # fmt: skip


@pytest.mark.parametrize("algo", algos.names())
def test_every_learner_takes_them(algo):
    """An update is traced, and what the agents are made of is the agents' own."""
    env = probes.make("one_step")
    learner = algos.make(compose.compose({"algo": algo, **TINY}), env)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    after, _ = jax.eval_shape(learner.train_step, state)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    agents = getattr(state.params, "actor", None) or state.params.agent
    assert {leaf.shape[0] for leaf in jax.tree.leaves(agents)} == {env.num_agents}


@pytest.mark.parametrize("algo", ["seca", "vdn"])
def test_an_update_moves_every_agents_parameters_apart_from_the_others(algo):
    env = probes.make("one_step")
    learner = algos.make(compose.compose({"algo": algo, **TINY, "actor.kind": "gru"}), env)
    state = jax.jit(learner.init)(jax.random.key(0))
    after, log = jax.jit(learner.train_step)(state)
    assert log["finite"] == 1.0
    agents = [getattr(s.params, "actor", None) or s.params.agent for s in (state, after)]
    moves = [np.asarray(b - a) for a, b in zip(*map(jax.tree.leaves, agents))]
    assert all(any(move[agent].any() for move in moves) for agent in range(env.num_agents))
    assert not all(np.array_equal(move[0], move[1]) for move in moves)


@pytest.mark.parametrize("moves, actions, share", [(5, 69, 0.5), (5, 9, 5 / 9), (0, 69, 5 / 69)])
def test_an_untrained_policy_moves_as_readily_as_it_attacks(moves, actions, share):
    network = networks.make(ActorConfig(hidden=H), N, actions, moves=moves)
    hidden, x = jnp.zeros((1, N, H)), jax.random.normal(jax.random.key(0), (1, N, SEEN + actions + N))
    available = jnp.ones((1, N, actions), bool)
    params = network.init(jax.random.key(1), hidden, x, available)
    _, logits = networks.apply(network, params, hidden, x, available)
    np.testing.assert_allclose(jax.nn.softmax(logits)[..., :5].sum(-1), share, rtol=1e-2)
