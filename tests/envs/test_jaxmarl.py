"""The core behind jaxmarl's interface: step for step with jaxmarl's own environment, whole under any vmap."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smax_battles import FAST_COMPILE
from upstream_oracle import batched_noise, to_core, upstream

from seca_jax import envs
from seca_jax.envs import jaxmarl
from seca_jax.envs.smax import core
from seca_jax.envs.smax.battle import STOP
from seca_jax.envs.smax.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "jaxmarl.md"
fast_jit = functools.partial(jax.jit, compiler_options=FAST_COMPILE)
BATTLES, STEPS = 6, 45
SLOW = ["3m", "3s5z_vs_3s6z", "6h_vs_8z", "smacv2_10_units"]
BLIND = dict(
    see_enemy_actions=False,
    walls_cause_death=False,
    won_battle_bonus=3.0,
    world_steps_per_env_step=11,
    time_per_step=0.1,
    unit_type_sight_ranges=(9.0, 7.0, 8.0, 7.5, 8.0, 9.0),
    unit_type_weapon_cooldowns=(0.4, 0.9, 0.8, 0.7, 0.5, 0.6),
    max_steps=30,
)
MILD = dict(
    enemy_shoots=False,
    smacv2_unit_type_generation=True,
    unit_type_velocities=(4.0, 3.0, 4.5, 3.5, 4.0, 3.0),
    unit_type_attacks=(20.0, 30.0, 25.0, 18.0, 15.0, 22.0),
    unit_type_attack_ranges=(5.5, 6.5, 7.0, 2.5, 2.0, 5.0),
    unit_type_radiuses=(0.4, 0.5, 0.7, 0.6, 0.3, 0.5),
    unit_type_health=(55.0, 100.0, 140.0, 120.0, 45.0, 70.0),
)
CASES = [
    ("2s3z", "unit_list", "closest", {}),
    ("smacv2_5_units", "unit_list", "random", {}),
    ("2s3z", "unit_list", "closest", BLIND),
    ("3m", "unit_list", "closest", MILD),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("5m_vs_6m", "conic", "closest", {}),
            ("5m_vs_6m", "conic", "random", BLIND),
            ("3m", "unit_list", "closest", dict(smacv2_position_generation=True)),
            *((name, "unit_list", "closest", {}) for name in SLOW),
        )
    ),
]


def stacked(by_agent, agents):
    return np.stack([np.asarray(by_agent[agent]) for agent in agents], axis=-1)


def played(env):
    """Upstream's battles, stepped by its auto-resetting ``step``: inputs and results, [T * B] of each."""
    agents = env.agents

    def step(carry, key):
        state, _ = carry
        act_key, step_key = jax.random.split(key)
        avail = jax.vmap(env.get_avail_actions)(state)
        third, number = np.arange(BATTLES)[:, None] % 3, np.arange(env.num_ally_actions)
        liking = 2.0 * np.where(third == 0, number >= 5, (third == 1) & (number == 0))
        drawn = jax.random.uniform(act_key, (len(agents), *liking.shape)) + liking  # shoot, go north, or any
        actions = {a: jnp.argmax(drawn[i] * avail[a], axis=-1) for i, a in enumerate(agents)}
        keys = jax.random.split(step_key, BATTLES)
        found = jax.vmap(env.step)(keys, state, actions)
        without_reset = jax.vmap(env.step_env)(jax.vmap(jax.random.split)(keys)[:, 0], state, actions)
        return (found[1], found[0]), (keys, state, actions, avail, found, without_reset)

    @fast_jit
    def play(key):
        reset_key, key = jax.random.split(key)
        obs, state = jax.vmap(env.reset)(jax.random.split(reset_key, BATTLES))
        _, records = jax.lax.scan(step, (state, obs), jax.random.split(key, STEPS))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), records)

    return play(jax.random.PRNGKey(3))


