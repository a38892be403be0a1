"""Semantics of the batched SMAX core: limits, restarts, masks, rewards, starts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smax_battles import FAST_COMPILE, place, skirmish, step

from seca_jax import envs
from seca_jax.config import compose
from seca_jax.envs.smax import core, physics
from seca_jax.envs.smax.battle import STOP
from seca_jax.envs.smax.scenarios import SCENARIOS
from seca_jax.envs.smax.units import MARINE, TABLE, ZEALOT

QUICK = ["2s3z", "smacv2_5_units", "1c3s5z", "2c_vs_64zg", "MMM2"]
EVERY_MAP = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS]
fast_jit = functools.partial(jax.jit, compiler_options=FAST_COMPILE)


def _stay(env, num_envs):
    return jnp.full((num_envs, env.num_agents), STOP, jnp.int32)


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_shapes_and_ranges_of_every_map(map_name):
    env = core.make(map_name, reward_scale=10.0)

    @fast_jit
    def first_step(key):
        reset_key, step_key = jax.random.split(key)
        state = env.reset(reset_key, 3)
        following, outcome = env.step(step_key, state, _stay(env, 3))
        return env.view(state), env.view(following), outcome

    for view in first_step(jax.random.key(0))[:2]:
        assert view.obs.shape == (3, env.num_agents, env.obs_size) and view.obs.dtype == jnp.float32
        assert view.avail.shape == (3, env.num_agents, env.num_actions) and view.avail.dtype == bool
        assert view.state.shape == (3, env.state_size) and view.state.dtype == jnp.float32
        assert np.asarray(view.avail[..., STOP]).all()
        # A crowd at the edge may push a unit a little beyond it.
        assert np.abs(np.asarray(view.obs)).max() <= 1.1
        assert np.abs(np.asarray(view.state)).max() <= 1.1


def test_sizes_of_upstream_maps_are_upstreams():
    env = core.make("3s5z_vs_3s6z")
    assert (env.num_agents, env.num_actions, env.obs_size, env.state_size) == (8, 14, 16 * 13 + 10, 17 * 12)
    assert core.make("3s5z_vs_3s6z", observation="conic").obs_size == 64 * 13 + 10


@pytest.mark.parametrize(("limit", "transitions"), [("upstream", 101), ("smac", 43)])
def test_time_limit_truncates_at_the_last_transition_only(limit, transitions):
    """3m: upstream's limit of 100 fires on transition 101; SMAC's 60 steps of 0.357 s last 42.9 of 0.5 s."""
    env = core.make("3m", time_limit=limit)
    assert env.max_steps == transitions
    state = env.reset(jax.random.key(0), 2)
    state = state.replace(health=jnp.full_like(state.health, 1e9))  # nobody dies

    def body(state, key):
        state, outcome = env.step(key, state, _stay(env, 2))
        return state, outcome

    _, outcome = jax.lax.scan(body, state, jax.random.split(jax.random.key(1), transitions))
    truncated = np.asarray(outcome.truncated)
    assert not truncated[:-1].any() and truncated[-1].all()
    assert not np.asarray(outcome.terminated).any()


def test_a_battle_decided_at_the_limit_is_terminated_not_truncated():
    battle = skirmish((MARINE,), (ZEALOT,))
    state = place(battle, [(10.0, 16.0), (13.0, 16.0)], health=[45.0, 9.0])
    state = state.replace(step=jnp.full(1, battle.max_steps - 1, jnp.int32))
    _, outcome = step(battle, state, 5)
    assert outcome.terminated[0] and outcome.won[0] and not outcome.truncated[0]
    np.testing.assert_allclose(outcome.reward, 9 / 150 + 1, rtol=1e-6)


def test_both_sides_dying_at_once_is_no_win():
    battle = skirmish((MARINE,), (MARINE,))
    state = place(battle, [(10.0, 16.0), (13.0, 16.0)], health=[9.0, 9.0])
    _, outcome = step(battle, state, 5)
    assert outcome.terminated[0] and not outcome.won[0]
    np.testing.assert_allclose(outcome.reward, 9 / 45, rtol=1e-6)


def test_restart_renews_the_ended_and_leaves_the_others():
    env = core.make("2s3z")
    ended = jnp.array([True, False, False, True, False, True])

    @fast_jit
    def play(reset_key, step_key, restart_key):
        state, _ = env.step(step_key, env.reset(reset_key, 6), _stay(env, 6))
        return state, env.restart(restart_key, state, ended)

    state, after = play(*jax.random.split(jax.random.key(0), 3))
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after)):
        np.testing.assert_array_equal(np.asarray(old)[..., ~ended], np.asarray(new)[..., ~ended])
    np.testing.assert_array_equal(after.step, np.where(ended, 0, 1))
    renewed = np.asarray(after.x)[:, np.asarray(ended)]
    assert (renewed != np.asarray(state.x)[:, np.asarray(ended)]).all()
    assert len(np.unique(renewed[0])) == 3, "fresh episodes differ from one another"
    chosen = env.select(ended, after, state)
    for a, b in zip(jax.tree.leaves(chosen), jax.tree.leaves(after)):
        np.testing.assert_array_equal(a, b)


def test_conic_observations_hide_agent_0_and_show_the_dead():
    """Both upstream's: --help and the list of oddities tell of them."""
    env = core.make("3m", observation="conic")

    def seen_by_1(unit, x, health):
        state = env.reset(jax.random.key(0), 1)
        state = state.replace(
            x=jnp.array([[8.0], [10.0], [8.0], [30.0], [30.0], [30.0]]).at[unit].set(x),
            y=jnp.array([[16.0], [16.0], [20.0], [10.0], [16.0], [22.0]]),
            health=state.health.at[unit].set(health),
        )
        return np.asarray(env.view(state).obs)[0, 1, :-10]  # without what it knows of itself

    np.testing.assert_array_equal(seen_by_1(0, 8.0, 45.0), seen_by_1(0, 31.0, 45.0))
    near, away, dead = seen_by_1(2, 8.0, 45.0), seen_by_1(2, 31.0, 45.0), seen_by_1(2, 8.0, 0.0)
    assert near.any() and not away.any()
    assert dead.any() and np.sum(near != dead) == 1, "a corpse, but for its health"


