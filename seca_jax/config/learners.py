"""The learners as their YAML files know them: the keys that each reads, and its own settings.

Ours lie in ``conf/algo/``; other packages bring theirs, see :mod:`seca_jax.extensions`.

A file may hold

``reads``
    Keys and groups of keys that the learner looks at. A key that no learner's ``reads`` mentions is
    everybody's.
``settings``
    Where its defaults differ from the schema's.
``presets``
    By name of a preset, what the learner has of its own in it. Under ``maps``, by name of a map, what it
    has there alone; a preset's own file may have that too.
``like``
    Another learner of ours, whose file says what this one leaves out.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from seca_jax import extensions
from seca_jax.config.errors import ConfigError
from seca_jax.config.schema import Config

CONF = Path(__file__).parent / "conf"


def stored(path: Path) -> dict[str, Any]:
    """A file of ``conf/``, nested as written; every value is text, for the schema to type."""
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader) or {}


@cache
def own() -> tuple[str, ...]:
    """The learners of this package."""
    return tuple(sorted(path.stem for path in (CONF / "algo").glob("*.yaml")))


@cache
def names() -> tuple[str, ...]:
    """Every learner that ``algo=`` accepts."""
    return tuple(sorted((*own(), *extensions.names("learner"))))


@cache
def presets() -> tuple[str, ...]:
    """Every preset that ``preset=`` accepts."""
    return tuple(sorted(path.stem for path in (CONF / "preset").glob("*.yaml")))


@cache
def learner(algo: str) -> dict[str, Any]:
    """What the file of the learner ``algo`` says; raises OSError where there is none."""
    if algo in extensions.names("learner"):
        return extensions.settings(algo)
    said = stored(CONF / "algo" / f"{algo}.yaml")
    return {**learner(said.pop("like")), **said} if "like" in said else said


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


def forget() -> None:
    """Looks learners up anew from now on: another one has been registered."""
    for looked_up in (names, learner, readers):
        looked_up.cache_clear()


def check(settings: Any, place: str) -> None:
    """Raises ConfigError, naming the ``place``, where ``settings`` are not what a learner's file may hold."""
    from seca_jax.config.schema import keys

    parts = ("reads", "settings", "presets")
    if not isinstance(settings, Mapping) or not isinstance(settings.get("reads"), list):
        raise ConfigError(f"{place}: reads is missing, the list of keys that the learner looks at")
    if unknown := [name for name in settings if name not in parts]:
        raise ConfigError(f"{place}: unknown entry {unknown[0]}; there are {', '.join(parts)}")
    known = [name for name, _ in keys()]
    for entry in settings["reads"]:
        if not any(mentions(entry, name) for name in known):
            raise ConfigError(f"{place}: reads {entry}, which is no key and no group of keys")
    for name in parts[1:]:
        if not isinstance(settings.get(name, {}), Mapping):
            raise ConfigError(f"{place}: {name} is no mapping")
    for name, part in settings.get("presets", {}).items():
        if name not in presets():
            raise ConfigError(f"{place}: there is no preset {name}; there are {', '.join(presets())}")
        if not isinstance(part, Mapping):
            raise ConfigError(f"{place}: {name} is no mapping")


# By critic.kind, what says nothing of a critic of that kind
_IDLE = {
    "joint": ("critic.value_hidden", "critic.pairs", "critic.surprise_lam", "critic.credit_stride"),
    "dueling": ("critic.pairs",),
    "multilinear": ("critic.mixing", "critic.hypernet_hidden"),
}


def idle_for(name: str, algo: str, kind: str) -> bool:
    """:func:`idle` where no configuration is at hand; ``kind`` is its ``critic.kind``."""
    return unread(name, algo) or (name in _IDLE.get(kind, ()) and not unread("critic.kind", algo))


def idle(name: str, config: Config) -> bool:
    """Whether a run of ``config`` never looks at the key ``name``: its learner, or its kind of critic."""
    return idle_for(name, config.algo, config.critic.kind)
