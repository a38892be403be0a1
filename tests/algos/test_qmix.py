"""QMIX and VDN, and what all value-based learners share: targets, exploration, target copies."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import algos
from seca_jax.algos import q_learning, qmix, vdn
from seca_jax.config.schema import ActorConfig, Config, QConfig
from seca_jax.envs import probes
from seca_jax.experience import rollout
from seca_jax.experience.replay import Batch
from seca_jax.networks.agent import Agent, agent_input
from seca_jax.networks.mixers import QMixer, Utilities, best_actions, unroll
from seca_jax.types import View

T, B, N, A, S = 5, 3, 3, 3, 4
GAMMA = 0.9


def config_of(name, algo, **changes):
    q = dict(lr=1e-3, epsilon_steps=4_000, target_interval=64, updates=4, batch=32, episodes=500)
    return Config(
        map=name, algo=algo, rollout="episode", num_envs=16, seeds=1,
        actor=ActorConfig(hidden=16), q=QConfig(**{**q, **changes}),
    )  # fmt: skip


def learn(config, updates, keys):
    """Greedy returns [seeds, 32] after training, and the last metrics."""
    env = probes.make(config.map)
    learner = algos.make(config, env)

    def one(key):
        state, metrics = jax.lax.scan(lambda s, _: learner.train_step(s), learner.init(key), length=updates)
        test = rollout.evaluate(env, learner.act, learner.initial_carry, state.params, state.key, 32)
        return test["return"], jax.tree.map(lambda x: x[-1], metrics)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), keys))


# --- mixing -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixer():
    """A mixer with weights several times their initial size, some of either sign, as a function."""
    module = QMixer(embed=8, hypernet=16)
    params = module.init(jax.random.key(0), jnp.zeros((1, N)), jnp.zeros((1, S)))
    params = jax.tree.map(lambda p: 3.0 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    return lambda q, state: module.apply(params, q, state)


def test_the_mix_never_falls_with_an_agents_value(mixer):
    q = 5.0 * jax.random.normal(jax.random.key(1), (500, N))
    state = 2.0 * jax.random.normal(jax.random.key(2), (500, S))
    slope = jax.vmap(jax.grad(mixer))(q, state)
    # 0 where every ELU is as good as flat
    assert (slope >= 0).all() and (slope > 0).mean() > 0.5
    # And it is a mix that depends on the state, not a sum
    assert np.std(np.asarray(slope), axis=0).min() > 0.1


def test_the_agents_best_actions_are_the_best_joint_action(mixer):
    for i in range(50):
        q = jax.random.normal(jax.random.key(i), (N, A))
        state = jax.random.normal(jax.random.key(100 + i), (S,))
        joint = np.array(list(itertools.product(range(A), repeat=N)))
        values = mixer(q[jnp.arange(N), joint], jnp.broadcast_to(state, (len(joint), S)))
        np.testing.assert_array_equal(joint[np.argmax(values)], np.argmax(q, axis=-1))


def made_up(seed=0):
    """A batch whose episodes end, are cut, and are followed by padding; utilities to go with it."""
    rng = np.random.default_rng(seed)
    lengths, ended = np.array([3, 5, 1]), np.array([True, False, True])
    avail = rng.random((T + 1, B, N, A)) < 0.6
    avail[..., 0] |= ~avail.any(-1)
    step = np.arange(T)[:, None]
    batch = Batch(
        view=View(
            jnp.zeros((T + 1, B, N, 1)), jnp.asarray(avail), jnp.asarray(rng.normal(size=(T + 1, B, S)))
        ),
        last_action=jnp.zeros((T + 1, B, N), jnp.int32),
        start=jnp.zeros((T + 1, B), bool).at[0].set(True),
        action=jnp.asarray(rng.integers(0, A, (T, B, N))),
        reward=jnp.asarray(rng.normal(size=(T, B)), jnp.float32),
        terminated=jnp.asarray((step == lengths - 1) & ended),
        mask=jnp.asarray(step < lengths),
    )
    own, theirs = (
        Utilities(
            jnp.asarray(rng.normal(size=(T + 1, B, N, A))), jnp.asarray(rng.normal(size=(T + 1, B, N, 2)))
        )
        for _ in range(2)
    )
    return batch, own, theirs, lengths, ended


def by_hand(batch, own, theirs, lengths, ended, mix):
    """Mean squared one-step double Q error, episode by episode."""
    q, judged, errors = np.asarray(own.q), np.asarray(theirs.q), []
    for b in range(B):
        for t in range(lengths[b]):
            chosen = [q[t, b, n, batch.action[t, b, n]] for n in range(N)]
            y = float(batch.reward[t, b])
            if not (ended[b] and t == lengths[b] - 1):
                following = []
                for n in range(N):
                    free = [u for u in range(A) if batch.view.avail[t + 1, b, n, u]]
                    following.append(judged[t + 1, b, n, max(free, key=lambda u: q[t + 1, b, n, u])])
                y += GAMMA * mix(2.0, np.array(following), np.asarray(batch.view.state[t + 1, b]))
            errors.append(mix(1.0, np.array(chosen), np.asarray(batch.view.state[t, b])) - y)
    return np.mean(np.square(errors))


@pytest.mark.parametrize("kind", ["sum", "weighted"])
def test_the_loss_is_the_one_step_double_q_error(kind):
    """``params.mixer`` and ``target.mixer`` are the numbers 1 and 2, so that mixing them up shows."""

    def mix(params, q, state):
        return q.sum(-1) if kind == "sum" else params * q.sum(-1) + (q * state[..., :N] ** 2).sum(-1)

    batch, own, theirs, lengths, ended = made_up()
    params, target = q_learning.Params({}, 1.0), q_learning.Params({}, 2.0)

    def loss_of(theirs, batch):
        return qmix.double_q_loss(mix, GAMMA, params, target, own, theirs, batch)

    loss, metrics = loss_of(theirs, batch)
    hand = by_hand(batch, own, theirs, lengths, ended, mix)
    np.testing.assert_allclose(loss, hand, rtol=1e-5)
    assert metrics["critic_loss"] == loss
    # What follows an episode's end counts for nothing, whatever it is
    wild = batch.replace(reward=jnp.where(batch.mask, batch.reward, 1e3))
    np.testing.assert_allclose(loss_of(theirs, wild)[0], hand, rtol=1e-5)
    # The target is a constant
    gradient = jax.grad(lambda q: loss_of(theirs._replace(q=q), batch)[0])(theirs.q)
    assert not gradient.any()


def test_vdn_sums():
    """The learner's own mix: no parameters, no state, and the loss of a team whose values add up."""
    q = np.random.default_rng(1).normal(size=(T, B, N))
    hand = [[sum(q[t, b, n] for n in range(N)) for b in range(B)] for t in range(T)]
    np.testing.assert_allclose(vdn.total({}, jnp.asarray(q), None), hand, rtol=1e-5, atol=1e-6)
    learner = algos.make(config_of("one_step", "vdn"), probes.make("one_step"))
    assert jax.tree.leaves(learner.init(jax.random.key(0)).params.mixer) == []
    batch, own, theirs, lengths, ended = made_up(2)
    params = q_learning.Params({}, {})
    loss, _ = qmix.double_q_loss(vdn.total, GAMMA, params, params, own, theirs, batch)
    add_up = by_hand(batch, own, theirs, lengths, ended, lambda params, q, state: sum(q))
    np.testing.assert_allclose(loss, add_up, rtol=1e-5)


