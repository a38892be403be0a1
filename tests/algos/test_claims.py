"""What critics claim, against the advantages that the learners themselves hand out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import algos, envs
from seca_jax.algos import claims
from seca_jax.config.compose import compose
from seca_jax.credit import advantage
from seca_jax.experience import moments

EPISODES = 6


def lived(algo, name="leader", **values):
    """An untrained learner and a few episodes of its sampling policies."""
    config = compose({"map": name, "algo": algo, "seeds": 1, **values})
    env = envs.make(config)
    learner = algos.make(config, env)
    params = jax.jit(learner.init)(jax.random.key(3)).params
    carry = learner.initial_carry(EPISODES)
    rollout = moments.live(env, learner.act, params, carry, jax.random.key(4), EPISODES)
    return config, env, learner, params, rollout


def setting(rng, lead=(5,), num_agents=3, num_actions=4):
    policy = jax.nn.softmax(jnp.asarray(rng.normal(size=(*lead, num_agents, num_actions))), axis=-1)
    action = jax.nn.one_hot(jnp.asarray(rng.integers(num_actions, size=(*lead, num_agents))), num_actions)
    turn = jnp.asarray(np.stack([rng.permutation(num_agents) for _ in range(lead[0])]))
    return policy, action, turn


def test_terms_of_a_joint_value():
    rng = np.random.default_rng(0)
    policy, action, turn = setting(rng)
    weights = jnp.asarray(rng.normal(size=(5, 12, 6)))

    def f(v):
        hidden = jnp.einsum("mi,mih->mh", v.reshape(5, -1), weights)
        return jnp.sum(jnp.tanh(hidden), axis=-1)

    found = claims.terms(f, policy, action, {"any": turn})
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)  # noqa: E731
    close(found["sequential", "any"], advantage.sequential(f, policy, action, turn))
    close(found["coma", ""], advantage.coma(f, policy, action))
    close(found["joint", ""], np.repeat((f(action) - f(policy))[:, None], 3, axis=1))
    for a in range(3):
        alone = policy.at[:, a].set(action[:, a])
        close(found["marginal", ""][:, a], f(alone) - f(policy))


def test_terms_of_values_of_their_own():
    """Each agent is judged by its own value, with its own row expected or taken."""
    rng = np.random.default_rng(1)
    policy, action, turn = setting(rng)
    weights = jnp.asarray(rng.normal(size=(3, 12)))

    def f(v):  # [5, 3]
        return jnp.sin(v.reshape(5, -1) @ weights.T)

    found = claims.terms(f, policy, action, {"any": turn})
    for m in range(5):
        v = np.array(policy[m])
        for a in np.asarray(turn[m]):
            after = v.copy()
            after[a] = action[m, a]
            own = [np.sin(x.reshape(-1) @ np.asarray(weights[a])) for x in (v, after)]
            assert found["sequential", "any"][m, a] == pytest.approx(own[1] - own[0], abs=1e-5)
            v = after
            without = np.array(action[m])
            without[a] = policy[m, a]
            own = [np.sin(x.reshape(-1) @ np.asarray(weights[a])) for x in (without, np.asarray(action[m]))]
            assert found["coma", ""][m, a] == pytest.approx(own[1] - own[0], abs=1e-5)


@pytest.mark.parametrize("algo", algos.names())
def test_every_learner_has_an_opinion(algo):
    config, env, learner, params, rollout = lived(algo)
    opinion = claims.opinion(config, env)
    wanted = ["ig-episode", "prob", "entropy", "fixed", "random"][0 if opinion.along_path else 1 :]
    turns = claims.orders(config, opinion, params, rollout, wanted, jax.random.key(0))
    for turn in turns.values():
        assert np.array_equal(np.sort(turn, axis=-1), np.broadcast_to(np.arange(2), turn.shape))
    t, b = moments.choose(rollout, 4, np.random.default_rng(0))
    said = claims.claims(opinion, params, rollout, turns, t, b)
    assert len(said.terms) == len(wanted) + 3
    assert all(term.shape == (4, 2) and np.isfinite(term).all() for term in said.terms.values())
    on_policy = algo not in claims.VALUE_BASED
    assert (said.residual is not None) == on_policy
    # Where one value is for all, whoever comes first in an order, the terms add up to f(u) - f(pi)
    if algo not in ("coma", "sqddpg"):
        for name in wanted:
            total = said.terms["sequential", name].sum(axis=-1)
            np.testing.assert_allclose(total, said.terms["joint", ""][:, 0], atol=1e-5)
    # The policy that the claims are made with is the one that acts
    there = moments.at(env, rollout, t, b)
    view = env.view(there.env)
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = jax.vmap(lambda key: learner.act(params, there.carry, view.obs, view.avail, key, False)[0])(keys)
    rate = jax.nn.one_hot(drawn, env.num_actions).mean(axis=0)
    np.testing.assert_allclose(rate, said.policy, atol=0.04)


def test_counterfactuals_of_coma_are_its_own():
    from seca_jax.algos import coma

    config, env, _, params, rollout = lived("coma", "one_step")
    opinion = claims.opinion(config, env)
    t, b = moments.choose(rollout, 5, np.random.default_rng(0))
    said = claims.claims(opinion, params, rollout, {}, t, b)
    reads = jax.tree.map(lambda x: x[t, b], opinion.inputs(params, rollout))
    action = jax.nn.one_hot(rollout.action[t, b], env.num_actions)
    own, _ = coma.counterfactual_and_value(opinion.critic(params, reads), jnp.asarray(said.policy), action)
    np.testing.assert_allclose(said.terms["coma", ""], own, atol=1e-6)


def test_residual_is_the_return_less_the_value():
    """On a game of one step y is the reward, whatever the critic says of anything else."""
    config, env, _, params, rollout = lived("seca")
    opinion = claims.opinion(config, env)
    t, b = moments.choose(rollout, 5, np.random.default_rng(0))
    said = claims.claims(opinion, params, rollout, {}, t, b)
    reads = jax.tree.map(lambda x: x[t, b], opinion.inputs(params, rollout))
    f = opinion.critic(params, reads)
    value = f(jax.nn.one_hot(rollout.action[t, b], env.num_actions))
    expected = np.repeat(np.asarray(rollout.reward[t, b] - value)[:, None], 2, axis=1)
    np.testing.assert_allclose(said.residual, expected, atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_score_products_are_those_of_the_policies_jacobian(monkeypatch, shared):
    config, env, learner, params, rollout = lived("seca", "delayed", **{"actor.shared": shared})
    t, b = moments.choose(rollout, 3, np.random.default_rng(0))
    monkeypatch.setattr(claims, "SCORES", 2**14)  # in several pieces
    products = claims.score_products(claims.opinion(config, env), env, params, rollout, t, b)
    assert products.shape == (6, 6)
    np.testing.assert_allclose(products, products.T)
    opinion = claims.opinion(config, env)
    there = moments.at(env, rollout, t, b)
    view = env.view(there.env)
    flat, back = jax.flatten_util.ravel_pytree(params.actor)

    def log_prob(actor):
        policy = opinion.policy(params.replace(actor=back(actor)), there.carry, view)
        return jnp.log(jnp.take_along_axis(policy, there.action[..., None], axis=-1))[..., 0].ravel()

    scores = jax.jacobian(log_prob)(flat)
    np.testing.assert_allclose(products, scores @ scores.T, rtol=1e-3, atol=1e-5)
