"""What schemas are made of: a key with its default, meaning and limits, groups of keys, dotted names."""

import dataclasses
from dataclasses import field
from typing import Any


def key(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    path: bool = False,
    traced: bool = False,
    before: Any = None,
) -> Any:
    """A dataclass field with its default, the sentence that ``--help`` shows, and its range.

    Args:
        default: the default; its type is the key's type.
        doc: one sentence.
        choices: the only values allowed, for a string.
        low: smallest value allowed.
        above: every value allowed is greater than this one.
        high: largest value allowed.
        path: a file or directory, which is not empty where it is given.
        traced: a number that compiled programs take as an argument: another value compiles nothing.
        before: what runs did that were stored when there was no such key; None: as the default.
    """
    limits = {"choices": choices, "low": low, "above": above, "high": high}
    return field(
        default=default, metadata={"doc": doc, "path": path, "traced": traced, "before": before, **limits}
    )


def group(cls: type, doc: str) -> Any:
    """A nested group of keys, e.g. ``critic.lr``."""
    return field(default_factory=cls, metadata={"doc": doc})


def get(config: Any, name: str) -> Any:
    """The value of a dotted key."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def replace(config: Any, name: str, value: Any) -> Any:
    """A copy of ``config`` with one dotted key changed."""
    head, _, rest = name.partition(".")
    if rest:
        value = replace(getattr(config, head), rest, value)
    return dataclasses.replace(config, **{head: value})
