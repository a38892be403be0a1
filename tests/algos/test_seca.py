"""SeCA's update as a whole: orders, the variants of rollouts and updates, and what must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import algos
from seca_jax.algos import seca
from seca_jax.algos.actor_critic import UnderCritic
from seca_jax.algos.critic import Critic
from seca_jax.config.schema import ActorConfig, Config, CreditConfig, CriticConfig
from seca_jax.envs import probes
from seca_jax.experience.batch import Rollout
from seca_jax.types import View

SMALL = dict(map="delayed", num_envs=4, window=7, total_steps=1_000)
CRITIC = dict(mixing=8, hypernet_hidden="8", target_interval=3, updates=2, minibatches=1)
PLAIN = ActorConfig(hidden=8, epochs=1, minibatches=1)
VARIANTS = {
    "stream": dict(critic=CriticConfig(**CRITIC)),
    "paper": dict(rollout="episode", critic=CriticConfig(**{**CRITIC, "updates": 1})),
    "reuse": dict(
        critic=CriticConfig(**{**CRITIC, "minibatches": 2}),
        actor=ActorConfig(hidden=8, epochs=2, minibatches=2, entropy_final=0.0, normalise="batch"),
        credit=CreditConfig(order="ig-1", normalise=True, residual=0.5, path="backward"),
        lr_decay=True,
    ),
}


def config_of(**changes):
    plain = dict(
        actor=PLAIN, critic=CriticConfig(**CRITIC), credit=CreditConfig(normalise=False, residual=0.0)
    )
    return Config(**{**SMALL, **plain, **changes})


@pytest.fixture(scope="module", params=VARIANTS)
def trained(request):
    """(config, states after each of four updates, metrics, how often the step was traced)."""
    config = config_of(**VARIANTS[request.param])
    learner = algos.make(config, probes.make(config.map))
    traces = []

    @jax.jit
    def step(state):
        traces.append(1)
        return learner.train_step(state)

    state = jax.jit(learner.init)(jax.random.key(0))
    states, logs = [state], []
    for _ in range(4):
        state, metrics = step(state)
        states.append(state)
        logs.append(metrics)
    return config, states, logs, len(traces)


def test_an_update_changes_both_networks_and_stays_finite(trained):
    _, states, logs, _ = trained
    for before, after in zip(states[:-1], states[1:]):
        for name in ("actor", "critic"):
            old, new = (jax.tree.leaves(getattr(s.params, name)) for s in (before, after))
            assert any(not np.array_equal(a, b) for a, b in zip(old, new)), name
    assert all(float(m["finite"]) == 1.0 for m in logs)


def test_steps_are_real_environment_steps(trained):
    config, states, logs, _ = trained
    made = np.diff([int(s.steps) for s in states])
    # delayed's episodes always last 5 steps
    np.testing.assert_array_equal(made, 4 * (7 if config.rollout == "stream" else 5))
    assert [float(m["sum/steps"]) for m in logs] == list(made)
    assert [int(s.updates) for s in states] == [0, 1, 2, 3, 4]


def test_target_is_copied_every_few_critic_updates(trained):
    config, states, _, _ = trained
    per_batch = config.critic.updates * config.critic.minibatches
    assert [int(s.critic_updates) for s in states] == [per_batch * i for i in range(5)]

    def same(a, b):
        return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))

    for before, after in zip(states[:-1], states[1:]):
        copied = int(after.critic_updates) // 3 > int(before.critic_updates) // 3
        assert same(before.target, after.target) != copied


def test_the_step_is_traced_once(trained):
    *_, traces = trained
    assert traces == 1


def test_losses_that_explode_are_reported():
    config = config_of(
        critic=CriticConfig(**CRITIC, lr=1e30), actor=ActorConfig(hidden=8, epochs=1, minibatches=1, lr=1e30)
    )
    learner = algos.make(config, probes.make(config.map))
    state = jax.jit(learner.init)(jax.random.key(0))
    finite = []
    step = jax.jit(learner.train_step)
    for _ in range(4):
        state, metrics = step(state)
        finite.append(float(metrics["finite"]))
    assert finite[-1] == 0.0


# --- orders -------------------------------------------------------------------------------------

T, B, N, A = 6, 2, 3, 2


@pytest.fixture(scope="module")
def batch():
    """A critic linear in v with weight n + 1 on agent n's first action: contributions by hand."""
    probability = np.random.default_rng(0).uniform(0.05, 0.95, (T, B, N)).astype(np.float32)
    policy = jnp.stack([probability, 1.0 - probability], axis=-1)
    action = jax.nn.one_hot(jnp.array(np.random.default_rng(1).integers(0, A, (T, B, N))), A)

    critic = Critic(
        init=None,
        inputs=None,
        apply=lambda weights, state: lambda v: jnp.sum(v[..., 0] * weights, axis=-1),
        floats=0,
    )
    age = np.array([[0, 3], [1, 4], [2, 0], [3, 1], [0, 2], [1, 3]])
    steps = Rollout(
        view=View(jnp.zeros((T, B, N, 1)), jnp.ones((T, B, N, A), bool), jnp.zeros((T, B, 1))),
        action=jnp.argmax(action, -1),
        extra=None,
        reward=jnp.zeros((T, B)),
        terminated=jnp.zeros((T, B), bool),
        truncated=jnp.zeros((T, B), bool),
        won=jnp.zeros((T, B), bool),
        mask=jnp.ones((T, B), bool),
        age=jnp.asarray(age),
        returned=jnp.zeros((T, B)),
        carry=None,
        tail=None,
        tail_carry=None,
        slot=jnp.zeros(T, jnp.int32),
    )
    return UnderCritic(critic, jnp.arange(1.0, N + 1), steps.view.state, policy, action, steps)