def test_the_mixers_size_is_the_configurations():
    config = config_of("one_step", "qmix", mixing=5, hypernet=7)
    mixer = algos.make(config, probes.make("one_step")).init(jax.random.key(0)).params.mixer["params"]
    assert mixer["w1"]["kernel"].shape == (7, 3 * 5) and mixer["w2"]["kernel"].shape == (7, 5)


# --- agents along episodes ----------------------------------------------------------------------


def test_unrolled_agents_are_the_acting_agents():
    agent = Agent(hidden=4, num_actions=A)
    obs = jax.random.normal(jax.random.key(1), (T, B, N, 2))
    last = jax.random.randint(jax.random.key(2), (T, B, N), -1, A)
    hidden = jnp.zeros((B, N, 4))
    params = agent.init(jax.random.key(0), hidden, agent_input(obs[0], last[0], A), True)
    start = jnp.zeros((T, B), bool).at[0].set(True).at[T // 2, 1].set(True)  # a second episode in one row
    got = unroll(agent, params, obs, last, start)
    for t in range(T):
        hidden = jnp.where(start[t, :, None, None], 0.0, hidden)
        hidden, q = agent.apply(params, hidden, agent_input(obs[t], last[t], A), jnp.ones((B, N, A), bool))
        np.testing.assert_allclose(got.q[t], q, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.hidden[t], hidden, rtol=1e-5, atol=1e-6)


def test_best_actions_are_available():
    q = jnp.array([[3.0, 2.0, 1.0], [-5.0, -7.0, -6.0]])
    avail = jnp.array([[False, True, True], [False, True, True]])
    np.testing.assert_array_equal(best_actions(q, avail), [1, 2])


# --- exploration --------------------------------------------------------------------------------


def test_epsilon_falls_linearly_and_stays():
    config = config_of("one_step", "vdn", epsilon=1.0, epsilon_final=0.2, epsilon_steps=100)
    steps = jnp.array([0, 25, 50, 100, 101, 100_000])
    np.testing.assert_allclose(
        q_learning.epsilon_at(config, steps), [1.0, 0.8, 0.6, 0.2, 0.2, 0.2], rtol=1e-6
    )


def test_exploration_takes_any_available_action_as_often_as_told():
    greedy = jnp.full((3000, 2), 2)
    avail = jnp.broadcast_to(
        jnp.array([[True, False, True, True], [False, False, True, False]]), (3000, 2, 4)
    )
    np.testing.assert_array_equal(q_learning.explore(jax.random.key(0), greedy, avail, 0.0), greedy)
    shares = np.mean(
        np.asarray(q_learning.explore(jax.random.key(0), greedy, avail, 0.6))[..., None] == np.arange(4),
        axis=0,
    )
    np.testing.assert_allclose(shares, [[0.2, 0.0, 0.6, 0.2], [0.0, 0.0, 1.0, 0.0]], atol=0.03)


def test_acting_is_greedy_or_explores_with_the_final_epsilon():
    config = config_of("one_step", "vdn", epsilon_final=0.3)
    env = probes.make("one_step")
    learner = algos.make(config, env)
    params = jax.jit(learner.init)(jax.random.key(0)).params
    view = env.view(env.reset(jax.random.key(1), 4000))
    args = (params, learner.initial_carry(4000), view.obs, view.avail)
    best, carry = learner.act(*args, jax.random.key(2), True)
    again, _ = learner.act(*args, jax.random.key(3), True)
    explored, _ = learner.act(*args, jax.random.key(2), False)
    np.testing.assert_array_equal(best, again)
    np.testing.assert_array_equal(carry.last_action, best)
    assert np.mean(best != explored) == pytest.approx(0.3 * 3 / 4, abs=0.02)


# --- the update ---------------------------------------------------------------------------------


def test_rmsprop_is_pymarls():
    config = config_of("one_step", "vdn", optimiser="rmsprop", max_grad_norm=10.0)
    tx = q_learning.optimiser(config)
    params = jnp.zeros(2)
    opt, mean = tx.init(params), np.zeros(2)
    for gradient in ([3.0, 4.0], [30.0, 40.0], [0.0, 1e-3]):
        change, opt = tx.update(jnp.array(gradient), opt, params)
        clipped = np.array(gradient) * min(1.0, 10.0 / np.linalg.norm(gradient))
        mean = 0.99 * mean + 0.01 * clipped**2
        np.testing.assert_allclose(change, clipped / (np.sqrt(mean) + 1e-5), rtol=1e-4)


@pytest.fixture(scope="module")
def trained():
    """States before and after each of five updates of 16 episodes, and their metrics."""
    config = config_of("delayed", "qmix", target_interval=32, updates=2)
    learner = algos.make(config, probes.make("delayed"))
    step = jax.jit(learner.train_step)
    state = jax.jit(learner.init)(jax.random.key(0))
    states, logs = [state], []
    for _ in range(5):
        state, metrics = step(state)
        states.append(state)
        logs.append(metrics)
    return states, logs


def test_the_target_is_copied_every_few_episodes(trained):
    states, _ = trained

    def same(a, b):
        return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))

    copied = [same(s.params, s.target) for s in states]
    assert copied == [True, False, True, False, True, False]


