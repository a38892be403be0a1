"""What goes into the replay buffer comes out of it: whole episodes, the newest ones and no others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import envs
from seca_jax.config.schema import Config, QConfig
from seca_jax.envs.base import Environment
from seca_jax.experience import replay as memory
from seca_jax.experience import rollout
from seca_jax.networks.agent import initial_carry
from seca_jax.types import Carry, Outcome, View

NUM_ENVS, LIMIT, N, A = 4, 8, 2, 3
# Environment b's episodes end after this many steps; 99 never does and runs into the time limit.
ENDS = np.array([2, 99, 1, 5])


def walk_env(ends=ENDS) -> Environment:
    """Positions move by the actions; half the state has the environments last, as the battles do."""

    def reset(key, num_envs):
        start = jax.random.normal(key, (N, num_envs))
        return {
            "x": start,
            "time": jnp.zeros(num_envs, jnp.int32),
            "end": jnp.resize(jnp.asarray(ends), num_envs),
        }

    def view(state):
        late = (state["time"] > 0)[:, None, None]
        return View(
            # Not a number in a state that never was, such as one of all zeros
            obs=jnp.stack(
                [state["x"].T, jnp.broadcast_to((1 / state["end"])[:, None], state["x"].T.shape)], -1
            ),
            avail=jnp.broadcast_to(jnp.arange(A) < 3 - late, (len(state["time"]), N, A)),
            state=jnp.concatenate([state["x"].T, state["time"][:, None]], axis=-1),
        )

    def step(key, state, action):
        del key
        time = state["time"] + 1
        after = {**state, "x": state["x"] + action.T, "time": time}
        terminated = time == state["end"]
        truncated = (time == LIMIT) & ~terminated
        return after, Outcome(jnp.sum(after["x"], axis=0), terminated, truncated, terminated)

    def select(mask, a, b):
        return jax.tree.map(lambda x, y: jnp.where(mask, x, y), a, b)

    def restart(key, state, ended):
        return select(ended, reset(key, len(ended)), state)

    return Environment("walk", N, A, 2, N + 1, LIMIT, 1.0, reset, step, view, restart, select)


def random_policy(params, carry, obs, avail, key):
    del params, obs
    action = jax.random.categorical(key, jnp.where(avail, 0.0, -1e9)).astype(jnp.int32)
    return action, Carry(carry.hidden, action), ()


def collect(env, key, num_envs=NUM_ENVS):
    fresh = initial_carry(num_envs, env.num_agents, 1)
    run = jax.jit(lambda key: rollout.collect_episodes(env, random_policy, None, fresh, key, num_envs))
    return run(key)


def config_of(episodes=100, **changes):
    q = QConfig(episodes=episodes, **{"batch": NUM_ENVS, "memory": 1, **changes})
    return Config(rollout="episode", num_envs=NUM_ENVS, seeds=1, q=q)


def draw(replay, state, key, times):
    """Episodes of ``times`` samples, leaves [times * batch, ...]."""
    drawn = jax.vmap(lambda key: replay.sample(state, key))(jax.random.split(key, times))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn)


def batch_of(env, episodes):
    """Every episode in a row of its own, with the padding that follows its end."""
    count, limit = episodes.reward.shape
    moment, episode = np.meshgrid(np.arange(limit + 1), np.arange(count), indexing="ij")
    return memory.unpack(env, memory.batch_axes(env), episodes, jnp.array(episode), jnp.array(moment))


def check_round_trip(env, num_envs):
    """The stored episodes of a rollout, looked at again, against the views of the same rollout."""
    watched = memory.watch(env)
    both = lambda s: env.view(s).replace(state=(env.view(s).state, watched.view(s).state))  # noqa: E731
    both = collect(dataclasses.replace(env, view=both), jax.random.key(1), num_envs)

    def only(i):
        view, tail = (v.replace(state=v.state[i]) for v in (both.view, both.tail))
        return both.replace(view=view, tail=tail)

    plain = only(0)
    again = jax.jit(lambda rollout: batch_of(env, memory.pack(rollout, env.num_actions)))
    batch = again(only(1))
    mask = np.asarray(plain.mask)
    np.testing.assert_array_equal(batch.mask, mask)
    np.testing.assert_array_equal(batch.terminated, np.asarray(plain.terminated) & mask)
    for name in ("obs", "avail", "state"):
        seen, stored = np.asarray(getattr(plain.view, name)), np.asarray(getattr(batch.view, name))
        np.testing.assert_allclose(stored[:-1][mask], seen[mask], rtol=1e-6, atol=1e-6)
        assert np.isfinite(stored).all()
        for b in range(num_envs):
            length = mask[:, b].sum()
            if plain.truncated[length - 1, b]:
                tail = np.asarray(getattr(plain.tail, name))[1, b]
                np.testing.assert_allclose(stored[length, b], tail, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(batch.action)[mask], np.asarray(plain.action)[mask])
    np.testing.assert_array_equal(
        np.asarray(batch.last_action)[:-1][mask], np.asarray(plain.last_action())[mask]
    )
    np.testing.assert_array_equal(np.asarray(batch.reward)[mask], np.asarray(plain.reward)[mask])
    assert not np.asarray(batch.reward)[~mask].any()
    return mask.sum(axis=0)


def test_stored_episodes_are_what_the_agents_saw_to_their_ends():
    lengths = check_round_trip(walk_env(), NUM_ENVS)
    np.testing.assert_array_equal(lengths, [2, LIMIT, 1, 5])


def test_stored_battles_are_what_the_agents_saw():
    env = dataclasses.replace(envs.make(Config(map="3m")), max_steps=12)
    check_round_trip(env, 2)


def test_the_last_action_of_an_episode_leads_to_its_last_view():
    env = walk_env()
    batch = batch_of(env, memory.pack(collect(memory.watch(env), jax.random.key(0)), A))
    assert batch.last_action.shape == (LIMIT + 1, NUM_ENVS, N)
    np.testing.assert_array_equal(batch.last_action[0], -1)
    np.testing.assert_array_equal(batch.last_action[LIMIT, 1], batch.action[LIMIT - 1, 1])
    np.testing.assert_array_equal(batch.start, np.arange(LIMIT + 1)[:, None] == np.zeros(NUM_ENVS))


def test_the_oldest_episodes_make_room_across_the_wrap_around():
    env = walk_env()
    replay = memory.make(config_of(episodes=6), env)
    add = jax.jit(replay.add)
    state, put = replay.init(), []
    packed = []
    for turn in range(4):
        batch = collect(replay.watched, jax.random.key(turn))
        state = add(state, batch)
        put += list(np.asarray(batch.reward[0]))  # of the first step: names the episode
        packed.append(jax.tree.map(np.asarray, memory.pack(batch, A)))
        drawn = jax.tree.map(np.asarray, draw(replay, state, jax.random.key(100 + turn), 60))
        names = drawn.reward[:, 0]
        assert set(names) == set(put[-6:]), turn
        assert len(set(put)) == len(put)
        for i, name in enumerate(names):
            turn_put, b = divmod(put.index(name), NUM_ENVS)
            length = drawn.length[i]
            assert length == min(ENDS[b], LIMIT) and drawn.terminated[i] == (ENDS[b] <= LIMIT)
            # Not only its name: the world before each step and after the last, actions, rewards.
            for got, gave in zip(jax.tree.leaves(drawn), jax.tree.leaves(packed[turn_put])):
                np.testing.assert_array_equal(got[i], gave[b])


def test_episodes_are_drawn_evenly():
    env = walk_env()
    replay = memory.make(config_of(), env)
    state = replay.add(replay.init(), collect(replay.watched, jax.random.key(0)))
    _, counts = np.unique(np.asarray(draw(replay, state, jax.random.key(1), 1000).length), return_counts=True)
    assert len(counts) == NUM_ENVS and abs(counts - 1000).max() < 150


@pytest.mark.parametrize("stored", [5, 8])
def test_no_episode_is_drawn_twice_for_an_update(stored):
    keys = jax.random.split(jax.random.key(2), 2000)
    drawn = np.asarray(jax.vmap(lambda key: memory.choose(key, jnp.int32(stored), 8, 3))(keys))
    assert all(len(set(places)) == 3 for places in drawn)
    counts = np.bincount(drawn.ravel(), minlength=8)
    assert not counts[stored:].any()
    expected = drawn.size / stored  # of a binomial; four standard deviations
    assert abs(counts[:stored] - expected).max() < 4 * np.sqrt(expected)


def test_fewer_episodes_than_an_update_wants_are_all_drawn_as_often():
    drawn = np.asarray(memory.choose(jax.random.key(0), jnp.int32(3), 8, 7))
    assert sorted(np.bincount(drawn)) == [2, 2, 3]


@pytest.mark.parametrize("rows", [1, 3, 4, 8])
def test_episodes_are_laid_out_whole_and_once_each(rows):
    rng = np.random.default_rng(rows)
    for length in (rng.integers(1, 11, 8), np.full(8, 10), np.ones(8, int)):
        episode, moment, held = map(np.asarray, memory.lay_out(jnp.array(length), 10, rows))
        assert episode.shape == (-(-8 // rows) * 11, rows)
        places = [
            (episode[t, r], moment[t, r], r, t)
            for r in range(rows)
            for t in range(len(episode))
            if moment[t, r] >= 0
        ]
        assert sorted(place[:2] for place in places) == [
            (e, k) for e in range(8) for k in range(length[e] + 1)
        ]
        rows_of = {e: {place[2] for place in places if place[0] == e} for e in range(8)}
        assert all(len(found) == 1 for found in rows_of.values())
        starts = {(e, t - k) for e, k, _, t in places}
        assert len(starts) == 8  # every episode's moments follow each other
        assert held == max(place[3] for place in places) + 1
        assert held <= np.ceil((length + 1).sum() / rows) + length.max()


@pytest.mark.parametrize(("count", "rows", "limit"), [(5, 2, 7), (8, 3, 4), (6, 6, 3), (11, 4, 8)])
def test_the_fullest_row_is_never_longer_than_episodes_of_full_length_make_it(count, rows, limit):
    length = jax.random.randint(jax.random.key(0), (1000, count), 1, limit + 1)
    _, moment, held = jax.vmap(lambda own: memory.lay_out(own, limit, rows))(length)
    assert held.max() <= moment.shape[1] == -(-count // rows) * (limit + 1)
    np.testing.assert_array_equal((moment >= 0).sum((1, 2)), (length + 1).sum(1))


def test_rows_of_several_episodes_hold_what_one_each_did():
    env = walk_env()
    episodes = memory.pack(collect(memory.watch(env), jax.random.key(0)), A)
    apart = batch_of(env, episodes)
    episode, moment, _ = memory.lay_out(episodes.length, LIMIT, 2)
    together = memory.unpack(env, memory.batch_axes(env), episodes, episode, moment)
    assert together.start.shape == (2 * (LIMIT + 1), 2)
    for t, r in np.argwhere(np.asarray(moment) >= 0):
        e, k = int(episode[t, r]), int(moment[t, r])
        for name in ("obs", "avail", "state"):
            np.testing.assert_array_equal(getattr(together.view, name)[t, r], getattr(apart.view, name)[k, e])
        np.testing.assert_array_equal(together.last_action[t, r], apart.last_action[k, e])
        assert together.start[t, r] == apart.start[k, e] == (k == 0)
        if k < LIMIT and t < len(together.mask):
            for name in ("action", "reward", "terminated", "mask"):
                if name != "action" or apart.mask[k, e]:
                    np.testing.assert_array_equal(getattr(together, name)[t, r], getattr(apart, name)[k, e])
    assert together.mask.sum() == apart.mask.sum() == episodes.length.sum()
    assert not together.mask[np.asarray(moment)[:-1] < 0].any()
    assert not together.reward[~np.asarray(together.mask)].any()


def test_padding_is_cut_where_no_row_of_any_seed_needs_it():
    lengths_seen = []
    whole = 4 * (LIMIT + 1)  # moments that four episodes of full length take

    def run(ends):
        env = walk_env(ends)
        replay = memory.make(config_of(), env)
        episodes = memory.pack(collect(replay.watched, jax.random.key(0)), A)

        def total(batch):
            lengths_seen.append(len(batch.start))
            assert batch.view.obs.shape[0] == len(batch.mask) + 1 == len(batch.last_action)
            return jnp.sum(jnp.where(batch.mask, batch.reward, 0.0)), jnp.int32(len(batch.start))

        two = jax.tree.map(
            lambda x, y: jnp.stack([x, y]), episodes, jax.tree.map(lambda x: x[::-1], episodes)
        )
        got, length = jax.jit(jax.vmap(lambda e: replay.seen(total, e)))(two)
        np.testing.assert_allclose(got, np.asarray(episodes.reward).sum(), rtol=1e-5)
        return int(length[0])

    # One row of 2 + 1, 1 + 1, 1 + 1 and 2 + 1 moments; and so on
    assert run(np.array([1, 1, 1, 1])) == 9 and run(np.array([2, 1, 1, 2])) == 14 and run(ENDS) == 23
    assert run(np.array([99, 99, 99, 99])) == whole == max(lengths_seen)
    assert set(lengths_seen) == {5, 7, 9, 14, 18, 23, 27, 36}


def test_a_wide_agents_rows_are_shorter_and_cut_closer():
    """Two episodes of full length a row, and twice as many lengths; every reward counts as before."""
    env, lengths_seen = walk_env(np.array([1, 1, 1, 1])), []
    config = config_of()
    config = dataclasses.replace(config, actor=dataclasses.replace(config.actor, hidden=256))
    replay = memory.make(config, env)
    episodes = memory.pack(collect(replay.watched, jax.random.key(0)), A)

    def total(batch):
        lengths_seen.append(batch.start.shape)
        return jnp.sum(jnp.where(batch.mask, batch.reward, 0.0)), jnp.int32(len(batch.start))

    got, length = replay.seen(total, episodes)
    np.testing.assert_allclose(got, np.asarray(episodes.reward).sum(), rtol=1e-5)
    assert {rows for _, rows in lengths_seen} == {2} and max(lengths_seen)[0] == 2 * (LIMIT + 1)
    assert len(lengths_seen) > 8 and length == 4  # 1 + 1 moments twice, of 18 that there may be


def test_the_longest_row_of_all_seeds_decides():
    env = walk_env(np.array([2, 99, 2, 2]))
    replay = memory.make(config_of(), env)
    episodes = memory.pack(collect(replay.watched, jax.random.key(0)), A)
    seeds = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), episodes)
    lengths = jax.vmap(lambda e: replay.seen(lambda batch: jnp.int32(len(batch.start)), e))(seeds)
    np.testing.assert_array_equal(lengths, [12, 12])  # 8 + 1 and 2 + 1 in one row; the other has 2 + 1 twice


def test_bytes_are_those_of_the_buffer():
    env, config = walk_env(), config_of(episodes=50)
    # x: 2 floats, time and end: 2 integers, nine times; 2 small actions and a reward, eight times
    assert memory.episode_bytes(env) == 9 * 16 + 8 * (2 + 4) + 4 + 1
    replay = memory.make(config, env)
    held = sum(x.nbytes for x in jax.tree.leaves(replay.init().experience))
    assert replay.num_bytes == held == 50 * memory.episode_bytes(env)
    assert all(x.size for x in jax.tree.leaves(replay.init()))


def test_memory_bounds_the_capacity_of_all_seeds_together():
    env = walk_env()
    assert memory.capacity(config_of(episodes=50), env) == 50
    fitting = 2**20 // memory.episode_bytes(env)
    assert memory.capacity(config_of(episodes=10**6), env) == fitting
    five = dataclasses.replace(config_of(episodes=10**6), seeds=5)
    assert memory.capacity(five, env) == 2**20 // 5 // memory.episode_bytes(env)


def test_a_buffer_that_holds_less_than_one_update_is_refused():
    env = walk_env()
    many = dataclasses.replace(config_of(episodes=10**6), seeds=5000)
    with pytest.raises(ValueError, match="q.memory=1: seeds=5000 with 4 episodes of walk each need 4 MiB"):
        memory.capacity(many, env)
    with pytest.raises(ValueError, match="q.episodes=3: must be at least num_envs and q.batch, 4"):
        memory.capacity(config_of(episodes=3), env)


def test_states_that_environments_share_are_refused():
    env = walk_env()
    shared = dataclasses.replace(env, reset=lambda key, n: {**env.reset(key, n), "wind": jnp.zeros(3)})
    with pytest.raises(ValueError, match="walk: a part of its state"):
        memory.batch_axes(shared)
