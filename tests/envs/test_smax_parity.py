"""The core against jaxmarl's SMAX: same states, same actions, same random numbers, whole battles."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smax_battles import FAST_COMPILE
from upstream_oracle import batched_noise, to_core, upstream

from seca_jax.envs import upstream as adapter
from seca_jax.envs.smax import core, observation
from seca_jax.envs.smax.battle import Noise, make_battle
from seca_jax.envs.smax.scenarios import SCENARIOS, max_steps

BATTLES = 9
QUICK = ["2s3z", "smacv2_5_units"]
SLOW = [name for name, scenario in SCENARIOS.items() if scenario.upstream and name not in QUICK]
MAPS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


class _Record(NamedTuple):
    """One upstream step of all battles; ``obs`` and ``world`` belong to ``following``."""

    state: Any
    avail: jax.Array
    action: jax.Array
    noise: Noise
    following: Any
    obs: jax.Array
    world: jax.Array
    reward: jax.Array
    done: jax.Array
    live: np.ndarray


@functools.cache
def _play(map_name: str, opponent: str):
    """Upstream's battles from start to end, as a list of records with every step's inputs and results.

    Allies fire whenever they can in the first third of the battles, take random legal actions in the
    second, and run north into the wall in the last.
    """
    env = upstream(map_name, opponent=opponent)
    names = env.agents
    third = np.arange(BATTLES) // (BATTLES // 3)

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def step(key, state):
        act_key, step_key = jax.random.split(key)
        masks = jax.vmap(env.get_avail_actions)(state)
        avail = jnp.stack([masks[name] for name in names], axis=1)
        number = np.arange(avail.shape[-1])
        liking = 2.0 * np.where(third[:, None] == 0, number >= 5, (third[:, None] == 2) & (number == 0))
        weight = jax.random.uniform(act_key, avail.shape) + liking[:, None]
        action = jnp.argmax(avail * weight, axis=-1)
        keys = jax.random.split(step_key, BATTLES)
        obs, following, reward, done, _ = jax.vmap(env.step_env)(
            keys, state, {name: action[:, i] for i, name in enumerate(names)}
        )
        noise = batched_noise(keys, env.num_allies, env.num_enemies, aim=opponent == "random")
        obs = jnp.stack([obs[name] for name in names], axis=1), obs["world_state"]
        return avail, action, noise, obs, following, reward[names[0]], done["__all__"]

    key = jax.random.key(sum(map_name.encode()))
    key, reset_key = jax.random.split(key)
    reset = jax.jit(jax.vmap(env.reset), compiler_options=FAST_COMPILE)
    _, state = reset(jax.random.split(reset_key, BATTLES))
    records, over = [], np.zeros(BATTLES, bool)
    while not over.all():
        key, step_key = jax.random.split(key)
        avail, action, noise, obs, following, reward, done = step(step_key, state)
        records.append(_Record(state, avail, action, noise, following, *obs, reward, done, ~over))
        over = over | np.asarray(done)
        state = following
    return records


def _battle(map_name: str):
    return make_battle(SCENARIOS[map_name], max_steps(SCENARIOS[map_name], "upstream"))


def _check_state(ours, theirs, live, tolerance):
    for name in ("x", "y", "health", "cooldown", "goal_x", "goal_y"):
        np.testing.assert_allclose(
            np.asarray(getattr(ours, name))[:, live], np.asarray(getattr(theirs, name))[:, live],
            rtol=0, atol=tolerance, err_msg=name,
        )  # fmt: skip
    for name in ("action", "victim", "step"):
        mine, expected = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
        np.testing.assert_array_equal(mine[..., live], expected[..., live], err_msg=name)


CASES = [
    *((name, "closest") for name in QUICK),
    (QUICK[0], "random"),
    *(pytest.param(name, kind, marks=pytest.mark.slow) for name in SLOW for kind in ("closest", "random")),
]


@pytest.mark.parametrize(("map_name", "opponent"), CASES)
def test_every_step_agrees_from_the_same_state(map_name, opponent):
    env = upstream(map_name, opponent=opponent)
    battle = _battle(map_name)
    drawn = SCENARIOS[map_name].random_start
    step = jax.jit(functools.partial(core.transition, battle), compiler_options=FAST_COMPILE)
    fell_at_wall = False
    for record in _play(map_name, opponent):
        live = record.live
        ours, outcome = step(to_core(env, record.state, drawn), record.action, record.noise)
        _check_state(ours, to_core(env, record.following, drawn), live, 2e-4)
        np.testing.assert_allclose(
            np.asarray(outcome.reward)[live], np.asarray(record.reward)[live], atol=2e-5
        )
        ended = np.asarray(outcome.terminated | outcome.truncated)
        np.testing.assert_array_equal(ended[live], np.asarray(record.done)[live])
        alive = np.asarray(record.following.state.unit_alive)
        won = ~alive[:, env.num_allies :].any(1) & alive[:, : env.num_allies].any(1)
        np.testing.assert_array_equal(np.asarray(outcome.won)[live], won[live])
        fell_at_wall |= (np.asarray(record.following.state.unit_positions)[live, :, 1] >= 32).any()
    assert fell_at_wall, "no battle covered the walls"


COPIES = 6


@pytest.mark.parametrize("map_name", MAPS)
def test_whole_battles_agree_where_rounding_does_not_decide_them(map_name):
    """Only the first state is shared, so rounding accumulates.

    Two units that are pushed apart from nearly the same point fly off in a direction that rounding
    decides, and the battle goes its own way from there. So the core plays every battle ``COPIES``
    times more, from positions moved by a millionth of a cell: battles whose copies stay together
    must stay with upstream's to the very end, and the others until their copies part.
    """
    env = upstream(map_name)
    drawn = SCENARIOS[map_name].random_start
    step = jax.jit(functools.partial(core.transition, _battle(map_name)), compiler_options=FAST_COMPILE)
    records = _play(map_name, "closest")
    copied = functools.partial(jax.tree.map, lambda plane: jnp.repeat(plane, COPIES + 1, axis=-1))
    ours = copied(to_core(env, records[0].state, drawn))
    nudge = 1e-6 * jax.random.normal(jax.random.key(0), (2, *ours.x.shape))
    nudge = nudge * (jnp.arange(ours.x.shape[1]) % (COPIES + 1) > 0)
    ours = ours.replace(x=ours.x + nudge[0], y=ours.y + nudge[1])
    together, parted = np.ones(BATTLES, bool), np.zeros(BATTLES, bool)
    compared = 0
    for record in records:
        ours, outcome = step(ours, jnp.repeat(record.action, COPIES + 1, axis=0), copied(record.noise))
        theirs = to_core(env, record.following, drawn)
        ended = np.asarray(outcome.terminated | outcome.truncated).reshape(BATTLES, -1)
        near = ended[:, 0] == np.asarray(record.done)
        for name in ("x", "y", "health", "cooldown"):
            played = np.asarray(getattr(ours, name)).reshape(-1, BATTLES, COPIES + 1)
            together &= (np.abs(played - played[..., :1]) < 1e-3).all((0, 2)) | ~record.live
            near &= (np.abs(played[..., 0] - np.asarray(getattr(theirs, name))) < 1e-2).all(0)
        parted |= record.live & together & ~near
        compared += int((record.live & together).sum())
    assert not parted.any(), parted
    assert compared >= 0.3 * sum(int(record.live.sum()) for record in records), "too little left to compare"


@pytest.mark.parametrize("map_name", MAPS)
def test_views_agree(map_name):
    env = upstream(map_name)
    drawn = SCENARIOS[map_name].random_start
    battle = _battle(map_name)

    @jax.jit
    def view(state):
        world = observation.world_state(battle, state, scaled=False)
        return observation.unit_list(battle, state), world, observation.available(battle, state)

    for record in _play(map_name, "closest"):
        obs, world, _ = view(to_core(env, record.following, drawn))
        np.testing.assert_allclose(
            np.asarray(obs)[record.live], np.asarray(record.obs)[record.live], atol=1e-5
        )
        np.testing.assert_allclose(
            np.asarray(world)[record.live], np.asarray(record.world)[record.live], atol=1e-5
        )
        avail = view(to_core(env, record.state, drawn))[2]
        np.testing.assert_array_equal(
            np.asarray(avail)[record.live], np.asarray(record.avail, bool)[record.live]
        )


def _on_a_border(state, env) -> np.ndarray:
    """Battles in which rounding decides a conic section: a unit within 1e-5 sections of a border."""
    position = np.asarray(state.state.unit_positions, np.float64)
    offset = position[:, None] - position[:, : env.num_allies, None]
    section = (np.arctan2(offset[..., 1], offset[..., 0]) + np.pi) / (2 * np.pi) * observation.SECTIONS
    other = np.arange(position.shape[1]) != np.arange(env.num_allies)[:, None]
    return (other & (np.abs(section - np.round(section)) < 1e-5)).any((1, 2))


@pytest.mark.parametrize("map_name", MAPS)
def test_conic_observations_agree(map_name):
    env = upstream(map_name)
    drawn = SCENARIOS[map_name].random_start
    theirs = upstream(map_name, "conic")
    observe = jax.jit(functools.partial(observation.conic, _battle(map_name)))
    get_obs = jax.jit(jax.vmap(theirs._env.get_obs_conic), compiler_options=FAST_COMPILE)
    for record in _play(map_name, "closest")[::4]:
        obs = get_obs(record.state.state)
        expected = np.stack([np.asarray(obs[name]) for name in env.agents], axis=1)
        clear = record.live & ~_on_a_border(record.state, env)
        np.testing.assert_allclose(
            np.asarray(observe(to_core(env, record.state, drawn)))[clear], expected[clear], atol=1e-5
        )


@pytest.mark.parametrize("map_name", MAPS)
def test_pictures_agree(map_name):
    """A run on jaxmarl's simulator is drawn as one on the core would be."""
    drawn = SCENARIOS[map_name].random_start
    battle, theirs = _battle(map_name), jax.jit(adapter.make(SCENARIOS[map_name]).frame)
    ours = jax.jit(lambda state: core.frame(battle, state))
    shots = 0
    for record in _play(map_name, "closest")[::6]:
        pictures = ours(to_core(upstream(map_name), record.following, drawn)), theirs(record.following)
        assert pictures[0].ridge == pictures[1].ridge
        for name, expected in vars(pictures[1]).items():
            if name != "ridge":
                got = np.asarray(getattr(pictures[0], name))
                np.testing.assert_allclose(got, np.asarray(expected), atol=1e-5, err_msg=name)
        shots += int((np.asarray(pictures[1].target) >= 0).sum())
    assert shots
