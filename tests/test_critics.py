"""The bench for critics: outcomes of episodes, and what it says of gradients whose truth is known."""

import importlib.util
from pathlib import Path

import numpy as np

PATH = Path(__file__).parent.parent / "experiments" / "critics.py"
SPEC = importlib.util.spec_from_file_location("critics_bench", PATH)
critics = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(critics)


def test_outcomes_end_with_the_episode_and_are_unknown_where_it_goes_on():
    reward = np.array([[1.0], [2.0], [4.0], [8.0]])
    ended = np.array([[False], [True], [False], [False]])
    g, known = critics.outcomes(reward, ended, 0.5)
    np.testing.assert_array_equal(g[:2, 0], [2.0, 2.0])
    np.testing.assert_array_equal(known[:, 0], [True, True, False, False])


def test_a_noisy_gradient_aims_right_and_a_turned_one_does_not():
    """Noise lowers the cosine of a batch and not the aim; a turn by 60 degrees lowers both to a half."""
    rng, batches, size = np.random.default_rng(0), 4000, 50
    truth = np.zeros(size)
    truth[0] = 1.0
    turned = np.zeros(size)
    turned[:2] = np.cos(np.pi / 3), np.sin(np.pi / 3)
    noise = 0.5 * rng.normal(size=(3, batches, size))
    reference = truth + noise[0]
    cosine, aim = critics.gradients(truth + noise[1], reference)
    # The length of a gradient is about the root of 1 + 50 / 4
    assert abs(cosine - 1 / np.sqrt(1 + size / 4)) < 0.02
    assert abs(aim - 1.0) < 0.02
    cosine, aim = critics.gradients(turned + 0.01 * noise[2], reference)
    assert abs(cosine - 0.5) < 0.02
    assert abs(aim - 0.5) < 0.02


def test_nothing_is_said_of_a_gradient_that_is_all_noise():
    noise = np.random.default_rng(1).normal(size=(2, 12, 50))
    noise[1] -= noise[1].mean(0)
    cosine, aim = critics.gradients(noise[0], noise[1])
    assert cosine is aim is None
    assert critics.pair({"cosine": None, "aim": 0.5}) == "-, 0.50"


def test_a_recipe_changes_the_critic_alone():
    from seca_jax.config.schema import Config

    config = critics.recipe_config(Config(map="2s3z"), critics.RECIPES["dueling, one-step surprises"])
    assert (config.map, config.critic.kind, config.critic.surprise_lam, config.lam) == (
        "2s3z",
        "dueling",
        0.0,
        0.95,
    )