def test_the_dead_may_only_stop_and_observe_nothing():
    env = core.make("3m")
    state = fast_jit(env.reset, static_argnums=1)(jax.random.key(0), 1)
    view = fast_jit(env.view)(state.replace(health=state.health.at[1].set(0.0)))
    np.testing.assert_array_equal(view.avail[0, 1], np.arange(8) == STOP)
    assert not np.asarray(view.obs[0, 1]).any()


def test_push_parts_two_overlapping_units_by_half_the_overlap_each():
    """Radii 0.5, centres 0.6 apart: overlap 0.4, so each moves 0.2 and they touch."""
    x, y = jnp.array([[10.0], [10.6], [20.0]]), jnp.full((3, 1), 16.0)
    health, radius = jnp.array([[1.0], [1.0], [1.0]]), np.full((3, 1), 0.5, np.float32)
    new_x, new_y = physics.push(x, y, health, radius, np.zeros(3, bool))
    np.testing.assert_allclose(new_x[:, 0], [9.8, 10.8, 20.0], atol=1e-4)
    np.testing.assert_allclose(new_y, y)
    dead, _ = physics.push(x, y, health.at[1].set(0.0), radius, np.zeros(3, bool))
    np.testing.assert_allclose(dead, x)


def test_every_weapon_fires_at_most_once_a_step():
    """What makes one random draw per unit and step enough: the shortest pause spans eight substeps."""
    shortest = TABLE.cooldown.min() - 1 / 16  # the luckiest deviation
    assert np.ceil(shortest * 16) + 1 >= 8


def test_cooldown_deviations_are_uniform_over_upstreams_range():
    battle = skirmish((MARINE,) * 8, (MARINE,) * 8)
    drawn = np.asarray(core.draw_noise(battle, jax.random.key(0), 4096, aim=False).cooldown).ravel()
    assert drawn.min() >= -1 / 16 and drawn.max() < 2 / 16
    assert abs(drawn.mean() - 0.5 / 16) < 1e-3 and abs(drawn.var() - (3 / 16) ** 2 / 12) < 1e-4


