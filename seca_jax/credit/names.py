"""The names of credit orders: what ``credit.order`` may say, and what it means. No JAX here.

==============  ====================================================================================
``ig-episode``  highest contribution along the episode's path of policies first (Section 3.4)
``ig-<steps>``  the same, stage by stage, each so many steps long (the paper's are 1, 10 and 20)
``prob``        highest probability of the taken action first (SeCA-Prob)
``entropy``     lowest policy entropy first (SeCA-Entro)
``fixed``       the agents' own numbering (SeCA-Fixed)
==============  ====================================================================================
"""

import re
from typing import NamedTuple

PLAIN = ("prob", "entropy", "fixed")
"""Orders that their name says all about."""

ALLOWED = f"ig-episode, ig-<steps> (ig-1, ig-10, ...), {', '.join(PLAIN[:-1])} or {PLAIN[-1]}"
"""What may be given, in words."""


class Order(NamedTuple):
    """What a name means."""

    kind: str  # ig, or one of PLAIN
    length: int | None = None  # ig only: steps of a stage; None: the whole episode


def names() -> list[str]:
    """The orders of the paper, by name; any other ``ig-<steps>`` is one too."""
    return ["ig-episode", "ig-1", "ig-10", "ig-20", *PLAIN]


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
    raise ValueError(f"must be {ALLOWED}")