def test_steps_are_real_environment_steps(trained):
    states, logs = trained
    assert [int(s.steps) for s in states] == [80 * i for i in range(6)]  # 16 episodes of 5 steps
    assert [int(s.updates) for s in states] == list(range(6))
    assert all(float(m["sum/steps"]) == 80 and float(m["sum/episodes"]) == 16 for m in logs)
    assert all(float(m["finite"]) == 1.0 for m in logs)


def test_windows_are_refused():
    config = Config(map="one_step", algo="qmix")
    with pytest.raises(ValueError, match="rollout=stream: qmix replays whole episodes; leave the key out"):
        algos.make(config, probes.make("one_step"))


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["vdn", "qmix", "qtran", "qplex", "qpd"])
@pytest.mark.parametrize("name", ["one_step", "delayed", "leader"])
def test_every_value_learner_solves_it(algo, name):
    returns, _ = learn(config_of(name, algo), 800, 2)
    np.testing.assert_allclose(returns, probes.GAMES[name].best, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("algo, best", [("vdn", 0.0), ("qmix", 0.0), ("qtran", 8.0)])
def test_only_qtran_represents_the_matrix_game(algo, best):
    """Son et al. 2019, Table 1, under full exploration: no monotonic mix has its maximum at 8."""
    returns, _ = learn(config_of("matrix", algo, epsilon_final=1.0), 800, 2)
    np.testing.assert_allclose(returns, best)