def by_hand(batch, length):
    """Contribution to each step's stage, summed segment by segment in Python."""
    p, age = np.asarray(batch.policy)[..., 0], np.asarray(batch.rollout.age)
    result = np.zeros((T, B, N))
    for b in range(B):
        stages, stage = [], -1
        for t in range(T):
            new_episode = age[t, b] == 0
            if t == 0 or new_episode or (length and age[t, b] % length == 0):
                stage += 1
            stages.append(stage)
        for t in range(1, T):  # a last step, which starts no segment, is judged with the step before
            if age[t, b] != 0 and (t == T - 1 or age[t + 1, b] == 0):
                stages[t] = stages[t - 1]
        for t in range(T):
            for s in range(T - 1):
                if stages[s] == stages[t] and age[s + 1, b] != 0:
                    result[t, b] += (p[s + 1, b] - p[s, b]) * np.arange(1, N + 1)
    return result


@pytest.mark.parametrize("name, length", [("ig-episode", None), ("ig-1", 1), ("ig-2", 2), ("ig-3", 3)])
def test_path_orders_follow_the_contributions(batch, name, length):
    hand = by_hand(batch, length)
    got = seca.contribution(CreditConfig(points=2), batch, length)
    np.testing.assert_allclose(got, hand, atol=1e-5)
    order = seca.order_of(CreditConfig(order=name), batch)
    np.testing.assert_array_equal(order, np.argsort(-np.asarray(got), axis=-1, kind="stable"))
    backward = seca.order_of(CreditConfig(order=name, path="backward"), batch)
    np.testing.assert_array_equal(backward, np.argsort(np.asarray(got), axis=-1, kind="stable"))


def test_step_orders_look_at_the_policy_alone(batch):
    taken = np.sum(np.asarray(batch.policy) * np.asarray(batch.action), axis=-1)
    order = seca.order_of(CreditConfig(order="prob"), batch)
    np.testing.assert_array_equal(order, np.argsort(-taken, axis=-1))
    p = np.asarray(batch.policy, np.float64)
    entropy = -np.sum(p * np.log(p), axis=-1)
    order = seca.order_of(CreditConfig(order="entropy"), batch)
    np.testing.assert_array_equal(order, np.argsort(entropy, axis=-1))
    order = seca.order_of(CreditConfig(order="fixed"), batch)
    np.testing.assert_array_equal(order, np.broadcast_to(np.arange(N), (T, B, N)))


def test_padding_has_no_say_in_how_far_orders_depart():
    order = jnp.array([[[1, 0, 2]], [[0, 1, 2]], [[2, 0, 1]], [[0, 1, 2]]])  # [T, 1, N]
    mask = jnp.array([[True], [True], [True], [False]])
    np.testing.assert_allclose(seca.moved(order, mask), (2 / 3 + 0 + 1) / 3, rtol=1e-6)
