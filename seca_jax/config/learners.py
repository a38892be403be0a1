"""The learners as ``conf/algo/`` knows them: a YAML file each, with the keys it reads and its own settings.

A file may hold

``reads``
    Keys and groups of keys that the learner looks at. A key that no learner's ``reads`` mentions is
    everybody's.
``settings``
    Where its defaults differ from the schema's.
``presets``
    By name of a preset, what the learner has of its own in it. Under ``maps``, by name of a map, what it
    has there alone; a preset's own file may have that too.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parent / "conf"


def stored(path: Path) -> dict[str, Any]:
    """A file of ``conf/``, nested as written; every value is text, for the schema to type."""
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader) or {}


@cache
def names() -> tuple[str, ...]:
    """Every learner that ``algo=`` accepts."""
    return tuple(sorted(path.stem for path in (CONF / "algo").glob("*.yaml")))


@cache
def presets() -> tuple[str, ...]:
    """Every preset that ``preset=`` accepts."""
    return tuple(sorted(path.stem for path in (CONF / "preset").glob("*.yaml")))


@cache
def learner(algo: str) -> dict[str, Any]:
    """What the file of the learner ``algo`` says; raises OSError where there is none."""
    return stored(CONF / "algo" / f"{algo}.yaml")


def mentions(entry: str, name: str) -> bool:
    """Whether ``entry`` of a ``reads`` is the key ``name`` or its group."""
    return name == entry or name.startswith(entry + ".")


@cache
def readers(name: str) -> tuple[str, ...]:
    """The learners that look at the key ``name``."""
    found = [algo for algo in names() if any(mentions(entry, name) for entry in learner(algo)["reads"])]
    return tuple(found) or names()


def unread(name: str, algo: str) -> bool:
    """Whether the learner ``algo`` never looks at the key ``name``."""
    return algo not in readers(name)