@pytest.mark.parametrize(("map_name", "observation", "opponent", "options"), CASES)
def test_every_step_is_upstreams_from_the_same_state(map_name, observation, opponent, options, monkeypatch):
    theirs = upstream(map_name, observation, opponent, **options)
    drawn = {name: value for name, value in options.items() if name.startswith("smacv2")}
    others = {name: value for name, value in options.items() if name not in drawn}
    scenario = jaxmarl.map_name_to_scenario(map_name)
    scenario = scenario._replace(
        random_start=drawn.get("smacv2_position_generation", scenario.random_start),
        random_types=drawn.get("smacv2_unit_type_generation", scenario.random_types),
    )
    ours = jaxmarl.HeuristicEnemySMAX(
        scenario=scenario, observation_type=observation, attack_mode=opponent, **others
    )
    agents = theirs.agents
    assert ours.agents == agents and ours.num_agents == theirs.num_agents and ours.name == theirs.name
    assert ours.max_steps == theirs.max_steps and ours.state_size == theirs.state_size
    for agent in agents:
        assert ours.action_space(agent).n == theirs.action_space(agent).n
        assert ours.observation_space(agent).shape == theirs.observation_space(agent).shape

    def luck(battle, key, num_envs, *, aim):
        noise = batched_noise(
            key, battle.num_allies, battle.num_enemies, aim=aim, substeps=battle.rules.world_steps
        )
        return noise.replace(cooldown=noise.cooldown * battle.rules.step_seconds * 16)

    monkeypatch.setattr(core, "draw_noise", luck)  # upstream's random numbers, from the same keys
    keys, state, actions, avail, found, without_reset = played(theirs)
    planes = to_core(theirs, state, scenario.random_types)
    mine = jaxmarl.State(jax.tree.map(lambda x: x.swapaxes(0, -1), planes))

    @fast_jit
    def answers():
        own_keys = jax.vmap(jax.random.split)(keys)[:, 0]
        return (
            jax.vmap(ours.get_avail_actions)(mine),
            jax.vmap(ours.step)(keys, mine, actions),
            jax.vmap(ours.step_env)(own_keys, mine, actions),
        )

    own_avail, stepped, stepped_env = answers()
    np.testing.assert_array_equal(stacked(own_avail, agents), stacked(avail, agents))
    assert own_avail[agents[0]].dtype == avail[agents[0]].dtype
    ended = np.asarray(found[3]["__all__"])
    assert ended.any() and not ended.all()
    for own, their, live in ((stepped, found, ~ended), (stepped_env, without_reset, ended | ~ended)):
        assert own[0].keys() == their[0].keys() and own[3].keys() == their[3].keys() and own[4] == their[4]
        forms = [jax.tree.map(lambda x: (x.shape, x.dtype), (out[0], *out[2:4])) for out in (own, their)]
        assert forms[0] == forms[1]
        if observation == "conic":  # at a section's border rounding decides who is in it
            wrong = np.abs(stacked(own[0], agents) - stacked(their[0], agents)).max((1, 2)) > 1e-4
            assert wrong[live].mean() < 0.02
        else:
            for name in agents:
                np.testing.assert_allclose(own[0][name][live], their[0][name][live], atol=1e-4)
        np.testing.assert_allclose(own[0]["world_state"][live], their[0]["world_state"][live], atol=5e-4)
        for name in agents:
            np.testing.assert_allclose(own[2][name], their[2][name], atol=2e-5)
            np.testing.assert_array_equal(own[3][name], their[3][name])
        np.testing.assert_array_equal(own[3]["__all__"], their[3]["__all__"])
    fresh = stepped[1].step == 0
    np.testing.assert_array_equal(fresh, ended)
    np.testing.assert_array_equal(found[1].state.step, stepped[1].step)
    full = np.asarray(stepped[0]["world_state"]).reshape(len(ended), -1)[fresh, 0]
    np.testing.assert_array_equal(full, 1.0)


@pytest.fixture(scope="module")
def env():
    return envs.jaxmarl_api("2s3z")


def stop(env, *shape):
    return {agent: jnp.full(shape, STOP) for agent in env.agents}


