"""Policies over available actions only, and the adaptive entropy's gradient against Eq. 12."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.algos import seca
from seca_jax.algos.policy import adaptive_entropy, entropy_of, log_prob_of
from seca_jax.config.schema import ActorConfig, Config
from seca_jax.envs.base import Environment
from seca_jax.networks.agent import Agent

AGENTS, ACTIONS, HIDDEN, INPUTS = 3, 6, 8, 10
AVAIL = np.array([[0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1]], bool)
XI = 0.06


@pytest.fixture(scope="module")
def logits():
    """An agent with large random weights, and availability with one, some and all actions."""
    agent = Agent(hidden=HIDDEN, num_actions=ACTIONS)
    x = 10.0 * jax.random.normal(jax.random.key(0), (AGENTS, INPUTS))
    params = agent.init(jax.random.key(1), jnp.zeros((AGENTS, HIDDEN)), x, jnp.asarray(AVAIL))
    params = jax.tree.map(lambda p: 5.0 * p, params)
    return agent.apply(params, jnp.zeros((AGENTS, HIDDEN)), x, jnp.asarray(AVAIL))[1]


def test_unavailable_actions_have_probability_exactly_zero(logits):
    policy = np.asarray(jax.nn.softmax(logits))
    assert (policy[~AVAIL] == 0.0).all()
    assert (policy[AVAIL] > 0.0).all()
    np.testing.assert_allclose(policy.sum(-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("greedy", [False, True])
def test_unavailable_actions_are_never_taken(greedy):
    """100,000 decisions of each agent through the learner's own ``act``."""
    none = dict.fromkeys(("reset", "step", "view", "restart", "select"))
    env = Environment("none", AGENTS, ACTIONS, INPUTS, 4, 10, 1.0, **none)
    algorithm = seca.make(Config(rollout="episode", actor=ActorConfig(hidden=HIDDEN)), env)
    params = algorithm.init(jax.random.key(0)).params
    draws = 100_000
    obs = jax.random.normal(jax.random.key(1), (draws, AGENTS, INPUTS))
    avail = jnp.broadcast_to(jnp.asarray(AVAIL), (draws, *AVAIL.shape))
    act = jax.jit(algorithm.act, static_argnums=5)
    action, _ = act(params, algorithm.initial_carry(draws), obs, avail, jax.random.key(2), greedy)
    counts = np.stack([np.bincount(np.asarray(action[:, a]), minlength=ACTIONS) for a in range(AGENTS)])
    assert (counts[~AVAIL] == 0).all()
    assert counts[0, 2] == draws
    if not greedy:
        # The untrained policy is near uniform, so every available action does turn up.
        assert (counts[AVAIL] > 0.5 * draws / AVAIL.sum(-1, keepdims=True).repeat(ACTIONS, -1)[AVAIL]).all()


def test_entropy_counts_available_actions_only(logits):
    for agent in range(AGENTS):
        z = np.asarray(logits, np.float64)[agent, AVAIL[agent]]
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        np.testing.assert_allclose(entropy_of(logits)[agent], -(p * np.log(p)).sum(), rtol=1e-4, atol=1e-6)
    uniform = jnp.where(jnp.asarray(AVAIL), 0.0, -1e9)
    np.testing.assert_allclose(entropy_of(uniform), np.log([1, 3, 6]), rtol=1e-6, atol=1e-7)


def test_log_probability_of_the_taken_action():
    z = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]))
    np.testing.assert_allclose(log_prob_of(z, jnp.array([2, 0])), np.log([0.5, 0.7]), rtol=1e-6)


ALL = np.ones((5, 2), bool), np.ones((5, 2, AGENTS, 4), bool)  # mask, avail


def random_policies():
    return np.random.default_rng(0).dirichlet(np.ones(4), size=(5, 2, AGENTS))  # [T, B, N, A]


