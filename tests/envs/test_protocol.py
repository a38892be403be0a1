"""What every environment owes a rollout: one suite over all that ``map=`` accepts beside SMAX's maps."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import envs
from seca_jax.config import compose
from seca_jax.envs import registry
from seca_jax.envs.base import take

B = 3


class Played:
    """An environment, and its state, view and outcome after each step of random play without restarts."""

    def __init__(self, name):
        self.env = envs.make(compose.from_words([f"map={name}"]))
        self.states = [jax.jit(self.env.reset, static_argnums=1)(jax.random.key(0), B)]
        self.outcomes = []
        self.step, self.view = jax.jit(self.env.step), jax.jit(self.env.view)
        self.views = [self.view(self.states[0])]
        for t in range(self.env.max_steps):
            drawn = jax.random.uniform(jax.random.key(100 + t), self.views[-1].avail.shape)
            action = jnp.argmax(jnp.where(self.views[-1].avail, drawn, -1.0), axis=-1).astype(jnp.int32)
            state, outcome = self.step(jax.random.key(200 + t), self.states[-1], action)
            self.states.append(state)
            self.outcomes.append(jax.device_get(outcome))
            self.views.append(self.view(state))


@pytest.fixture(scope="module", params=registry.TASKS)
def played(request):
    return Played(request.param)


def test_it_is_called_what_the_user_calls_it(played):
    assert played.env.name in registry.names()


def test_views_have_the_sizes_that_it_says(played):
    env = played.env
    for view in played.views:
        assert view.obs.shape == (B, env.num_agents, env.obs_size) and view.obs.dtype == jnp.float32
        assert view.avail.shape == (B, env.num_agents, env.num_actions) and view.avail.dtype == bool
        assert view.state.shape == (B, env.state_size) and view.state.dtype == jnp.float32
        assert view.avail.any(-1).all()
        assert np.isfinite(view.obs).all() and np.isfinite(view.state).all()


def test_outcomes_are_one_of_each_for_every_environment(played):
    for outcome in played.outcomes:
        for field, kind in (("reward", "float32"), ("terminated", bool), ("truncated", bool), ("won", bool)):
            value = getattr(outcome, field)
            assert value.shape == (B,) and value.dtype == kind, field
        assert not (outcome.terminated & outcome.truncated).any()
        assert not (outcome.won & ~(outcome.terminated | outcome.truncated)).any()


def test_an_episode_ends_within_its_limit(played):
    ended = np.array([o.terminated | o.truncated for o in played.outcomes])
    assert ended.any(axis=0).all()


def test_the_state_keeps_its_form(played):
    forms = [jax.tree.map(lambda x: (x.shape, x.dtype), state) for state in played.states]
    assert all(form == forms[0] for form in forms)


def test_select_and_restart_touch_the_marked_alone(played):
    env, old, new = played.env, played.states[0], played.states[-1]
    mask = jnp.array([True, False, True])
    for state in (env.select(mask, old, new), jax.jit(env.restart)(jax.random.key(7), new, mask)):
        shown, kept = played.view(state), played.views[-1]
        np.testing.assert_array_equal(shown.obs[1], kept.obs[1])
        np.testing.assert_array_equal(shown.state[1], kept.state[1])
    np.testing.assert_array_equal(played.view(env.select(mask, old, new)).state[0], played.views[0].state[0])


def test_states_can_be_taken_again(played):
    twice = take(played.env, played.states[1], jnp.array([2, 2, 0]))
    np.testing.assert_array_equal(played.view(twice).obs, played.views[1].obs[np.array([2, 2, 0])])


def test_a_key_for_each_makes_the_place_in_the_batch_not_matter(played):
    env, state = played.env, played.states[0]
    keys, places = jax.random.split(jax.random.key(3), B), jnp.array([2, 0, 1])
    action = jnp.argmax(played.views[0].avail, axis=-1).astype(jnp.int32)
    one = played.step(keys, state, action)[1]
    other = played.step(keys[places], take(env, state, places), action[places])[1]
    np.testing.assert_allclose(one.reward[places], other.reward, rtol=1e-6)


@pytest.mark.parametrize("name", registry.TASKS)
def test_its_module_knows_no_other_names(name):
    module = importlib.import_module(f"seca_jax.envs.{registry.TASKS[name]}")
    with pytest.raises(KeyError):
        module.make("nowhere")