def test_a_batch_of_battles_is_those_battles_one_by_one(env):
    keys = jax.random.split(jax.random.PRNGKey(0), 6)

    def one(key):
        return env.step(key, env.reset(key)[1], stop(env))

    alone = fast_jit(one)
    singly = jax.tree.map(lambda *x: jnp.stack(x), *(alone(key) for key in keys))
    together = fast_jit(jax.vmap(one))(keys)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), singly, together)
    seeds = fast_jit(jax.vmap(jax.vmap(one)))(keys.reshape(2, 3, -1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.reshape(b.shape), b, atol=1e-5), seeds, together)


def test_arguments_that_are_not_mapped_over_are_shared(env):
    key = jax.random.key(1)
    _, state = env.reset(key)
    walk = {agent: jnp.arange(4) for agent in env.agents}
    one_state = fast_jit(jax.vmap(env.step_env, in_axes=(None, None, 0)))(key, state, walk)
    assert one_state[2]["ally_0"].shape == (4,)
    alone = fast_jit(env.step_env)(key, state, {agent: jnp.array(2) for agent in env.agents})
    np.testing.assert_allclose(one_state[0]["world_state"][2], alone[0]["world_state"], atol=1e-5)
    assert not np.allclose(one_state[0]["world_state"][0], alone[0]["world_state"], atol=0.1)
    keys = jax.random.split(key, 4)
    some = fast_jit(jax.vmap(lambda key, a: env.step_env(key, state, {**stop(env), "ally_1": a})))
    assert some(keys, jnp.arange(4))[0]["world_state"].shape == (4, env.state_size)


def test_a_key_of_either_kind_is_the_same_key(env):
    old, new = env.reset(jax.random.PRNGKey(5)), env.reset(jax.random.key(5))
    jax.tree.map(np.testing.assert_array_equal, old, new)


def test_the_function_under_vmap_is_asked_once_for_everybody():
    sizes = []

    @jaxmarl.batched
    def double(x, y):
        sizes.append(len(x["rows"]))
        return {"sum": 2 * x["rows"] + y}

    def one(x, y):
        return jax.tree.map(lambda z: z[0], double({"rows": x[None]}, y[None]))

    x, y = jnp.arange(12.0).reshape(3, 4), jnp.arange(3.0)
    found = jax.jit(jax.vmap(jax.vmap(one, in_axes=(0, None))))(x, y)
    np.testing.assert_array_equal(found["sum"], 2 * x + y[:, None])
    assert sizes[-1] == 12

    def scanned(x):
        return jax.lax.scan(lambda carry, _: (one(carry, x)["sum"], None), x, None, length=3)[0]

    np.testing.assert_array_equal(jax.vmap(jax.vmap(scanned))(x), 15 * x)
    assert sizes[-1] == 12


def test_an_ended_battle_is_followed_by_the_one_that_is_asked_for(env):
    key = jax.random.PRNGKey(2)
    _, state = env.reset(key)
    _, following = env.reset(jax.random.PRNGKey(3))
    last = state.replace(planes=state.planes.replace(step=jnp.array(env.max_steps, jnp.int32)))
    obs, after, _, done, _ = env.step(key, last, stop(env), following)
    assert done["__all__"] and not done["ally_0"]
    jax.tree.map(np.testing.assert_array_equal, after, following)
    np.testing.assert_array_equal(obs["ally_2"], env.get_obs(following)["ally_2"])
    np.testing.assert_array_equal(obs["world_state"], env.get_world_state(following))
    _, after, _, done, _ = env.step(key, state, stop(env), following)
    assert not done["__all__"] and after.step == 1
    assert env.is_terminal(env.step_env(key, last, stop(env))[1]) and not env.is_terminal(state)


def test_a_policy_gradient_passes_by_the_environment(env):
    def loss(logits):
        def step(state, key):
            action = jax.random.categorical(key, logits)
            obs, state, reward, _, _ = env.step(key, state, dict.fromkeys(env.agents, action))
            return state, jax.nn.log_softmax(logits)[action] * (reward["ally_0"] + obs["ally_0"][-1])

        state = env.reset(jax.random.key(0))[1]
        return jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 3))[1].sum()

    losses = jax.vmap(jax.grad(loss))(jnp.zeros((2, env.num_ally_actions)))
    assert losses.shape == (2, env.num_ally_actions) and np.isfinite(losses).all()


