"""Training that starts from a trained run's parameters."""

import jax
import numpy as np
import pytest

import seca_jax
from seca_jax.config import compose
from seca_jax.config.words import given
from seca_jax.runtime import session
from seca_jax.runtime.initial import leaves

TINY = {
    "num_envs": 4, "window": 5, "total_steps": 20, "actor.hidden": 8, "critic.mixing": 8,
    "critic.hypernet_hidden": "8", "actor.minibatches": 2, "critic.minibatches": 2, "eval.episodes": 2,
    "q.batch": 4, "q.episodes": 8, "q.updates": 1,
}  # fmt: skip


def first_parameters(**keywords):
    """The parameters that training starts with."""
    config = compose.compose(given({**TINY, **keywords}))
    devices, _, _ = session.prepare(config)
    program = session.program_of(config, devices)
    start = session.start_of(config, program.abstract) or (lambda state: state)
    return start(program.fetch(program.init()[0])).params


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return seca_jax.train(TINY, map="matrix", seeds=2, out=tmp_path_factory.mktemp("runs") / "run")


def test_all_or_parts_of_the_parameters_are_taken(run):
    fresh = leaves(first_parameters(map="matrix", seeds=2))
    for parts in ("all", "actor", "critic"):
        found = leaves(first_parameters(map="matrix", seeds=2, init={"run": run.out, "parts": parts}))
        for name, value in leaves(run.params).items():
            taken = parts == "all" or name.startswith(parts)
            np.testing.assert_array_equal(found[name], (value if taken else fresh[name]), err_msg=name)


def test_more_seeds_begin_with_the_first_again(run):
    stopped = seca_jax.train(TINY, map="matrix", seeds=3, init=run.out, callback=lambda step, metrics: True)
    found = stopped.params  # before the first update
    for name, value in leaves(found).items():
        np.testing.assert_array_equal(value, leaves(run.params)[name][[0, 1, 0]], err_msg=name)


def test_another_learners_actor_will_do(run):
    found = first_parameters(algo="coma", map="matrix", seeds=2, init={"run": run.out, "parts": "actor"})
    jax.tree.map(np.testing.assert_array_equal, found.actor, run.params.actor)


def test_value_based_learners_start_with_their_targets_equal(tmp_path):
    run = seca_jax.train(TINY, algo="qmix", map="matrix", seeds=1, out=tmp_path / "run")
    found = first_parameters(algo="qmix", map="matrix", seeds=1, init=run.out)
    jax.tree.map(np.testing.assert_array_equal, found, run.params)


def test_what_does_not_fit_is_a_line(run):
    with pytest.raises(seca_jax.ConfigError) as raised:
        first_parameters(map="leader", seeds=2, init=run.out)
    text = str(raised.value)
    assert "\n" not in text and " there (seca on matrix), " in text and " here (seca on leader)" in text
    with pytest.raises(seca_jax.ConfigError, match="step=5: .* has no such checkpoint"):
        first_parameters(map="matrix", init={"run": run.out, "step": 5})
