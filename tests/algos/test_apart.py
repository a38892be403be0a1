"""Critics with V apart: targets by a loop over their definition, errors by hand, credit by enumeration."""

import dataclasses
import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from transitions import rollout_of

from seca_jax import envs
from seca_jax.algos import critic as critics
from seca_jax.algos.critic import Critic, Targets, targets, team_critic
from seca_jax.algos.minibatches import optimiser
from seca_jax.config.schema import Config, CriticConfig
from seca_jax.credit.advantage import exact, sequential
from seca_jax.envs import probes
from seca_jax.networks.critic import DuelingHead

B, N, A = 3, 2, 4


@pytest.mark.parametrize("surprise_lam", [0.0, 0.6])
def test_targets_are_outcomes_and_discounted_surprises(surprise_lam):
    """Surprises are summed one by one, up to the step where the episode or the window ends."""
    rng, steps, gamma, lam = np.random.default_rng(3), 7, 0.97, 0.85
    value, tail = rng.normal(size=(steps, B)), rng.normal(size=(2, B))
    reward = rng.normal(size=(steps, B))
    terminated, truncated = np.zeros((2, steps, B), bool)
    terminated[2, 0] = truncated[3, 1] = terminated[5, 2] = True
    action = np.zeros((steps, B, N), int)
    batch = rollout_of(value[..., None], action, reward, terminated, truncated, tail[..., None])
    critic = Critic(
        init=None,
        inputs=lambda view, last_action: view.state,
        apply=lambda params, state: DuelingHead(state[..., :1], None),
        floats=1,
        value=lambda f, v: f.value,
        surprise_lam=surprise_lam,
    )
    action, policy = jnp.zeros((steps, B, N, A)), jnp.zeros((2, B, N, A))
    got = targets(critic, None, batch, action, policy, gamma=gamma, lam=lam)

    def next_value(t, b):
        if terminated[t, b]:
            return 0.0
        return tail[1, b] if truncated[t, b] else tail[0, b] if t == steps - 1 else value[t + 1, b]

    for b, t in itertools.product(range(B), range(steps)):
        surprise = returned = 0.0
        for k in range(t, steps):
            delta = reward[k, b] + gamma * next_value(k, b) - value[k, b]
            surprise += (gamma * surprise_lam) ** (k - t) * delta
            returned += (gamma * lam) ** (k - t) * delta
            if terminated[k, b] or truncated[k, b]:
                break
        np.testing.assert_allclose(got.surprise[t, b], surprise, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.values[t, b], value[t, b] + returned, rtol=1e-4, atol=1e-5)


def small(env, **options):
    options = {"kind": "dueling", "hypernet_hidden": "16", "mixing": 16, "value_hidden": 32, **options}
    return team_critic(Config(critic=CriticConfig(**options)), env)


def test_credit_starts_at_nothing():
    """An untrained critic tells no agent from another: f(s; v) is V(s), whatever v."""
    env = probes.make("one_step")
    critic = small(env)
    params = critic.init(jax.random.key(0))
    state = jax.random.normal(jax.random.key(1), (5, env.state_size))
    v = jax.random.dirichlet(jax.random.key(2), jnp.ones(env.num_actions), (5, env.num_agents))
    f = critic.apply(params, state)
    np.testing.assert_array_equal(f(v), f.value)
    assert np.abs(f.value).max() > 0


def multilinear_at(env, key):
    """(a multilinear critic whose parameters are random, and large, at a random moment; policies there)."""
    critic = small(env, kind="multilinear", pairs=4)
    keys = jax.random.split(key, 4)
    params = critic.init(keys[0])
    leaves, tree = jax.tree.flatten(params)
    drawn = jax.random.split(keys[1], len(leaves))
    params = jax.tree.unflatten(tree, [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, drawn)])
    obs = jax.random.normal(keys[2], (env.num_agents, env.obs_size))
    policy = jax.random.dirichlet(keys[3], jnp.ones(env.num_actions), (env.num_agents,))
    return critic.apply(params, (jnp.ones(env.state_size), obs)), policy


