"""Who is assessed first: hand-made cases for every order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.credit import names, order


def test_by_contribution_puts_the_highest_first():
    contribution = jnp.array([[0.1, 0.7, -0.3], [5.0, -1.0, 6.0]])
    np.testing.assert_array_equal(order.by_contribution(contribution), [[1, 0, 2], [2, 0, 1]])


def test_by_contribution_breaks_ties_by_agent_index():
    np.testing.assert_array_equal(order.by_contribution(jnp.array([1.0, 2.0, 1.0, 2.0])), [1, 3, 0, 2])
    np.testing.assert_array_equal(order.by_contribution(jnp.zeros(4)), [0, 1, 2, 3])


def test_by_contribution_lists_agents_not_ranks():
    """The order [2, 0, 1] and its inverse [1, 2, 0] differ: the result names agents, first assessed first."""
    np.testing.assert_array_equal(order.by_contribution(jnp.array([2.0, 1.0, 3.0])), [2, 0, 1])


def test_by_probability_reads_the_action_taken():
    policy = jnp.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.9, 0.05, 0.05]])
    # Probabilities of what they did: 0.5, 0.7 and 0.05; the most probable action of agent 2 does not count.
    action = jax.nn.one_hot(jnp.array([0, 2, 1]), 3)
    np.testing.assert_array_equal(order.by_probability(policy, action), [1, 0, 2])
    # The same with agent 2 doing what it likes best.
    action = jax.nn.one_hot(jnp.array([0, 2, 0]), 3)
    np.testing.assert_array_equal(order.by_probability(policy, action), [2, 1, 0])


def test_by_entropy_puts_the_most_certain_first():
    # Entropies ln 4, ln 2, 0 and 0.325; probabilities that are exactly 0 must not turn into NaN.
    policy = jnp.array(
        [[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0]]
    )
    np.testing.assert_array_equal(order.by_entropy(policy), [2, 3, 1, 0])


def test_fixed_is_the_agents_in_their_own_order():
    result = order.fixed(jnp.ones((2, 3, 4, 5)))
    np.testing.assert_array_equal(result, np.broadcast_to(np.arange(4), (2, 3, 4)))


def groups(labels):
    """Which steps share a label: [T] -> set of frozensets of steps."""
    return {frozenset(np.flatnonzero(labels == label)) for label in np.unique(labels)}


def test_stages_of_a_whole_episode():
    age = jnp.array([[3, 0], [4, 1], [0, 2], [1, 0]])
    episode = jnp.array([[0, 0], [0, 0], [1, 0], [1, 1]])
    labels = np.asarray(order.stages(age, episode, None))
    assert groups(labels[:, 0]) == {frozenset({0, 1}), frozenset({2, 3})}
    assert groups(labels[:, 1]) == {frozenset({0, 1, 2}), frozenset({3})}


def test_stages_of_a_number_of_steps_start_anew_with_every_episode():
    # One environment: a window that begins at step 1 of an episode of five, then a new episode.
    age = jnp.array([1, 2, 3, 4, 0, 1, 2])[:, None]
    episode = jnp.array([0, 0, 0, 0, 1, 1, 1])[:, None]
    pairs = groups(np.asarray(order.stages(age, episode, 2))[:, 0])
    assert pairs == {frozenset({0}), frozenset({1, 2}), frozenset({3}), frozenset({4, 5}), frozenset({6})}
    singles = groups(np.asarray(order.stages(age, episode, 1))[:, 0])
    assert singles == {frozenset({t}) for t in range(7)}
    # Stages of 20 steps hold either episode whole, and never both.
    long = groups(np.asarray(order.stages(age, episode, 20))[:, 0])
    assert long == {frozenset({0, 1, 2, 3}), frozenset({4, 5, 6})}


def test_stages_are_kept_apart_when_ages_differ_between_environments():
    """The second environment is far into its episode; its labels must not merge the first one's stages."""
    age = jnp.array([[0, 30], [1, 31], [0, 32], [1, 0]])
    episode = jnp.array([[0, 0], [0, 0], [1, 0], [1, 1]])
    labels = np.asarray(order.stages(age, episode, 2))
    assert groups(labels[:, 0]) == {frozenset({0, 1}), frozenset({2, 3})}
    assert groups(labels[:, 1]) == {frozenset({0, 1}), frozenset({2}), frozenset({3})}


def test_an_episodes_last_step_is_not_left_alone():
    """Steps 1 to 4 of an episode, a new one, and its first step alone before the window ends or padding."""
    age = jnp.array([1, 2, 3, 4, 0, 1, 2, 0])[:, None]
    episode = jnp.array([0, 0, 0, 0, 1, 1, 1, 2])[:, None]
    linked = age[1:] != 0

    def grouped(length):
        return groups(np.asarray(order.with_last(order.stages(age, episode, length), linked))[:, 0])

    assert grouped(1) == {frozenset(steps) for steps in ({0}, {1}, {2, 3}, {4}, {5, 6}, {7})}
    assert grouped(2) == {frozenset(steps) for steps in ({0}, {1, 2, 3}, {4, 5, 6}, {7})}
    assert grouped(None) == {frozenset(steps) for steps in ({0, 1, 2, 3}, {4, 5, 6}, {7})}


@pytest.mark.parametrize("name", [*names.names(), "random"])
def test_every_name_is_an_order_of_all_agents(name):
    policy = jax.nn.softmax(jax.random.normal(jax.random.key(0), (4, 3, 5)))
    action = jax.nn.one_hot(jax.random.categorical(jax.random.key(1), jnp.log(policy)), 5)
    found = order.named(name, policy, action, lambda length: policy[..., 0] * (length or -1))
    np.testing.assert_array_equal(np.sort(found, axis=-1), np.broadcast_to(np.arange(3), (4, 3)))


def test_random_is_uniform_and_another_for_another_batch():
    policy = jax.nn.softmax(jax.random.normal(jax.random.key(0), (3000, 3, 5)))
    found = np.asarray(order.shuffled(policy))
    first = np.bincount(found[:, 0], minlength=3) / len(found)
    np.testing.assert_allclose(first, 1 / 3, atol=0.03)
    np.testing.assert_array_equal(order.shuffled(policy), found)
    assert (np.asarray(order.shuffled(policy[::-1] * 0.5)) != found).any()


def test_no_name_no_order():
    with pytest.raises(ValueError, match="must be ig-episode"):
        order.named("chance", jnp.ones((2, 3)), jnp.ones((2, 3)), lambda length: jnp.ones(2))