def test_smacv2_starts():
    """Half of the battles mirrored, half surrounded; enemy types copy the allies'."""
    env = core.make("smacv2_5_units")
    state = env.reset(jax.random.key(0), 4096)
    types = np.asarray(state.unit_type)
    np.testing.assert_array_equal(types[:5], types[5:])
    assert np.abs(np.bincount(types[:5].ravel(), minlength=6) / types[:5].size - 1 / 6).max() < 0.01
    x, y = np.asarray(state.x), np.asarray(state.y)
    mirrored = (np.abs(x[:5] + x[5:] - 32) < 1.5).all(0) & (np.abs(y[:5] - y[5:]) < 1.5).all(0)
    assert 0.45 < mirrored.mean() < 0.56
    centre = (np.abs(x - 16) < 4).all(0) | (np.abs(x[:5] - 16) < 4).all(0) | (np.abs(x[5:] - 16) < 4).all(0)
    assert (mirrored | centre).mean() > 0.99


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="did you mean '3s5z'"):
        core.make("3s5x")
    with pytest.raises(ValueError, match="env.opponent.*closest, random"):
        core.make("3m", opponent="furthest")


def test_frame_tells_targets():
    battle = skirmish((MARINE, MARINE), (MARINE, MARINE))
    state = place(battle, [(8, 16), (8, 18), (24, 16), (24, 18)])
    frame = core.frame(battle, state.replace(action=jnp.array([[6], [STOP], [5], [6]], jnp.int32)))
    np.testing.assert_array_equal(frame.target, [[3, -1, 1, 0]])
    assert frame.num_allies == 2 and frame.x.shape == (1, 4)


def test_battles_computed_in_parts_are_the_same(monkeypatch):
    env = core.make("MMM2")
    state = env.reset(jax.random.key(0), 6)
    action = jax.random.randint(jax.random.key(1), (6, env.num_agents), 0, 5)
    whole = fast_jit(lambda: env.step(jax.random.key(2), state, action))()
    monkeypatch.setattr(core, "num_chunks", lambda length, floats, limits: 3)
    parts = fast_jit(lambda: env.step(jax.random.key(2), state, action))()
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_battles_begin_from_one_key_of_either_kind_or_from_one_each():
    env = core.make("smacv2_5_units")
    typed, old = env.reset(jax.random.key(4), 3), env.reset(jax.random.PRNGKey(4), 3)
    jax.tree.map(np.testing.assert_array_equal, typed, old)
    keys = jax.random.split(jax.random.key(4), 3)
    forward, backward = env.reset(keys, 3), env.reset(keys[::-1], 3)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[..., ::-1]), forward, backward)
    assert len(np.unique(forward.x)) == forward.x.size


@pytest.mark.parametrize("backend", ["core", "upstream"])
def test_rules_of_the_configuration_reach_the_battle(backend):
    """Four substeps, a peaceful opponent, an edge that only stops, drawn types in facing teams."""
    words = ["env.walls_cause_death=false", "env.enemy_shoots=false", "env.world_steps=4"]
    words += ["map=3m", f"env.backend={backend}", "env.random_start=types", "env.won_battle_bonus=0"]
    env = envs.make(compose.from_words(words))
    north = jnp.zeros((4, 3), jnp.int32)

    @fast_jit
    def play(key):
        def step(state, key):
            state, outcome = env.step(key, state, north)
            return state, (env.frame(state), outcome)

        state = env.reset(key, 4)
        _, (frames, outcome) = jax.lax.scan(step, state, jax.random.split(key, 40))
        return env.frame(state), frames, outcome

    start, frames, outcome = play(jax.random.key(0))
    types = np.asarray(start.unit_type)
    assert len(np.unique(types)) > 1 and np.array_equal(types[:, :3], types[:, 3:])
    assert (np.abs(np.asarray(start.x)[:, :3] - 8) < 3).all()
    moved = np.asarray(frames.y[5] - frames.y[4])[:, :3]  # nobody stands in anybody's way any more
    np.testing.assert_allclose(moved, TABLE.velocity[types[:, :3]] * 4 / 16, atol=0.2)
    assert np.asarray(frames.alive).all() and (np.asarray(frames.y[-1])[:, :3] > 30).all()
    assert not np.asarray(outcome.reward).any()