def eq12(policy, scale=None):
    """-xi (log p_i + 1) / H, in NumPy."""
    entropy = -(policy * np.log(policy)).sum(-1, keepdims=True)
    return -XI * (np.log(policy) + 1) / (entropy if scale is None else scale)


def test_gradient_in_the_probabilities_is_eq12():
    policy = random_policies()

    def total(p):
        return adaptive_entropy(-jnp.sum(p * jnp.log(p), -1), *ALL, XI, "state").sum()

    np.testing.assert_allclose(jax.grad(total)(jnp.asarray(policy)), eq12(policy), rtol=1e-4, atol=1e-6)


def test_gradient_in_the_logits_is_eq12_through_the_softmax():
    policy = random_policies()

    def total(z):
        return adaptive_entropy(entropy_of(z), *ALL, XI, "state").sum()

    # dp_j/dz_i = p_i (delta_ij - p_j)
    jacobian = policy[..., None] * np.eye(4) - policy[..., None] * policy[..., None, :]
    expected = (jacobian * eq12(policy)[..., None, :]).sum(-1)
    got = jax.grad(total)(jnp.log(jnp.asarray(policy)) + 3.0)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)


def test_the_authors_code_divides_by_the_mean_over_all_agents():
    """Agents without a choice, the dead, have no entropy and are counted; padding is not."""
    policy, rng = random_policies(), np.random.default_rng(1)
    mask, choice = rng.random(policy.shape[:2]) < 0.7, rng.random(policy.shape[:-1]) < 0.6
    avail = choice[..., None] | (np.arange(4) == 1)
    assert not mask.all() and not choice.all()

    def total(p):
        entropy = -jnp.sum(p * jnp.log(p), -1)
        return adaptive_entropy(entropy, jnp.asarray(mask), jnp.asarray(avail), XI, "batch").sum()

    counted, entropy = mask[..., None] & choice, -(policy * np.log(policy)).sum(-1)
    total_entropy = sum(entropy[i] for i in zip(*np.nonzero(counted)))
    expected = eq12(policy, total_entropy / (mask.sum() * AGENTS)) * counted[..., None]
    np.testing.assert_allclose(jax.grad(total)(jnp.asarray(policy)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalise", ["state", "batch"])
def test_an_agent_without_a_choice_has_no_term(normalise):
    avail = jnp.broadcast_to(jnp.asarray(AVAIL), (2, 1, *AVAIL.shape))

    def terms(z):
        masked = jnp.where(avail, z, -1e9)
        return adaptive_entropy(entropy_of(masked), jnp.ones((2, 1), bool), avail, XI, normalise)

    z = jax.random.normal(jax.random.key(3), avail.shape)
    np.testing.assert_array_equal(terms(z)[:, :, 0], 0.0)
    gradient = np.asarray(jax.grad(lambda z: terms(z).sum())(z))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, :, 0], 0.0)
    assert np.abs(gradient[:, :, 1:]).max() > 0


def test_a_certain_agent_with_a_choice_stays_finite():
    z = jnp.array([[[[60.0, 0.0, -60.0]]]])
    mask, avail = jnp.ones((1, 1), bool), jnp.ones((1, 1, 1, 3), bool)
    gradient = jax.grad(lambda z: adaptive_entropy(entropy_of(z), mask, avail, XI, "state").sum())(z)
    assert np.isfinite(np.asarray(gradient)).all()


def test_as_it_is_the_entropy_counts_in_nats(logits):
    """``none``, PPO's: xi H where there is a choice at a real step, and nothing elsewhere."""
    entropy, avail = entropy_of(logits)[None, None], jnp.asarray(AVAIL)[None, None]
    term = adaptive_entropy(entropy, jnp.ones((1, 1), bool), avail, XI, "none")
    np.testing.assert_allclose(term[0, 0], XI * np.where(AVAIL.sum(-1) > 1, entropy[0, 0], 0.0), rtol=1e-6)
    assert not adaptive_entropy(entropy, jnp.zeros((1, 1), bool), avail, XI, "none").any()