def test_multilinear_credit_is_eq_7_and_has_no_mean():
    """Whatever the parameters: f at the policies is the expectation of f, which Eq. 9 takes it for."""
    env = probes.make("one_step")
    n, a = env.num_agents, env.num_actions
    f, policy = multilinear_at(env, jax.random.key(4))
    joint = np.eye(a)[np.array(list(itertools.product(range(a), repeat=n)))]  # [J, N, A]
    value = np.array([f(jnp.asarray(u)) for u in joint])
    chance = np.prod(np.sum(joint * np.asarray(policy), axis=-1), axis=-1)
    assert np.std(value) > 1.0
    np.testing.assert_allclose(chance @ value, f(policy), rtol=1e-4)
    order = jnp.array(np.random.default_rng(0).permutation(n))
    credit = np.array([sequential(f, policy, jnp.asarray(u), order) for u in joint])
    by_enumeration = np.array([exact(f, policy, jnp.asarray(u), order) for u in joint[::7]])
    np.testing.assert_allclose(credit[::7], by_enumeration, rtol=1e-3, atol=1e-3 * np.std(value))
    np.testing.assert_allclose(chance @ credit, np.zeros(n), atol=1e-4 * np.std(value))


def test_multilinear_credit_has_pairs():
    """What one agent's action is worth depends on another's."""
    env = probes.make("one_step")
    f, policy = multilinear_at(env, jax.random.key(5))
    a, b = (policy.at[0].set(jnp.eye(env.num_actions)[i]) for i in (0, 1))
    gains = [f(b.at[1].set(row)) - f(a.at[1].set(row)) for row in jnp.eye(env.num_actions)]
    assert np.std(gains) > 0.1


def test_errors_are_those_of_value_surprise_and_centre():
    env = probes.make("matrix")
    critic = small(env)

    class Credit(NamedTuple):
        def once(self, v):
            return 10.0 * v[..., 0, 0] + v[..., 1, 1]

    policy = jnp.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    action = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    # V = 3, c(s; u) = 11, c(s; pi) = 5.3
    head = DuelingHead(jnp.array([2.0, 4.0]), Credit())
    goal = Targets(jnp.array(5.0), None, jnp.array(4.0))
    np.testing.assert_allclose(critic.errors(head, policy, action, goal), (3**2 + 1**2) / 2)
    of_credit = critic.credit_errors(head, policy, action, goal)
    np.testing.assert_allclose(of_credit, (11 - 5.3 - 4) ** 2 + 5.3**2, rtol=1e-5)


