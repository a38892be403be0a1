"""Credit by branching single steps, held against a battle that is stepped by hand."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "experiments"))

import simulator_credit as sim

from seca_jax import envs
from seca_jax.algos import actor_critic as phases
from seca_jax.algos.critic import team_critic
from seca_jax.config import compose

TINY = {
    "map": "3m", "num_envs": 4, "window": 6, "actor.hidden": 8, "critic.mixing": 8,
    "critic.hypernet_hidden": "8", "critic.value_hidden": 8, "critic.updates": 1, "actor.epochs": 1,
    "actor.minibatches": 1, "critic.minibatches": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    config = compose.compose({**TINY, **sim.SETTINGS["settings"], "critic.updates": 1})
    env = envs.make(config)
    return phases.assemble(config, sim.remembering(env), team_critic(config, env))


@pytest.fixture(scope="module")
def batch(parts):
    state = phases.init(parts, jax.random.key(0))
    return state, phases.collect(parts, state, jax.random.key(1))[1]


def test_differences_telescope_to_what_the_joint_action_changes(parts, batch):
    _, rollout = batch
    weight = jax.random.normal(jax.random.key(2), (parts.env.state_size,))
    found = jax.jit(lambda: sim.differences(parts, lambda s: s @ weight, rollout, jax.random.key(3)))()
    assert found.shape == (6, sim.BRANCHES, 4, 3)

    # One step by hand: all agents given, and none
    t = 2
    draw_key, step_key = jax.random.split(jax.random.split(jax.random.key(3), 6)[t])
    keys = jax.random.split(step_key, (sim.BRANCHES, 4))
    drawn = jax.random.categorical(draw_key, rollout.extra[t], shape=(sim.BRANCHES, 4, 3))
    battle = jax.tree.map(lambda x: jnp.moveaxis(x[t], 0, -1), rollout.view.battle)

    def worth(k, action):
        after, outcome = parts.env.step(keys[k], battle, action.astype(jnp.int32))
        following = jnp.where(outcome.terminated, 0.0, parts.env.view(after).state @ weight)
        return outcome.reward + parts.config.gamma * following

    for k in range(sim.BRANCHES):
        expected = worth(k, rollout.action[t]) - worth(k, drawn[k])
        np.testing.assert_allclose(found[t, k].sum(-1), expected, rtol=1e-4, atol=1e-4)


def test_halves_without_credit_share_nothing():
    noise = jax.random.normal(jax.random.key(0), (500, 4, 16, 3))
    found = sim.shares(noise, jnp.ones((500, 16)))
    assert abs(found["credit_share"]) < 0.02 and abs(found["joint_share"]) < 0.06
    found = sim.shares(noise + 2.0, jnp.ones((500, 16)))
    assert found["credit_share"] == pytest.approx(4.0, abs=0.1)
    assert found["joint_share"] == pytest.approx(36.0, abs=1.0)


def test_what_follows_is_of_the_own_episode():
    joint = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    linked = np.array([[1, 1], [0, 1], [1, 1], [1, 0]], bool)
    found = sim.of_later_steps(jnp.asarray(joint), jnp.asarray(linked), 0.5)
    np.testing.assert_allclose(found[:, 0], np.array([
        0.5 * joint[1, 0], 0.0, 0.5 * joint[3, 0] + 0.25 * joint[4, 0], 0.5 * joint[4, 0], 0.0,
    ]), rtol=1e-6)  # fmt: skip
    first = sum(0.5**k * joint[k, 1] for k in (1, 2, 3))
    np.testing.assert_allclose(found[[0, 3, 4], 1], [first, 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("later", [False, True])
def test_it_trains(parts, batch, later):
    state, log = jax.jit(lambda state: sim.update(parts, state, later))(batch[0])
    assert log["finite"] == 1.0 and int(state.updates) == 1
    assert 0.0 < log["advantage_rms"]
