"""Learning from a window once the next ones are known: what waits, what is learned, from which returns."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import algos
from seca_jax.algos import actor_critic, mappo, policy, seca
from seca_jax.config import compose
from seca_jax.config.check import ConfigError, check
from seca_jax.envs import probes
from seca_jax.runtime.loop import train_numbers
from seca_jax.runtime.program import Tally

WINDOW, ENVS, AHEAD = 3, 4, 2
TINY = {
    "map": "delayed", "num_envs": ENVS, "window": WINDOW, "lookahead": AHEAD, "total_steps": 1_000,
    "actor.hidden": 8, "actor.epochs": 2, "actor.minibatches": 2, "critic.updates": 1,
    "critic.minibatches": 2, "critic.value_hidden": 8, "value.norm": True,
}  # fmt: skip


def config_of(algo, **changes):
    config = compose.compose({"algo": algo, **TINY, **changes})
    check(config)
    return config


@pytest.fixture(scope="module", params=["seca", "mappo"])
def trained(request):
    """(config, environment, states after each of six updates, metrics)."""
    config = config_of(request.param)
    env = probes.make(config.map)
    learner = algos.make(config, env)
    step = jax.jit(learner.train_step)
    states, logs = [jax.jit(learner.init)(jax.random.key(0))], []
    for _ in range(6):
        state, log = step(states[-1])
        states.append(state)
        logs.append(log)
    return config, env, states, logs


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_nothing_is_learned_before_the_first_window_knows_what_followed(trained):
    _, _, states, logs = trained
    for before, after in zip(states[:AHEAD], states[1:]):
        assert same(before.params, after.params)
    for before, after in zip(states[AHEAD:], states[AHEAD + 1 :]):
        assert not same(before.params.actor, after.params.actor)
        assert not same(before.params.critic, after.params.critic)
    assert all(float(log["finite"]) == 1.0 for log in logs)


def test_what_has_not_been_learned_has_no_numbers(trained):
    """Noughts in an update's metrics, and nothing in the line of a log that has such updates alone."""
    config, _, states, logs = trained
    for log in logs[:AHEAD]:
        assert not any(
            float(x) for name, x in log.items() if not name.startswith("sum/") and name != "finite"
        )
    assert all(float(log["entropy"]) > 0 for log in logs[AHEAD:])

    def line(made):
        sums = {name: np.array([sum(float(log[name]) for log in logs[:made])]) for name in logs[0]}
        tally = Tally(sums=sums, updates=np.array([made]), since=np.array([0]), broken_at=np.array([-1]))
        (row,) = train_numbers(tally, 1.0, np.asarray(states[made].updates)[None], config.lookahead)
        return row

    assert "train/entropy" not in line(AHEAD) and "train/length" in line(AHEAD)
    assert line(AHEAD + 1)["train/entropy"] == pytest.approx(float(logs[AHEAD]["entropy"]))


def test_steps_are_counted_as_they_are_played(trained):
    _, _, states, logs = trained
    assert [int(state.steps) for state in states] == [WINDOW * ENVS * i for i in range(7)]
    assert [float(log["sum/steps"]) for log in logs] == [WINDOW * ENVS] * 6


def test_windows_wait_in_the_order_in_which_they_were_played(trained):
    _, _, states, _ = trained
    for earlier, later in zip(states[1:], states[2:]):
        chex.assert_trees_all_equal(earlier.waiting[-1], later.waiting[-2])
    ages = np.concatenate([state.waiting[-1].age for state in states[1:]])
    # delayed's episodes always last 5 steps
    np.testing.assert_array_equal(ages, np.repeat(np.arange(WINDOW * 6)[:, None] % 5, ENVS, axis=1))


def test_returns_reach_into_the_later_windows(trained):
    """Eq. 10 by hand over the batch and what followed it."""
    config, env, states, _ = trained
    module = {"seca": seca, "mappo": mappo}[config.algo]
    critic = seca.team_critic(config, env) if module is seca else mappo.critic_of(config, env)
    parts = actor_critic.assemble(config, env, critic)
    rollout = states[3].waiting[0].replace(later=states[5].waiting)
    windows = [rollout, *rollout.later]
    found = actor_critic.td_targets(parts, states[5], rollout)
    assert found.values.shape == (WINDOW, ENVS)

    def value(window, tail=False):
        view, carry = (window.tail, window.tail_carry) if tail else (window.view, None)
        if tail:
            logits, _ = policy.logits_of(parts.agent, states[5].params.actor, carry, view.obs, view.avail)
            chosen, before = jax.nn.softmax(logits), carry.last_action
        else:
            chosen, before = jax.nn.one_hot(window.action, env.num_actions), window.last_action()
        f = critic.apply(states[5].target, critic.inputs(view, before))
        return np.asarray(critic.value(f, chosen))

    values = np.concatenate([value(window) for window in windows] + [value(windows[-1], tail=True)[:1]])
    reward, terminated, truncated = (
        np.concatenate([getattr(window, name) for window in windows])
        for name in ("reward", "terminated", "truncated")
    )
    limits = np.concatenate([np.repeat(value(window, tail=True)[1:], WINDOW, axis=0) for window in windows])
    following = np.where(truncated, limits, values[1:])
    y = following[-1]
    for t in reversed(range(len(reward))):
        mixed = np.where(truncated[t], following[t], config.lam * y + (1 - config.lam) * following[t])
        y = reward[t] + config.gamma * np.where(terminated[t], 0.0, mixed)
        if t < WINDOW:
            np.testing.assert_allclose(found.values[t], y, rtol=1e-4, atol=1e-5)


def test_a_batch_of_older_policies_is_weighed_and_clipped_around_the_present_one(trained):
    config, env, states, _ = trained
    agent = policy.make_agent(config, env)
    window = states[3].waiting[-1]
    advantage = jnp.arange(WINDOW * ENVS * env.num_agents, dtype=jnp.float32)
    advantage = advantage.reshape(WINDOW, ENVS, env.num_agents)
    then = policy.log_prob_of(window.extra, window.action)
    batch = policy.samples(window, policy.Judgement(advantage, then))
    # By the policies that played it nothing changes
    unchanged = policy.renewed(agent, states[2].params.actor, batch)
    chex.assert_trees_all_close(unchanged.data, batch.data, rtol=1e-5)
    later = policy.renewed(agent, states[6].params.actor, batch)
    now = policy.log_prob_of(policy.unrolled(agent, states[6].params.actor, window), window.action)
    np.testing.assert_allclose(later.data.log_prob, now, rtol=1e-5)
    weight = np.minimum(np.exp(now - then), 2.0)
    assert not np.allclose(weight, 1.0)
    np.testing.assert_allclose(later.data.advantage, weight * advantage, rtol=1e-5)


def test_whole_episodes_have_nothing_to_wait_for():
    with pytest.raises(ConfigError, match="lookahead=2: whole episodes"):
        config_of("seca", rollout="episode")
    config_of("qmix")  # does not read it
