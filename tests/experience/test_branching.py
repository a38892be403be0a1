"""The truth about credit against games that can be enumerated, and battles against their own replay."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.envs import particle, probes
from seca_jax.envs.base import take
from seca_jax.envs.smax import core
from seca_jax.experience import branching
from seca_jax.experience.moments import Moments
from seca_jax.types import Carry

GAMMA = 0.9


def sampler(params, carry, obs, avail, key, greedy):
    """Every agent draws from its own row of ``params`` [N, A] whatever it sees."""
    logits = jnp.broadcast_to(params, avail.shape)
    action = jnp.argmax(logits, -1) if greedy else jax.random.categorical(key, logits)
    return action.astype(jnp.int32), Carry(carry.hidden + 1.0, action.astype(jnp.int32))


def nothing(moments, num_agents):
    return Carry(jnp.zeros((moments, num_agents, 1)), jnp.full((moments, num_agents), -1, jnp.int32))


def enumerated(pay, policy, action, coalition):
    """E[pay(u)] with the coalition's actions fixed and the others' drawn from ``policy`` [N, A]."""
    total = 0.0
    for joint in itertools.product(range(policy.shape[1]), repeat=policy.shape[0]):
        chance = 1.0
        for agent, own in enumerate(joint):
            chance *= float(own == action[agent]) if agent in coalition else policy[agent, own]
        total += chance * pay(joint)
    return total


GAMES = {
    # what the first joint action is worth from the episode's start on, seen private features
    "matrix": lambda private: lambda u: float(probes.CLIMB[u]),
    "one_step": lambda private: lambda u: float(np.mean(np.argmax(private, -1) == np.array(u))),
    "delayed": lambda private: lambda u: GAMMA**4 * float(u[0] != u[1]),
    "leader": lambda private: lambda u: float((u[0] == (private[0, 0] > 0)) * (1.0 + 0.25 * (u[1] == u[0]))),
}


def play(name, moments, branches, seed=0):
    """A game's truth at ``moments`` copies of one state, everybody's policy drawn once."""
    env = probes.make(name)
    rng = np.random.default_rng(seed)
    # Not too sure of themselves: means of 512 rare events are skewed, and no interval of theirs is normal
    logits = 0.5 * rng.normal(size=(env.num_agents, env.num_actions)).astype(np.float32)
    policy = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    action = rng.integers(env.num_actions, size=env.num_agents)
    order = rng.permutation(env.num_agents)
    state = take(env, env.reset(jax.random.key(seed), 1), jnp.zeros(moments, jnp.int32))
    truth = branching.truth(
        env,
        sampler,
        jnp.asarray(logits),
        state,
        nothing(moments, env.num_agents),
        jnp.broadcast_to(jnp.asarray(action, jnp.int32), (moments, env.num_agents)),
        np.broadcast_to(order, (moments, env.num_agents)),
        jax.random.key(seed + 1),
        branches,
        gamma=GAMMA,
    )
    pay = GAMES[name](np.asarray(state.private[0]))
    return truth, lambda coalition: enumerated(pay, policy, action, coalition), order


def answers(worth, order):
    """Every term by its definition, from expected returns of coalitions."""
    agents = range(len(order))
    full, nobody = worth(set(agents)), worth(set())
    sequential = np.zeros(len(order))
    for place, agent in enumerate(order):
        sequential[agent] = worth(set(order[: place + 1])) - worth(set(order[:place]))
    orders = list(itertools.permutations(agents))
    shapley = np.zeros(len(order))
    for turn in orders:
        for place, agent in enumerate(turn):
            shapley[agent] += (worth(set(turn[: place + 1])) - worth(set(turn[:place]))) / len(orders)
    return {
        "value": nobody,
        "q": full,
        "sequential": sequential,
        "coma": np.array([full - worth(set(agents) - {a}) for a in agents]),
        "marginal": np.array([worth({a}) - nobody for a in agents]),
        "joint": np.full(len(order), full - nobody),
        "shapley": shapley,
    }


def named(truth):
    return {**truth._asdict(), "sequential": truth.sequential[""]}


@pytest.mark.parametrize("name", GAMES)
def test_intervals_cover_enumerated_answers(name):
    """95 % intervals of every term hold the exact answer in 95 % of 200 independent repetitions."""
    truth, worth, order = play(name, moments=200, branches=512)
    for term, exact in answers(worth, order).items():
        found = named(truth)[term]
        off = np.abs(found.mean - exact)
        inside = off <= 1.96 * found.error + 1e-6
        rate = inside.mean(axis=0)
        assert np.all(rate > 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / 200)), (term, rate)
        # Not by being wide: the spread of the repetitions is what the errors say
        spread = found.mean.std(axis=0, ddof=1)
        assert np.allclose(spread, found.error.mean(axis=0), rtol=0.2, atol=1e-6), term
        assert np.allclose(found.mean.mean(axis=0), exact, atol=4 * spread.max() / np.sqrt(200) + 1e-6), term


def test_halves_are_independent_and_agree():
    truth, _, _ = play("matrix", moments=400, branches=64)
    for term, found in named(truth).items():
        assert np.allclose(found.halves.mean(axis=0), found.mean), term
        apart = found.halves[0] - found.halves[1]
        assert np.allclose(apart.std(axis=0), 2 * found.error.mean(axis=0), rtol=0.2, atol=1e-7), term
        noise = found.halves - found.halves.mean(axis=1, keepdims=True)
        within = np.mean(noise[0] * noise[1]) / max(np.mean(noise**2), 1e-12)
        assert abs(within) < 0.25, term


def test_what_everybody_would_do_anyway_is_worth_exactly_nothing():
    env = probes.make("delayed")
    sure = jnp.array([[0.0, -1e9], [-1e9, 0.0]])
    states = env.reset(jax.random.key(0), 3)
    action = jnp.broadcast_to(jnp.array([0, 1], jnp.int32), (3, 2))
    order = np.broadcast_to(np.arange(2), (3, 2))
    args = (env, sampler, sure, states, nothing(3, 2), action, order, jax.random.key(1), 8)
    truth = branching.truth(*args, gamma=GAMMA)
    for found in (truth.sequential[""], truth.coma, truth.marginal, truth.joint, truth.shapley):
        assert np.all(found.mean == 0) and np.all(found.error == 0)
    assert np.allclose(truth.q.mean, GAMMA**4)


@pytest.fixture(scope="module")
def battles():
    """Moments of 3m battles some way in, and a policy that depends on what is seen and remembered."""
    env = core.make("3m", reward_scale=10.0)

    def act(params, carry, obs, avail, key, greedy):
        hidden = jnp.tanh(0.5 * carry.hidden + jnp.mean(obs, axis=-1, keepdims=True))
        logits = jnp.where(avail, params * hidden, -1e9)
        action = jax.random.categorical(key, logits).astype(jnp.int32)
        return action, Carry(hidden, action)

    params = jnp.linspace(-3.0, 3.0, env.num_actions)
    carry = nothing(4, env.num_agents)
    states = env.reset(jax.random.key(0), 4)
    for t in range(5):
        view = env.view(states)
        key, step_key = jax.random.split(jax.random.key(t))
        action, carry = act(params, carry, view.obs, view.avail, key, False)
        states, _ = env.step(step_key, states, action)
    return env, act, params, Moments(states, carry, action)


def masks(moments):
    return np.broadcast_to(np.arange(8), (moments, 8))


def test_a_battle_depends_on_its_branch_and_not_on_its_place(battles, monkeypatch):
    env, act, params, moments = battles
    args = (env, act, params, moments, masks(4), jax.random.key(3), 6)
    wide = branching.branch_out(*args, gamma=GAMMA)
    monkeypatch.setitem(branching.SLOTS, "cpu", 4)
    monkeypatch.setattr(branching, "ROUNDS", 3)
    narrow = branching.branch_out(*args, gamma=GAMMA)
    assert wide.battles == narrow.battles > 32
    assert wide.steps == narrow.steps and wide.truncated == narrow.truncated
    np.testing.assert_allclose(wide.returned, narrow.returned, rtol=1e-5, atol=1e-5)


def test_battles_are_those_of_a_plain_loop(battles):
    """Two coalitions of one branch, replayed one battle at a time, step by step, with the branch's keys."""
    env, act, params, moments = battles
    decide, step = jax.jit(act, static_argnums=5), jax.jit(env.step)
    key, branches = jax.random.key(3), 2
    played = branching.branch_out(env, act, params, moments, masks(4), key, branches, gamma=GAMMA)
    draw_key, play_key = jax.random.split(key)
    drawn = np.asarray(branching.drawer(env, act)(params, moments, draw_key, branches))
    for moment, branch, coalition in ((0, 0, 0), (0, 1, 7), (3, 1, 5), (2, 0, 2)):
        index = jnp.array([moment])
        state, carry = take(env, moments.env, index), jax.tree.map(lambda x: x[index], moments.carry)  # noqa: B023
        own = jax.random.fold_in(play_key, moment * branches + branch)
        total, ended, age = 0.0, False, 0
        while not ended:
            act_key, step_key = jax.random.split(jax.random.fold_in(own, age))
            view = env.view(state)
            action, carry = decide(params, carry, view.obs, view.avail, act_key, False)
            if age == 0:
                taken = [bool(coalition >> a & 1) for a in range(env.num_agents)]
                action = jnp.where(jnp.array(taken), moments.action[moment], drawn[moment, branch])[None]
                carry = carry.replace(last_action=action)
            state, outcome = step(step_key[None], state, action)
            total += GAMMA**age * float(outcome.reward[0])
            ended = bool(outcome.terminated[0] | outcome.truncated[0])
            age += 1
        assert played.returned[moment, branch, coalition] == pytest.approx(total, abs=1e-4)


