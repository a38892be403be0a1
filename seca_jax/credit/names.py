"""The names of credit orders: what ``credit.order`` may say, and what it means. No JAX here.

==============  ====================================================================================
``ig-episode``  highest contribution along the episode's path of policies first (Section 3.4)
``ig-<steps>``  the same, stage by stage, each so many steps long (the paper's are 1, 10 and 20)
``prob``        highest probability of the taken action first (SeCA-Prob)
``entropy``     lowest policy entropy first (SeCA-Entro)
``fixed``       the agents' own numbering (SeCA-Fixed)
``random``      drawn anew at every step: what an order is worth is its difference from this one
==============  ====================================================================================

Other packages bring further ones, see :mod:`seca_jax.extensions`.
"""

import re
from typing import NamedTuple

from seca_jax import extensions

PLAIN = ("prob", "entropy", "fixed", "random")
"""Orders that their name says all about."""

ALLOWED = f"ig-episode, ig-<steps> (ig-1, ig-10, ...), {', '.join(PLAIN[:-1])} or {PLAIN[-1]}"
"""What may be given, in words, but for what other packages bring."""

BROUGHT = "brought"
"""Kind of an order that another package brings."""


class Order(NamedTuple):
    """What a name means."""

    kind: str  # ig, one of PLAIN, or BROUGHT
    length: int | None = None  # ig only: steps of a stage; None: the whole episode


def allowed() -> str:
    """What may be given, in words."""
    brought = extensions.names("order")
    return f"{ALLOWED}; of other packages {', '.join(brought)}" if brought else ALLOWED


def names() -> list[str]:
    """The orders of the paper, by name; any other ``ig-<steps>`` is one too."""
    return ["ig-episode", "ig-1", "ig-10", "ig-20", "prob", "entropy", "fixed"]


def parse(name: str) -> Order:
    """What ``name`` means: ``ig-10`` is ``Order("ig", 10)``.

    Raises:
        ValueError: no such order.
    """
    if name in PLAIN:
        return Order(name)
    if name == "ig-episode":
        return Order("ig")
    if re.fullmatch(r"ig-0*[1-9]\d*", name, re.ASCII):
        return Order("ig", int(name.removeprefix("ig-")))
    if name in extensions.names("order"):
        return Order(BROUGHT)
    raise ValueError(f"must be {allowed()}")
