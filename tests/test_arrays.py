"""Masks, and batches cut into chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.arrays import all_finite, alongside, in_chunks, masked_mean, num_chunks, select_rows


def test_masked_mean_counts_only_what_the_mask_keeps():
    x = jnp.array([[1.0, 2.0], [30.0, 4.0]])
    np.testing.assert_allclose(masked_mean(x, jnp.array([[True, True], [False, True]])), 7 / 3, rtol=1e-6)
    np.testing.assert_allclose(masked_mean(x, jnp.ones_like(x, bool)), 37 / 4, rtol=1e-6)


def test_masked_mean_of_nothing_is_zero_with_a_finite_gradient():
    nothing = jnp.zeros(3, bool)
    assert masked_mean(jnp.ones(3), nothing) == 0.0
    gradient = jax.grad(lambda x: masked_mean(x, nothing))(jnp.ones(3))
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_a_mask_lies_alongside_whatever_follows_its_axes():
    mask = jnp.array([[True, False, True]])
    assert alongside(mask, jnp.zeros((1, 3, 2, 4))).shape == (1, 3, 1, 1)
    assert alongside(mask, mask).shape == (1, 3)


def test_rows_are_selected_in_every_leaf():
    mask = jnp.array([True, False])
    chosen = {"a": jnp.ones(2), "b": jnp.ones((2, 3), jnp.int32)}
    got = select_rows(mask, chosen, jax.tree.map(jnp.zeros_like, chosen))
    np.testing.assert_array_equal(got["a"], [1, 0])
    np.testing.assert_array_equal(got["b"], [[1, 1, 1], [0, 0, 0]])
    assert got["b"].dtype == jnp.int32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_anywhere_is_found(bad):
    tree = {"a": jnp.zeros((2, 2)), "b": jnp.arange(3)}
    assert all_finite(tree) == 1.0 and all_finite(tree).dtype == jnp.float32
    assert all_finite({**tree, "c": jnp.array([0.0, bad])}) == 0.0


@pytest.mark.parametrize(
    ("floats", "chunks"), [(1, 1), (10, 1), (11, 2), (20, 2), (21, 3), (25, 3), (61, 12)]
)
def test_chunks_are_equal_and_keep_to_the_limit(floats, chunks):
    """12 rows, at most 120 floats at a time: the fewest equal chunks, a row each where one is too much."""
    assert num_chunks(12, floats, {jax.default_backend(): 120}) == chunks


@pytest.mark.parametrize("chunks", [1, 2, 3, 6])
def test_the_result_does_not_depend_on_the_chunks(chunks):
    tree = (jnp.arange(24.0).reshape(6, 4), jnp.arange(48.0).reshape(6, 4, 2))
    got = in_chunks(lambda part: part[0] + jnp.sum(part[1], axis=-1), tree, chunks)
    np.testing.assert_array_equal(got, np.asarray(tree[0]) + np.asarray(tree[1]).sum(-1))