def test_the_order_decides_only_who_gets_what(battles):
    """Whatever the order, the terms add up to Q - V (Claim 1); the first has Eq. 6, the last Eq. 5."""
    env, act, params, moments = battles
    orders = {
        "up": np.broadcast_to(np.arange(3), (4, 3)),
        "down": np.broadcast_to(np.arange(3)[::-1], (4, 3)),
    }
    truth = branching.truth(
        env,
        act,
        params,
        moments.env,
        moments.carry,
        moments.action,
        orders,
        jax.random.key(5),
        8,
        gamma=GAMMA,
    )
    gain = truth.q.mean - truth.value.mean
    for found in (*truth.sequential.values(), truth.shapley):
        np.testing.assert_allclose(found.mean.sum(axis=-1), gain, atol=1e-5)
    np.testing.assert_allclose(truth.sequential["up"].mean[:, 0], truth.marginal.mean[:, 0], atol=1e-6)
    np.testing.assert_allclose(truth.sequential["up"].mean[:, 2], truth.coma.mean[:, 2], atol=1e-6)
    np.testing.assert_allclose(truth.sequential["down"].mean[:, 0], truth.coma.mean[:, 0], atol=1e-6)


@pytest.mark.parametrize("make", (lambda: core.make("3m"), lambda: particle.make("predator_prey")))
def test_keys_of_their_own_make_environments_independent_of_their_place(make):
    env = make()
    states = env.reset(jax.random.key(0), 4)
    keys = jax.random.split(jax.random.key(1), 4)
    action = jnp.ones((4, env.num_agents), jnp.int32)
    after, _ = env.step(keys, states, action)
    turned = jnp.array([2, 0, 3, 3])
    same, _ = env.step(keys[turned], take(env, states, turned), action)
    for a, b in zip(jax.tree.leaves(take(env, after, turned)), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
