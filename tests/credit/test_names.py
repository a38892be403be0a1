"""The names of credit orders: each of the paper's, and what is no name."""

import re

import pytest

from seca_jax.credit import names


@pytest.mark.parametrize(
    ("name", "kind", "length"),
    [
        ("ig-episode", "ig", None),
        ("ig-1", "ig", 1),
        ("ig-10", "ig", 10),
        ("ig-007", "ig", 7),
        ("prob", "prob", None),
        ("entropy", "entropy", None),
        ("fixed", "fixed", None),
        ("random", "random", None),
    ],
)
def test_a_name_says_kind_and_length(name, kind, length):
    assert names.parse(name) == (kind, length)


@pytest.mark.parametrize(
    "name", ["ig", "ig-", "ig-0", "ig--3", "ig-x", "ig-1\n", "ig-²", "IG-1", "chance", ""]
)
def test_no_name(name):
    with pytest.raises(ValueError, match=re.escape(f"must be {names.ALLOWED}")):
        names.parse(name)


def test_what_is_allowed_is_told_in_words():
    assert names.ALLOWED.startswith("ig-episode, ig-<steps> (ig-1, ig-10, ...), prob, entropy")
    assert all(name in names.ALLOWED for name in names.PLAIN)


def test_every_listed_name_means_something_of_its_own():
    meanings = [names.parse(name) for name in names.names()]
    assert len(set(meanings)) == len(meanings)
