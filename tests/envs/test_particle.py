"""The particle tasks: who moves, what is paid, when it ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.envs import particle


@pytest.fixture(scope="module", params=particle.TASKS)
def env(request):
    return particle.make(request.param)


def at(state, positions):
    """``state`` of one environment with the particles put at ``positions``, standing still."""
    return state.replace(p_pos=jnp.asarray([positions], jnp.float32), p_vel=jnp.zeros_like(state.p_vel))


def stay(env, num_envs=1):
    return jnp.zeros((num_envs, env.num_agents), jnp.int32)


def test_sizes_and_the_time_limit(env):
    state = env.reset(jax.random.key(0), 2)
    view = env.view(state)
    assert view.obs.shape == (2, 3, env.obs_size) and view.state.shape == (2, env.state_size)
    assert view.avail.shape == (2, 3, 5) and view.avail.all()
    ended = np.zeros(2, bool)
    step = jax.jit(env.step)
    for t in range(1, env.max_steps + 1):
        state, outcome = step(jax.random.key(t), state, stay(env, 2))
        assert not (outcome.terminated & outcome.truncated).any()
        truncated = np.asarray(outcome.truncated)
        assert not truncated.any() if t < env.max_steps else truncated[~ended].all()
        ended |= np.asarray(outcome.terminated)
    fresh = env.restart(jax.random.key(9), state, jnp.array([True, False]))
    np.testing.assert_array_equal(fresh.step, [0, env.max_steps])


def test_what_critics_read_stays_bounded_however_far_particles_go(env):
    state = env.reset(jax.random.key(0), 1)
    near, far = (env.view(state.replace(p_pos=state.p_pos * scale)) for scale in (1.0, 1e3))
    # As many numbers as there are particles' coordinates, in the world's order, then velocities of 0
    count = state.p_pos.size
    np.testing.assert_allclose(near.state[0, :count], np.tanh(np.ravel(state.p_pos)), rtol=1e-5)
    assert np.abs(far.state).max() <= 1.0 and np.abs(far.obs).max() <= 1.0


def test_a_touch_of_the_prey_pays_once_and_ends_the_episode():
    env = particle.make("predator_prey")
    state = env.reset(jax.random.key(0), 1)
    obstacles = [[0.9, 0.9], [-0.9, 0.9]]
    far = at(state, [[-0.5, -0.5], [0.5, -0.5], [-0.9, -0.9], [0.0, 0.3], *obstacles])
    after, outcome = env.step(jax.random.key(1), far, stay(env))
    assert outcome.reward[0] == 0 and not outcome.terminated[0] and not outcome.won[0]
    np.testing.assert_array_equal(after.p_pos[0, :3], far.p_pos[0, :3])  # who stays, stays
    np.testing.assert_allclose(after.p_pos[0, 4:], obstacles, atol=1e-6)
    # Two predators at once: radii 0.075 and 0.05
    near = at(state, [[-0.1, 0.0], [0.1, 0.0], [-0.9, -0.9], [0.0, 0.0], *obstacles])
    _, outcome = env.step(jax.random.key(1), near, stay(env))
    assert outcome.reward[0] == particle.CAPTURE and outcome.terminated[0] and outcome.won[0]


def test_the_prey_moves_at_random():
    env = particle.make("predator_prey")
    state = jax.tree.map(lambda x: jnp.repeat(x, 64, axis=0), env.reset(jax.random.key(3), 1))
    after, _ = env.step(jax.random.key(1), state, stay(env, 64))
    # jaxmarl moves particles by the velocity they had: what was chosen shows in the new one
    assert len(np.unique(np.round(np.asarray(after.p_vel[:, 3]), 5), axis=0)) == 5


def test_navigation_pays_each_landmarks_distance_to_its_nearest_agent():
    env = particle.make("cooperative_navigation")
    state = env.reset(jax.random.key(0), 1)
    agents = [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
    _, outcome = env.step(
        jax.random.key(1), at(state, [*agents, [0.0, 0.5], [1.0, 0.25], [0.75, 0.0]]), stay(env)
    )
    assert float(outcome.reward[0]) == pytest.approx(-(0.5 + 0.25 + 0.25), abs=1e-5)
    last = at(state, [*agents, [0.0, 0.1], [1.0, 0.1], [-1.0, 0.1]]).replace(
        step=jnp.array([env.max_steps - 1])
    )
    _, outcome = env.step(jax.random.key(1), last, stay(env))
    assert outcome.truncated[0] and outcome.won[0]
    early = last.replace(step=jnp.array([3]))
    assert not env.step(jax.random.key(1), early, stay(env))[1].won[0]
