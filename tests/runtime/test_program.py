"""The compiled functions of a run with the real value-based learner and its replay buffer."""

import jax
import numpy as np

from seca_jax import algos, envs
from seca_jax.config import compose
from seca_jax.runtime import checkpoint
from seca_jax.runtime.program import Functions, Program

TINY = ["map=matrix", "algo=vdn", "seeds=2", "num_envs=4", "q.batch=4", "q.episodes=16", "q.updates=1"]


def program(total_steps):
    config = compose.from_words([*TINY, "actor.hidden=8", f"total_steps={total_steps}"])
    env = envs.make(config)
    return Program(config, Functions(config, env, algos.make, jax.devices("cpu")[:1]))


def test_resting_leaves_a_seed_and_its_replay_buffer_as_they_are():
    """What a resting seed writes into the buffer is what its next update overwrites."""
    reference, limited = program(1000), program(20)
    n = np.int32
    state, tally = reference.chunk(*reference.init(), n(5))
    steps = reference.fetch(state.steps)
    assert (steps >= 20).all()
    held = reference.fetch((state, tally))
    after = limited.fetch(limited.chunk(*map(limited.place, held), n(3)))
    for name, value in checkpoint.to_leaves(held).items():
        if "experience" not in name:
            np.testing.assert_array_equal(checkpoint.to_leaves(after)[name], value, err_msg=name)
    went_on = reference.fetch(reference.chunk(*map(reference.place, after), n(6)))
    expected = reference.fetch(reference.chunk(*map(reference.place, held), n(6)))
    went_on, expected = map(checkpoint.to_leaves, (went_on, expected))
    assert went_on.keys() == expected.keys() and any("experience" in name for name in expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(went_on[name], value, err_msg=name)