@pytest.mark.parametrize(("length", "stride"), [(8, 4), (7, 3), (2, 4)])
def test_credit_is_fitted_to_every_step_once_in_stride_updates(length, stride):
    seen = np.zeros((length, 2))
    steps = jnp.broadcast_to(jnp.arange(length)[:, None], (length, 2))
    mask = jnp.ones((length, 2), bool).at[0, 1].set(False)
    for count in range(5, 5 + stride):
        few, real = critics.thinned((steps, mask), stride, jnp.asarray(count))
        assert few.shape == real.shape == (-(-length // stride), 2)
        for env in range(2):
            np.add.at(seen[:, env], np.asarray(few[:, env])[np.asarray(real[:, env])], 1)
    np.testing.assert_array_equal(seen, mask)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_update_descends_the_mean_errors_of_all_and_of_some_steps(stride):
    """Against the gradient of both means, over one step of ``stride``, and over one of 3 of these."""
    env = probes.make("one_step")
    critic, tx = small(env, credit_stride=3, stride=stride), optax.identity()
    rng = np.random.default_rng(1)
    params = critic.init(jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), params)
    lead, actions, agents = (7, 2), env.num_actions, env.num_agents
    state = jnp.asarray(rng.normal(size=(*lead, env.state_size)), jnp.float32)
    policy = jnp.asarray(rng.dirichlet(np.ones(actions), (*lead, agents)), jnp.float32)
    action = jax.nn.one_hot(rng.integers(actions, size=(*lead, agents)), actions)
    goal = Targets(*(jnp.asarray(rng.normal(size=lead), jnp.float32) if i != 1 else None for i in range(3)))
    mask = jnp.asarray(rng.random(lead) < 0.7)
    batch = state, policy, action, goal, mask
    learned = params, params, tx.init(params), jnp.asarray(4)
    config = CriticConfig(kind="dueling", minibatches=1, updates=1)
    (after, *_), _ = critics.fit(config, critic, tx, learned, batch, 1.0, jax.random.key(0))

    def loss(params):
        f = critic.apply(params, state)
        steps = np.arange(7)[4 % stride :: stride]
        every = mask & np.isin(np.arange(7), steps)[:, None]
        some = mask & np.isin(np.arange(7), steps[4 % 3 :: 3])[:, None]
        of_value, of_credit = (
            critic.errors(f, policy, action, goal),
            critic.credit_errors(f, policy, action, goal),
        )
        return jnp.sum(of_value * every) / every.sum() + jnp.sum(of_credit * some) / some.sum()

    expected = jax.tree.map(lambda p, g: p - g, params, jax.grad(loss)(params))
    chex.assert_trees_all_close(after, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("map_name", "stride"), [("MMM2", 1), ("smacv2_20_units", 2), ("27m_vs_30m", 3)])
def test_fewer_steps_are_fitted_where_views_are_long(map_name, stride):
    config = Config(map=map_name)
    env = envs.make(config)
    assert team_critic(config, env).stride == stride
    joint = dataclasses.replace(config, critic=CriticConfig(kind="joint"))
    assert team_critic(joint, env).stride == 1


@pytest.mark.parametrize(("kind", "wrong"), [("dueling", 0.0), ("multilinear", 0.0), ("multilinear", 2.0)])
def test_fitted_credit_is_the_expectation_of_surprises(kind, wrong):
    """Fitted to a known game, sequential credit is Eq. 7's, by enumeration, and f(s; pi) is V.

    The game's pay is a sum over agents, and for the multilinear critic a product of two besides: then Eq. 9
    approximates nothing. A V that is ``wrong`` by so much leaves the multilinear critic's credit as it is.
    """
    env = probes.make("one_step")
    n, a = env.num_agents, env.num_actions
    critic, tx = small(env, kind=kind, credit_stride=1), optimiser(10.0)
    rng = np.random.default_rng(0)
    pay = rng.normal(size=(n, a))
    policy = rng.dirichlet(np.ones(a), n)
    if (
        kind == "multilinear"
    ):  # every joint action as often as it is likely, so that nothing is left to chance
        policy = np.array([[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.25, 0.0, 0.75]])
    both = rng.normal(size=(a, a)) if kind == "multilinear" else np.zeros((a, a))
    both = both - policy[0] @ both  # of its first agent nothing is expected before the second is known
    both = both - (both @ policy[1])[:, None]
    action = np.stack([[rng.choice(a, p=policy[i]) for i in range(n)] for _ in range(512)])
    if kind == "multilinear":
        rows = [np.repeat(np.arange(a), (4 * row).astype(int)) for row in policy]
        action = np.array(list(itertools.product(*rows)) * 8)
    mine = pay[np.arange(n), action]
    pair = both[action[:, 0], action[:, 1]]
    reward = mine.sum(-1) + pair
    value = (pay * policy).sum()
    lead = (8, 64)
    one_hot = np.eye(a)[action].reshape(*lead, n, a)
    policies = np.broadcast_to(policy, one_hot.shape)
    surprise = jnp.asarray((reward - value + wrong).reshape(lead))
    goal = Targets(jnp.asarray(reward.reshape(lead)), None, surprise)
    inputs = jnp.ones((*lead, env.state_size))
    if kind == "multilinear":
        inputs = inputs, jnp.ones((*lead, n, env.obs_size))
    params = critic.init(jax.random.key(0))
    config = CriticConfig(kind=kind, minibatches=1, updates=200)
    learned = params, params, tx.init(params), jnp.zeros((), jnp.int32)
    batch = inputs, jnp.asarray(policies), jnp.asarray(one_hot), goal, jnp.ones(lead, bool)
    fit = jax.jit(lambda learned, key: critics.fit(config, critic, tx, learned, batch, 3e-3, key)[0])
    for i in range(10):
        learned = fit(learned, jax.random.key(i))
    f = critic.apply(learned[0], jax.tree.map(lambda x: x[0], inputs))
    order = jnp.broadcast_to(jnp.arange(n), (64, n))
    got = sequential(f, jnp.asarray(policies[0]), jnp.asarray(one_hot[0]), order)
    expected = mine[:64] - (pay * policy).sum(-1)
    expected[:, 1] += pair[:64]
    np.testing.assert_allclose(got, expected, atol=0.15)
    np.testing.assert_allclose(f(jnp.asarray(policies[0])), f.value, atol=0.1)