@pytest.mark.parametrize("map_name", ["1c3s5z", "2c_vs_64zg", "MMM2"])
def test_maps_that_jaxmarl_lacks(map_name):
    env = jaxmarl.make("HeuristicEnemySMAX", scenario=jaxmarl.map_name_to_scenario(map_name))
    assert env.max_steps == SCENARIOS[map_name].max_steps - 1

    @fast_jit
    def first(keys):
        _, state = jax.vmap(env.reset)(keys)
        return jax.vmap(env.get_avail_actions)(state), jax.vmap(env.step)(keys, state, stop(env, 2))

    avail, (obs, state, _, done, _) = first(jax.random.split(jax.random.PRNGKey(0), 2))
    for agent in env.agents:
        assert obs[agent].shape == (2, *env.observation_space(agent).shape)
        assert avail[agent].shape == (2, env.action_space(agent).n)
    assert obs["world_state"].shape == (2, env.state_size) and not done["__all__"].any()
    assert state.unit_positions.shape == (2, env.num_allies + env.num_enemies, 2) and state.unit_alive.all()


def test_scenarios_of_jaxmarls_are_understood():
    from jaxmarl.environments import smax

    known = jaxmarl.HeuristicEnemySMAX(scenario=smax.map_name_to_scenario("5m_vs_6m"), see_enemy_actions=True)
    assert known.battle.scenario is SCENARIOS["5m_vs_6m"]
    types = np.array([0, 3, 5], np.uint8)
    own = jaxmarl.HeuristicEnemySMAX(scenario=smax.smax_env.Scenario(types, 1, 2, False, False), max_steps=9)
    assert own.battle.scenario.allies == (0,) and own.battle.scenario.enemies == (3, 5)
    assert own.max_steps == 9 and own.battle.max_steps == 10
    assert jaxmarl.make("HeuristicEnemySMAX").num_enemies == 5
    assert type(jaxmarl.make("MPE_simple_v3")).__module__.startswith("jaxmarl.")


def test_what_the_core_does_not_have_is_refused_by_name():
    with pytest.raises(ValueError, match="map_width=40.*32"):
        envs.jaxmarl_api("3m", map_width=40)
    with pytest.raises(TypeError, match="'colour'"):
        envs.jaxmarl_api("3m", colour="red")
    with pytest.raises(ValueError, match="attack_mode='nearest'.*closest, random"):
        envs.jaxmarl_api("3m", attack_mode="nearest")
    with pytest.raises(ValueError, match="did you mean '2s3z'"):
        envs.jaxmarl_api("2s3")


def test_jaxmarls_wrappers_take_it(env):
    wrappers = pytest.importorskip("jaxmarl.wrappers.baselines")
    key = jax.random.PRNGKey(0)
    for wrapper in (wrappers.LogWrapper, wrappers.SMAXLogWrapper):
        wrapped = wrapper(env)
        manager = wrappers.CTRolloutManager(wrapped, batch_size=3)

        @fast_jit
        def run(key, wrapped=wrapped, manager=manager):
            _, state = manager.batch_reset(key)
            avail = manager.get_valid_actions(state.env_state)
            return avail, manager.batch_step(key, state, stop(wrapped, 3))

        avail, (obs, state, reward, _, info) = run(key)
        assert avail["ally_0"].shape == (3, env.num_ally_actions)
        assert obs["__all__"].shape == (3, env.state_size)
        assert obs["ally_0"].shape == (3, env.obs_size + env.num_agents)
        np.testing.assert_array_equal(reward["__all__"], reward["ally_0"])
        assert info["returned_episode"].shape == (3, env.num_agents)
        np.testing.assert_array_equal(state.episode_lengths, 1)


def test_the_page_does_what_it_says():
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert examples
    scope = {}
    for example in examples:
        exec(example, scope)
