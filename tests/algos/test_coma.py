"""COMA's critic, targets and advantage against loops and enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transitions import rollout_of

from seca_jax.algos import coma
from seca_jax.algos.critic import Critic, targets
from seca_jax.envs.base import Environment
from seca_jax.types import View

B, N, A = 3, 3, 4
ENV = Environment(
    "none", N, A, 5, 6, 10, 1.0, **dict.fromkeys(("reset", "step", "view", "restart", "select"))
)


@pytest.fixture(scope="module")
def critic():
    """(q, value, policy, action): the critic with random weights, bound to random inputs."""
    own = coma.critic_of(ENV)
    keys = jax.random.split(jax.random.key(0), 6)
    params = own.init(keys[0])
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(keys[1], x.shape), params)
    view = View(
        obs=jax.random.normal(keys[2], (B, N, ENV.obs_size)),
        avail=None,
        state=jax.random.normal(keys[3], (B, ENV.state_size)),
    )
    value = own.apply(params, own.inputs(view, jax.random.randint(keys[4], (B, N), -1, A)))
    policy = jax.nn.softmax(2.0 * jax.random.normal(keys[5], (B, N, A)))
    action = np.random.default_rng(0).integers(0, A, (B, N))

    def q(joint, agent):
        """Q of the agent's own action in ``joint`` [B, N], [B]."""
        return np.asarray(value(jax.nn.one_hot(joint, A)))[:, agent]

    return q, value, policy, action


def replaced(joint, agent, own):
    return np.where(np.arange(N) == agent, own, joint)


def test_advantage_is_eq5_by_enumeration(critic):
    q, value, policy, action = critic
    got, taken = coma.counterfactual_and_value(value, policy, jax.nn.one_hot(action, A))
    p = np.asarray(policy, np.float64)
    for agent in range(N):
        baseline = sum(p[:, agent, own] * q(replaced(action, agent, own), agent) for own in range(A))
        np.testing.assert_allclose(got[:, agent], q(action, agent) - baseline, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(taken[:, agent], q(action, agent), rtol=1e-6)


def test_advantage_has_mean_zero_under_the_agents_policy(critic):
    _, value, policy, action = critic
    for agent in range(N):
        mean = 0.0
        for own in range(A):
            joint = jax.nn.one_hot(replaced(action, agent, own), A)
            mean += policy[:, agent, own] * coma.counterfactual_and_value(value, policy, joint)[0][:, agent]
        np.testing.assert_allclose(mean, 0.0, atol=1e-5)


def test_an_agents_own_action_does_not_reach_its_own_values(critic):
    """Were it so, the baseline of Eq. 5 would not be counterfactual."""
    _, value, policy, action = critic
    head = jnp.broadcast_to(jnp.eye(A)[0], (B, N, A))  # reads the Q of action 0
    base = np.asarray(value(jax.nn.one_hot(action, A), head))
    for agent in range(N):
        other = replaced(action, agent, (action[:, [agent]] + 1) % A)
        moved = np.asarray(value(jax.nn.one_hot(other, A), head)) != base
        assert not moved[:, agent].any()
        assert np.delete(moved, agent, axis=1).all()


def test_targets_are_eq10_for_every_agent():
    """A NumPy loop: chain, termination, time limit, end of the window."""
    steps, rng = 6, np.random.default_rng(3)
    table = rng.normal(size=(N, A))

    # A critic whose value of agent n's row is the state's only feature times the row's entry in a table.
    critic = Critic(
        init=None,
        inputs=lambda view, last_action: view.state,
        apply=lambda params, state: lambda v: state[..., :1] * jnp.sum(v * jnp.asarray(table), axis=-1),
        floats=1,
    )
    state, tail_state = rng.normal(size=(steps, B, 1)), rng.normal(size=(2, B, 1))
    action, tail_policy = rng.integers(0, A, (steps, B, N)), rng.dirichlet(np.ones(A), (2, B, N))
    reward = rng.normal(size=(steps, B))
    terminated, truncated = np.zeros((2, steps, B), bool)
    terminated[2, 0] = truncated[3, 1] = terminated[5, 2] = True
    batch = rollout_of(state, action, reward, terminated, truncated, tail_state)
    gamma, lam = 0.97, 0.85
    got = targets(
        critic, None, batch, jax.nn.one_hot(action, A), jnp.asarray(tail_policy), gamma=gamma, lam=lam
    ).values
    expected = np.zeros((steps, B, N))
    for b in range(B):
        for n in range(N):
            tails = [tail_state[i, b, 0] * (tail_policy[i, b, n] * table[n]).sum() for i in range(2)]
            for t in reversed(range(steps)):
                if terminated[t, b]:
                    later = 0.0
                elif truncated[t, b]:
                    later = tails[1]
                elif t == steps - 1:
                    later = tails[0]
                else:
                    taken = state[t + 1, b, 0] * table[n, action[t + 1, b, n]]
                    later = lam * expected[t + 1, b, n] + (1 - lam) * taken
                expected[t, b, n] = reward[t, b] + gamma * later
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
