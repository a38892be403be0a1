"""MAPPO's and IPPO's judgement and critics, against sums written from the papers and numbers by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transitions import rollout_of

from seca_jax import envs
from seca_jax.algos import actor_critic, ippo, mappo
from seca_jax.algos.critic import Critic, Targets, targets
from seca_jax.config import compose
from seca_jax.config.schema import ValueConfig
from seca_jax.types import View

T, B, N, A = 7, 3, 2, 4
OF = {"mappo": mappo, "ippo": ippo}


@pytest.mark.parametrize("agents", [(), (N,)], ids=["V(s)", "V(tau)"])
def test_gae_is_the_sum_of_discounted_td_errors(agents):
    """Schulman et al. 2016, Eq. 16, cut where an episode or the window ends."""
    rng = np.random.default_rng(0)
    value = rng.normal(size=(T, B, *agents))
    tail = rng.normal(size=(2, B, *agents))  # after the window's last step, and where the time limit struck
    reward = rng.normal(size=(T, B))
    terminated, truncated = np.zeros((2, T, B), bool)
    terminated[2, 0] = truncated[3, 1] = terminated[T - 1, 2] = True
    critic = Critic(
        init=None,
        inputs=lambda view, last_action: view.state,
        apply=lambda params, state: mappo.Judged(state.reshape(*state.shape[:-1], *agents), 1.0),
        floats=1,
    )
    wide = lambda x: x.reshape(*x.shape[:2], -1)  # noqa: E731
    action = np.zeros((T, B, N), int)
    batch = rollout_of(wide(value), action, reward, terminated, truncated, wide(tail))
    one_hot, tail_policy = jax.nn.one_hot(action, A), jnp.full((2, B, N, A), 1 / A)
    gamma, lam = 0.97, 0.9
    got = mappo.gae(targets(critic, None, batch, one_hot, tail_policy, gamma=gamma, lam=lam))

    expected = np.zeros_like(value)
    for b, t in itertools.product(range(B), range(T)):
        for later in range(t, T):
            if truncated[later, b]:
                following = tail[1, b]
            else:
                following = value[later + 1, b] if later + 1 < T else tail[0, b]
            following = np.where(terminated[later, b], 0.0, following)
            delta = reward[later, b] + gamma * following - value[later, b]
            expected[t, b] += (gamma * lam) ** (later - t) * delta
            if terminated[later, b] or truncated[later, b]:
                break
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "value", "expected"),
    [
        # Target 10, V before the batch 4, standard deviation 2, worked by hand
        ({}, 7.0, 1.5**2),
        ({"huber": 1.0}, 7.0, 2 * (1.5 - 0.5)),
        ({"huber": 2.0}, 7.0, 1.5**2),
        ({"clip": 0.5}, 7.0, 2.5**2),  # held at 4 + 0.5 * 2
        ({"clip": 0.5}, 3.0, 3.5**2),  # held at 3.0: within reach, the error is its own
        ({"clip": 0.5}, 4.5, 2.75**2),
        ({"clip": 0.5, "huber": 1.0}, 7.0, 2 * (2.5 - 0.5)),
    ],
)
def test_errors_of_v_by_hand(settings, value, expected):
    goal = Targets(values=jnp.array([10.0]), outcome=jnp.array([10.0]), before=jnp.array([4.0]))
    error, slope = jax.value_and_grad(
        lambda v: jnp.sum(mappo.value_errors(ValueConfig(**settings), v, goal, 2.0))
    )(jnp.array([value]))
    assert float(error) == pytest.approx(expected)
    # Out of reach and nearer to the target than before the batch: nothing is gained by going on.
    assert (float(slope[0]) == 0.0) == (settings.get("clip", 9) < (value - 4.0) / 2)


def parts_of(algo, **words):
    config = compose.compose({"map": "leader", "algo": algo, "num_envs": 8, "window": 5, **words})
    env = envs.make(config)
    return actor_critic.assemble(config, env, OF[algo].critic_of(config, env))


@pytest.mark.parametrize(("algo", "view"), [("mappo", "state"), ("mappo", "agents"), ("ippo", "state")])
def test_v_reads_what_it_should_and_no_actions(algo, view):
    parts = parts_of(algo, **{"value.view": view} if algo == "mappo" else {})
    n, a = parts.env.num_agents, parts.env.num_actions
    critic, params = parts.critic, parts.critic.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 3)
    obs = jax.random.normal(keys[0], (B, n, parts.env.obs_size))
    state = jax.random.normal(keys[1], (B, parts.env.state_size))
    last = jnp.zeros((B, n), jnp.int32)

    policy = jnp.full((B, n, a), 1 / a)

    def value(obs=obs, state=state, last=last, v=policy):
        return np.asarray(critic.apply(params, critic.inputs(View(obs, None, state), last))(v))

    own = value()
    np.testing.assert_array_equal(value(v=jax.nn.one_hot(last, a)), own)
    if view == "agents":
        assert own.shape == (B, n)
        np.testing.assert_array_equal(value(last=last + 1), own)
        assert (value(state=state + 1) != own).all()
        changed = value(obs=obs.at[:, 0].add(1.0))
        assert (changed[:, 0] != own[:, 0]).all()
        np.testing.assert_array_equal(changed[:, 1:], own[:, 1:])
    elif algo == "mappo":
        assert own.shape == (B,)
        np.testing.assert_array_equal(value(obs=obs + 1, last=last + 1), own)
        assert (value(state=state + 1) != own).all()
    else:
        assert own.shape == (B, n)
        np.testing.assert_array_equal(value(state=state + 1), own)
        for changed in (value(obs=obs.at[:, 0].add(1.0)), value(last=last.at[:, 0].add(1))):
            assert (changed[:, 0] != own[:, 0]).all()
            np.testing.assert_array_equal(changed[:, 1:], own[:, 1:])
        # Two agents that see the same are told apart by their number
        same = value(obs=jnp.broadcast_to(obs[:, :1], obs.shape))
        assert (same[:, 0] != same[:, 1]).all()


def test_v_is_scaled_by_the_moments_of_all_returns_so_far():
    parts, rng = parts_of("mappo", **{"value.norm": True}), np.random.default_rng(0)
    state = actor_critic.init(parts, jax.random.key(0))
    x = jnp.asarray(rng.normal(size=(5, parts.env.state_size)))
    policy = jnp.full((5, N, A), 1 / A)
    network = {"network": state.params.critic["network"]}
    plain = mappo.critic_of(compose.compose({"algo": "mappo", "value.norm": False}), parts.env).apply(
        network, x
    )(policy)
    # Before any return: as it comes
    np.testing.assert_allclose(parts.critic.apply(state.params.critic, x)(policy), plain)
    seen = []
    for size in (1.0, 3.0, 5.0):
        y, mask = rng.normal(2.0, size, (T, B)), rng.random((T, B)) < 0.7
        y[~mask] = np.nan
        seen.append(y[mask])
        state = mappo.measured(parts.config, state, Targets(jnp.asarray(y), jnp.asarray(y)), mask)
    # All batches weigh alike
    mean, square = np.mean([np.mean(y) for y in seen]), np.mean([np.mean(y**2) for y in seen])
    deviation = np.sqrt(square - mean**2)
    f = parts.critic.apply(state.params.critic, x)
    np.testing.assert_allclose(f.scale, deviation, rtol=1e-4)
    np.testing.assert_allclose(f(policy), mean + deviation * plain, rtol=1e-4)

    def loss(params):
        goal = Targets(jnp.ones(5), jnp.ones(5))
        return jnp.sum(parts.critic.errors(parts.critic.apply(params, x), policy, policy, goal))

    gradient = jax.grad(loss)(state.params.critic)
    assert not any(gradient["returns"].values())  # descent leaves them as they were measured
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient["network"]))


def test_all_of_mappos_team_are_judged_alike_by_v_as_it_was():
    parts = parts_of("mappo", **{"credit.normalise": False, "value.norm": True})
    state = jax.jit(lambda key: actor_critic.init(parts, key))(jax.random.key(0))

    @jax.jit
    def expected(state):
        keys, _ = actor_critic.prepare(parts, state)
        _, rollout = actor_critic.collect(parts, state, keys.rollout)
        return mappo.gae(actor_critic.td_targets(parts, state, rollout))

    def fit_actor(parts, state, samples, *rest):
        return state, {"advantage": samples.data.advantage}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mappo, "fit_actor", fit_actor)
        after, log = jax.jit(lambda state: mappo.update(parts, state))(state)
    for agent in range(parts.env.num_agents):
        np.testing.assert_allclose(log["advantage"][..., agent], expected(state), rtol=1e-4, atol=1e-5)
    assert float(after.params.critic["returns"]["count"]) == 1.0
