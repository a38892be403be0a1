"""What every learner owes the runner, whatever it learns: one suite over all that ``algo=`` accepts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax import algos
from seca_jax.config import compose, learners
from seca_jax.config.check import check
from seca_jax.config.schema import keys
from seca_jax.envs import probes
from seca_jax.experience import replay
from seca_jax.runtime import checkpoint

# Over the algorithm's own defaults; four environments and networks that compile fast.
TINY = {
    "map": "leader", "num_envs": 4, "window": 5, "total_steps": 1_000, "actor.hidden": 8,
    "actor.epochs": 1, "actor.minibatches": 2, "critic.mixing": 8, "critic.hypernet_hidden": "8",
    "critic.updates": 1, "critic.minibatches": 2, "critic.target_interval": 3,
    "q.updates": 2, "q.batch": 4, "q.episodes": 12,
}  # fmt: skip
TOTALS = {f"sum/{name}" for name in ("steps", "episodes", "wins", "return", "length")}


def config_of(algo, **values):
    config = compose.compose({"algo": algo, **values})
    check(config)
    return config


@pytest.fixture(scope="module", autouse=True)
def two_lengths():
    """Replay compiles a program for every length that a batch may have: here two of them are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "NARROW", replay.Layout(replay.NARROW.per_row, (0.5, 1.0)))
        yield


class Trained:
    """A learner, its state after each of four updates, their metrics, and how often it was traced."""

    def __init__(self, algo):
        self.config = config_of(algo, **TINY)
        self.env = probes.make(self.config.map)
        self.learner = algos.make(self.config, self.env)
        self.traces = 0

        def step(state):
            self.traces += 1
            return self.learner.train_step(state)

        self.step = jax.jit(step)
        state = jax.jit(self.learner.init)(jax.random.key(5))
        # As the runner does: a weakly typed zero would make the second call trace again.
        state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
        self.states, self.logs = [state], []
        for _ in range(4):
            state, metrics = self.step(state)
            self.states.append(state)
            self.logs.append(metrics)


@pytest.fixture(scope="module", params=algos.names())
def trained(request, two_lengths):
    yield Trained(request.param)
    jax.clear_caches()  # of one learner at a time


def same(a, b):
    a, b = checkpoint.to_leaves(a), checkpoint.to_leaves(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_counts_real_steps_and_updates(trained):
    first, last = trained.states[0], trained.states[-1]
    assert int(first.steps) == int(first.updates) == 0
    assert int(last.updates) == 4
    assert int(last.steps) == sum(int(m["sum/steps"]) for m in trained.logs) > 0


def test_metrics_are_finite_scalars_of_one_form(trained):
    for metrics in trained.logs:
        assert metrics.keys() == trained.logs[0].keys() >= TOTALS | {"finite"}
        assert all(x.shape == () and x.dtype == jnp.float32 for x in metrics.values())
        assert all(np.isfinite(x) for x in metrics.values()) and metrics["finite"] == 1.0


def test_learns_something(trained):
    leaves = [jax.tree.leaves(s.params) for s in (trained.states[0], trained.states[-1])]
    assert any(not np.array_equal(a, b) for a, b in zip(*leaves))


def test_state_is_full_and_keeps_its_form(trained):
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in trained.states]
    assert all(s == shapes[0] for s in shapes)
    assert all(leaf.size for leaf in jax.tree.leaves(trained.states[0]))


def test_the_step_is_traced_once(trained):
    assert trained.traces == 1


def test_initialising_needs_no_lapack(trained):
    """Two LAPACK kernels at once, batched over seeds, can hang a CPU with two threads."""
    lowered = jax.jit(jax.vmap(trained.learner.init)).lower(jax.random.split(jax.random.key(0), 2))
    assert "lapack" not in lowered.as_text()


def test_saved_and_restored_it_goes_on_exactly(trained):
    leaves = checkpoint.to_leaves(trained.states[2])
    abstract = jax.eval_shape(trained.learner.init, jax.random.key(0))
    state, metrics = trained.step(checkpoint.from_leaves(leaves, abstract))
    same(state, trained.states[3])
    same(metrics, trained.logs[2])


@pytest.mark.parametrize("greedy", [True, False])
def test_acts_within_what_is_available(trained, greedy):
    env, learner, count = trained.env, trained.learner, 200
    obs = jax.random.normal(jax.random.key(1), (count, env.num_agents, env.obs_size))
    only = jax.random.randint(jax.random.key(2), (count, env.num_agents), 0, env.num_actions)
    avail = jax.nn.one_hot(only, env.num_actions) > 0
    act = jax.jit(learner.act, static_argnums=5)
    params, carry = trained.states[-1].params, learner.initial_carry(count)
    action, after = act(params, carry, obs, avail, jax.random.key(3), greedy)
    np.testing.assert_array_equal(action, only)
    assert action.dtype == jnp.int32
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), carry
    )
    # With a choice: greedy ones do not depend on the key.
    one, two = (
        act(params, carry, obs, jnp.ones_like(avail), jax.random.key(seed), greedy)[0] for seed in (4, 5)
    )
    assert np.isin(one, range(env.num_actions)).all()
    assert np.array_equal(one, two) or not greedy


def test_seeds_side_by_side_are_the_seeds_alone(trained):
    both = jax.jit(jax.vmap(trained.learner.init))(jax.random.split(jax.random.key(9), 2))
    alone = [jax.tree.map(lambda x, i=i: x[i], both) for i in range(2)]
    step = jax.jit(jax.vmap(trained.learner.train_step))
    for _ in range(2):
        both, metrics = step(both)
    for i, state in enumerate(alone):
        for _ in range(2):
            state, own = trained.step(state)
        for name, value in own.items():
            np.testing.assert_allclose(metrics[name][i], value, rtol=1e-3, atol=1e-5, err_msg=name)
        # Products are summed in another order: equal up to rounding.
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-3, atol=1e-5),
            both.params,
            state.params,
        )


@pytest.mark.parametrize("preset", compose.presets())
@pytest.mark.parametrize("algo", algos.names())
def test_every_preset_makes_a_learner(algo, preset):
    config = config_of(algo, preset=preset, map="leader")
    assert (config.algo, config.preset) == (algo, preset)
    learner = algos.make(config, probes.make("leader"))
    state = jax.eval_shape(learner.init, jax.random.key(0))
    metrics = jax.eval_shape(learner.train_step, state)[1]
    assert TOTALS <= metrics.keys()


@pytest.mark.parametrize("algo", algos.names())
def test_a_learners_own_settings_are_for_presets_that_exist(algo):
    assert set(learners.learner(algo).get("presets", {})) <= set(compose.presets())


def test_the_suite_sets_keys_of_the_schema():
    assert {name for name, _ in keys()} >= TINY.keys()
