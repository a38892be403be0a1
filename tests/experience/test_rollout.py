"""Both rollout protocols, on a game whose every number is known in advance."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.envs.base import Environment
from seca_jax.experience import rollout
from seca_jax.experience.batch import next_value
from seca_jax.networks.agent import Agent, agent_input, initial_carry, unroll
from seca_jax.types import Carry, Outcome, View

NUM_ENVS, LIMIT = 3, 4
# Environment b's episodes end after this many steps; 9 never does and runs into the time limit.
ENDS = np.array([2, 3, 9])
REWARD_SCALE = 10.0


class Clock(NamedTuple):
    time: jax.Array  # [B] int32, steps since the episode's start
    end: jax.Array  # [B] int32


def clock_env() -> Environment:
    """Two agents see the time; the reward of a step is its number, counted from 1."""

    def reset(key, num_envs):
        del key
        return Clock(jnp.zeros(num_envs, jnp.int32), jnp.resize(jnp.asarray(ENDS), num_envs))

    def view(state):
        obs = jnp.stack([state.time, state.end], axis=-1).astype(jnp.float32)
        avail = jnp.ones((len(state.time), 2, 3), bool)
        return View(jnp.repeat(obs[:, None], 2, axis=1), avail, obs)

    def step(key, state, action):
        del key, action
        time = state.time + 1
        terminated = time == state.end
        truncated = (time == LIMIT) & ~terminated
        reward = time.astype(jnp.float32) * REWARD_SCALE
        return Clock(time, state.end), Outcome(reward, terminated, truncated, terminated & (state.end == 2))

    def select(mask, a, b):
        return jax.tree.map(lambda x, y: jnp.where(mask, x, y), a, b)

    def restart(key, state, ended):
        return select(ended, reset(key, len(ended)), state)

    return Environment("clock", 2, 3, 2, 2, LIMIT, REWARD_SCALE, reset, step, view, restart, select)


@pytest.fixture(scope="module")
def agent():
    agent = Agent(hidden=4, num_actions=3)
    x = jnp.zeros((1, 2, 2 + 3 + 2))
    params = agent.init(jax.random.key(3), jnp.zeros((1, 2, 4)), x, jnp.ones((1, 2, 3), bool))
    # Larger head: the logits must move visibly with the recurrent state.
    return agent, jax.tree.map(lambda p: 2.0 * p, params)


def greedy_policy(agent):
    def policy(params, carry, obs, avail, key):
        del key
        hidden, logits = agent.apply(params, carry.hidden, agent_input(obs, carry.last_action, 3), avail)
        action = jnp.argmax(logits, -1).astype(jnp.int32)
        return action, Carry(hidden, action), logits

    return policy


@pytest.fixture(scope="module")
def stream(agent):
    env, fresh = clock_env(), initial_carry(NUM_ENVS, 2, 4)
    start = rollout.start_stream(env, fresh, jax.random.key(0), NUM_ENVS)

    @jax.jit
    def collect(start):
        return rollout.collect_stream(env, greedy_policy(agent[0]), agent[1], start, jax.random.key(1), 11)

    return collect(start)


@pytest.fixture(scope="module")
def episodes(agent):
    env, fresh = clock_env(), initial_carry(NUM_ENVS, 2, 4)
    collect = jax.jit(
        lambda key: rollout.collect_episodes(env, greedy_policy(agent[0]), agent[1], fresh, key, NUM_ENVS)
    )
    return collect(jax.random.key(0))


def test_stream_restarts_each_environment_at_its_own_ends(stream):
    _, batch = stream
    lengths = np.minimum(ENDS, LIMIT)
    age = np.arange(11)[:, None] % lengths
    np.testing.assert_array_equal(batch.age, age)
    np.testing.assert_array_equal(batch.view.state[..., 0], age)
    np.testing.assert_array_equal(batch.reward, REWARD_SCALE * (age + 1))
    ended = age == lengths - 1
    np.testing.assert_array_equal(batch.terminated, ended & (ENDS < LIMIT))
    np.testing.assert_array_equal(batch.truncated, ended & (ENDS > LIMIT))
    np.testing.assert_array_equal(batch.returned, (age + 1) * (age + 2) / 2)
    np.testing.assert_array_equal(batch.episode, np.arange(11)[:, None] // lengths + 1)
    np.testing.assert_array_equal(batch.linked, age[1:] > 0)
    assert batch.mask.all()


def test_totals_count_ended_episodes_in_the_environments_own_unit(stream):
    totals = {k: float(v) for k, v in stream[1].totals().items()}
    # 11 steps hold five episodes of length 2, three of 3 and two of 4; wins are the short ones.
    assert totals == {
        "sum/steps": 33,
        "sum/episodes": 10,
        "sum/wins": 5,
        "sum/return": 5 * 3 + 3 * 6 + 2 * 10,
        "sum/length": 5 * 2 + 3 * 3 + 2 * 4,
    }


def test_bootstrap_uses_the_views_before_the_restart(stream):
    _, batch = stream
    # "Value" of a view: 100 * its time + the step it was seen at, so that every mix-up shows.
    value = 100.0 * batch.view.state[..., 0]
    tail = 100.0 * batch.tail.state[..., 0]
    got = np.asarray(next_value(batch, value, tail))
    age = np.arange(11)[:, None] % np.minimum(ENDS, LIMIT)
    goes_on = ~(np.asarray(batch.terminated))
    # The state after a transition has one more step on its clock, at the time limit too.
    np.testing.assert_array_equal(got[goes_on], (100.0 * (age + 1))[goes_on])


def test_windows_that_follow_each_other_are_one_longer_window(agent, stream):
    env = clock_env()
    last = rollout.start_stream(env, initial_carry(NUM_ENVS, 2, 4), jax.random.key(0), NUM_ENVS)
    windows = []
    for length in (4, 4, 3):
        collected = rollout.collect_stream(
            env, greedy_policy(agent[0]), agent[1], last, jax.random.key(length), length
        )
        last, window = collected
        windows.append(window)
    first = windows[0].replace(later=tuple(windows[1:]))
    whole, long = first.whole(), stream[1]
    for name in ("view", "action", "extra", "reward", "terminated", "truncated", "won", "mask", "age"):
        chex.assert_trees_all_close(getattr(whole, name), getattr(long, name), rtol=1e-5)
    np.testing.assert_array_equal(whole.last_action(), long.last_action())

    def following(batch):
        value = 100.0 * batch.view.state[..., 0] + batch.tail_carry.hidden[0, :, 0, 0]
        tail = 100.0 * batch.tail.state[..., 0] + batch.tail_carry.hidden[..., 0, 0]
        return np.where(batch.terminated, 0.0, next_value(batch, value, tail))

    np.testing.assert_allclose(following(whole), following(long), rtol=1e-5)
    # What is counted is what was played last.
    assert first.totals() == windows[-1].totals() and windows[0].whole() is windows[0]


def test_stream_continues_where_the_last_window_stopped(agent, stream):
    last, _ = stream
    env = clock_env()
    _, batch = rollout.collect_stream(env, greedy_policy(agent[0]), agent[1], last, jax.random.key(2), 2)
    lengths = np.minimum(ENDS, LIMIT)
    np.testing.assert_array_equal(batch.age, np.arange(11, 13)[:, None] % lengths)
    np.testing.assert_array_equal(batch.carry.last_action, last.carry.last_action)


def test_episodes_are_whole_and_padding_is_masked(episodes):
    lengths = np.minimum(ENDS, LIMIT)
    mask = np.arange(LIMIT)[:, None] < lengths
    np.testing.assert_array_equal(episodes.mask, mask)
    np.testing.assert_array_equal(np.asarray(episodes.ended).sum(0), 1)
    np.testing.assert_array_equal(episodes.episode, np.ones((LIMIT, NUM_ENVS)))
    np.testing.assert_array_equal(episodes.linked, mask[1:])
    assert float(episodes.totals()["sum/steps"]) == lengths.sum()
    # The third environment is cut by the time limit: it bootstraps from the clock's last state.
    np.testing.assert_array_equal(episodes.tail.state[1, 2], [LIMIT, 9])


def test_both_protocols_agree_on_the_same_episodes(stream, episodes):
    """Every episode of the stream, whichever number it has, equals the whole episode: the recurrent
    state and the last action start afresh."""
    _, batch = stream
    logits, actions = np.asarray(batch.extra), np.asarray(batch.action)
    age = np.asarray(batch.age)
    assert np.ptp(np.asarray(episodes.extra)[:2], axis=0).max() > 1e-3  # they do depend on the past
    for b in range(NUM_ENVS):
        for t in range(len(age)):
            np.testing.assert_allclose(logits[t, b], episodes.extra[age[t, b], b], atol=1e-6)
            np.testing.assert_array_equal(actions[t, b], episodes.action[age[t, b], b])


def test_training_pass_reproduces_the_rollouts_logits(agent, stream):
    net, params = agent
    last, _ = stream
    env = clock_env()
    # Start in the middle of episodes, where a wrong initial hidden state would show.
    _, batch = rollout.collect_stream(env, greedy_policy(net), params, last, jax.random.key(2), 7)
    view = batch.view
    got = unroll(net, params, batch.carry.hidden, view.obs, batch.last_action(), view.avail, batch.start)
    np.testing.assert_allclose(got, batch.extra, atol=1e-6)


def test_episode_loop_stops_when_all_have_ended(agent):
    """With a limit far beyond the last end, the loop's own clock shows where it stopped."""
    env = clock_env()
    long = Environment(**{**env.__dict__, "max_steps": 500})
    ends_soon = Clock(jnp.zeros(2, jnp.int32), jnp.array([2, 3]))
    env = Environment(**{**long.__dict__, "reset": lambda key, num_envs: ends_soon})
    collect = lambda key: rollout.collect_episodes(  # noqa: E731
        env, greedy_policy(agent[0]), agent[1], initial_carry(2, 2, 4), key, 2
    )
    seeds = jax.random.split(jax.random.key(0), 2)
    for batch in (jax.jit(collect)(jax.random.key(0)), jax.jit(jax.vmap(collect))(seeds)):
        reward = np.asarray(batch.reward).reshape(-1, 500, 2)[0]
        assert (reward[:3] > 0).all() and (reward[3:] == 0).all()


def test_evaluation_takes_the_first_episode_of_each_environment(agent):
    net, params = agent

    def act(params, carry, obs, avail, key, greedy):
        assert greedy
        action, carry, _ = greedy_policy(net)(params, carry, obs, avail, key)
        return action, carry

    fresh = lambda n: initial_carry(n, 2, 4)  # noqa: E731
    got = rollout.evaluate(clock_env(), act, fresh, params, jax.random.key(0), 6)
    np.testing.assert_array_equal(got["length"], [2, 3, 4] * 2)
    np.testing.assert_array_equal(got["return"], [3, 6, 10] * 2)
    np.testing.assert_array_equal(got["won"], [True, False, False] * 2)
