"""Environments, maps, learners and orders that other packages bring, by name. No JAX here.

Python code hands them over itself: :func:`register_env`, :func:`register_map`, :func:`register_learner`,
:func:`register_order`. An installed package names them in its metadata, as entry points of these groups:

=====================  ===========================================================================
``seca_jax.envs``      ``make(config) -> Environment``
``seca_jax.maps``      a Scenario, or the path of its YAML file
``seca_jax.learners``  ``make(config, env) -> Learner``; a YAML file beside its module, of the same
                       name, has the learner's settings
``seca_jax.orders``    ``order(policy, action, contribution) -> [..., N]``
=====================  ===========================================================================

The entry points are read once, when somebody first asks for a name; what one of them names is imported
when it is used, so that ``--help`` and a run of something else do not wait for it.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seca_jax.config.errors import ConfigError

if TYPE_CHECKING:
    import jax

    from seca_jax.algos.claims import Opinion
    from seca_jax.config.schema import Config
    from seca_jax.envs.base import Environment
    from seca_jax.envs.smax.scenarios import Scenario
    from seca_jax.types import Learner

GROUPS = {"env": "envs", "map": "maps", "learner": "learners", "order": "orders"}
KEYS = {"env": "map", "map": "map", "learner": "algo", "order": "credit.order"}
"""The key that asks for a name, by what it names."""

NAME = re.compile(r"[A-Za-z0-9]\w*", re.ASCII)
RESERVED = {"learner": ("all",), "order": ("random", "ig")}  # what benchmarks and audits say besides names


@dataclass
class Entry:
    """One registered name.

    Attributes:
        kind: env, map, learner or order.
        name: what the command line says.
        origin: where it comes from, in words.
        load: imports and returns what was registered.
        settings: of a learner, what its YAML says, every value text.
        package: name and version of the package whose entry point it is; None where code registered it.
    """

    kind: str
    name: str
    origin: str
    load: Callable[[], Any]
    settings: dict[str, Any] = field(default_factory=dict)
    package: tuple[str, str] | None = None


_registered: dict[str, dict[str, Entry]] = {kind: {} for kind in GROUPS}


# --- from Python ----------------------------------------------------------------------------------------


def register_env(name: str, make: "Callable[[Config], Environment]", *, replace: bool = False) -> None:
    """Makes ``map=name`` an environment of one's own.

    Args:
        name: letters, digits and underscores.
        make: ``config -> Environment``, see :class:`seca_jax.envs.base.Environment`; ``config.map`` is the
            name, ``config.env`` has ``reward_scale`` among others.
        replace: what was registered under that name gives way, as when a notebook's cell is run again.

    Raises:
        ConfigError: the name is taken, or is none.
    """
    _add(Entry("env", name, "register_env", lambda: make), replace)


def register_map(name: str, scenario: "Scenario | str | os.PathLike", *, replace: bool = False) -> None:
    """Makes ``map=name`` a SMAX battle of one's own.

    Args:
        name: letters, digits and underscores.
        scenario: a :class:`seca_jax.envs.smax.scenarios.Scenario`, or the path of its YAML file.
        replace: what was registered under that name gives way.

    Raises:
        ConfigError: the name is taken, or is none, or nobody could fight that battle.
    """
    battle = _scenario(scenario, name)
    _add(Entry("map", name, "register_map", lambda: battle), replace)


def register_learner(
    name: str,
    make: "Callable[[Config, Environment], Learner]",
    settings: Mapping[str, Any] | str | os.PathLike,
    *,
    opinion: "Callable[[Config, Environment], Opinion] | None" = None,
    replace: bool = False,
) -> None:
    """Makes ``algo=name`` a learner of one's own.

    Args:
        name: letters, digits and underscores.
        make: ``(config, env) -> Learner``, see :class:`seca_jax.types.Learner`. Numbers of the config may be
            traced.
        settings: what a file of ``seca_jax/config/conf/algo`` may hold, as a mapping or as the path of a
            YAML file: ``reads``, the keys and groups of keys that the learner looks at; ``settings``, where
            its defaults differ from the schema's; ``presets``.
        opinion: what its critic claims, for audits; without it they are refused.
        replace: what was registered under that name gives way.

    Raises:
        ConfigError: the name is taken, or is none, or the settings are no learner's.
    """
    from seca_jax.config import learners

    if isinstance(settings, Mapping):
        own, place = as_text(settings), f"the settings of {name}"
    else:
        own, place = _stored(Path(settings)), str(settings)
    learners.check(own, place)
    _add(Entry("learner", name, "register_learner", lambda: Maker(make, opinion), own), replace)


def register_order(
    name: str,
    function: "Callable[[jax.Array, jax.Array, Callable[[int | None], jax.Array]], jax.Array]",
    *,
    replace: bool = False,
) -> None:
    """Makes ``credit.order=name`` an order of assessment of one's own.

    Args:
        name: letters, digits and underscores.
        function: ``(policy [..., N, A], action [..., N, A] one-hot, contribution) -> [..., N]`` agents'
            numbers, first assessed first. ``contribution(None)`` [..., N] is each agent's contribution
            (Eq. 14) to the episode, ``contribution(10)`` to the stage of ten steps that a step belongs to.
        replace: what was registered under that name gives way.

    Raises:
        ConfigError: the name is taken, or is none.
    """
    _add(Entry("order", name, "register_order", lambda: function), replace)


@dataclass(frozen=True)
class Maker:
    """What makes a learner, and what tells its critic's claims; None: nobody does."""

    make: "Callable[[Config, Environment], Learner]"
    opinion: "Callable[[Config, Environment], Opinion] | None" = None


def as_text(settings: Any) -> Any:
    """Nested settings as a YAML file has them: every value is text, for the schema to type."""
    if isinstance(settings, Mapping):
        return {str(name): as_text(value) for name, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [as_text(value) for value in settings]
    return str(settings)


# --- for those who look names up ------------------------------------------------------------------------


def names(kind: str) -> list[str]:
    """The registered names of a kind: env, map, learner or order."""
    return list(_entries()[kind])


def settings(learner: str) -> dict[str, Any]:
    """What the YAML of a registered learner says; raises KeyError."""
    return _entries()["learner"][learner].settings


def origin(kind: str, name: str) -> str:
    """Where a registered name comes from, in words; raises KeyError."""
    return _entries()[kind][name].origin


def packages() -> dict[str, str]:
    """Versions, by name, of the packages that bring something."""
    return dict(entry.package for own in _entries().values() for entry in own.values() if entry.package)


def load(kind: str, name: str) -> Any:
    """What was registered under a name: make of an environment, Scenario, :class:`Maker`, order.

    Raises:
        ConfigError: it comes from an entry point that cannot be loaded.
        KeyError: no such name.
    """
    entry = _entries()[kind][name]
    try:
        found = entry.load()
    except Exception as error:  # whatever a package's import can raise
        detail = " ".join(str(error).split())
        raise ConfigError(
            f"{KEYS[kind]}={name}: {entry.origin} cannot be loaded ({type(error).__name__}: {detail[:200]})"
        ) from error
    entry.load = lambda: found
    return found


# --- behind them ----------------------------------------------------------------------------------------


def _entries() -> dict[str, dict[str, Entry]]:
    _read_entry_points()
    return _registered


@cache
def _read_entry_points() -> None:
    for kind, group in GROUPS.items():
        for point in sorted(entry_points(group=f"seca_jax.{group}"), key=lambda point: point.name):
            origin = f"entry point seca_jax.{group}: {point.name} = {point.value}"
            if point.dist is not None:
                origin += f" of {point.dist.name} {point.dist.version}"
            try:
                entry = Entry(kind, point.name, origin, lambda point=point, kind=kind: _load(kind, point))
                entry.package = (point.dist.name, point.dist.version) if point.dist else None
                spec = _module(point)
                if kind == "learner":
                    entry.settings = _settings_beside(spec, point)
                _check_name(entry, replace=False)
                _registered[kind][point.name] = entry
            except Exception as error:  # whatever a package's metadata may hold
                print(f"warning: {origin} is left out: {' '.join(str(error).split())}", file=sys.stderr)


def _module(point: EntryPoint) -> ModuleSpec:
    """Where the module of an entry point is; raises ConfigError. Nothing is imported for it."""
    if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+", point.value):
        raise ConfigError("expected package.module:name")
    head, *rest = point.module.split(".")
    spec, path = importlib.util.find_spec(head), head
    for part in rest:
        path = f"{path}.{part}"
        spec = PathFinder.find_spec(path, spec.submodule_search_locations) if spec else None
    if spec is None:
        raise ConfigError(f"there is no module {point.module}")
    return spec


def _settings_beside(spec: ModuleSpec, point: EntryPoint) -> dict[str, Any]:
    """What the YAML file beside a learner's module says; raises ConfigError."""
    from seca_jax.config import learners

    path = Path(spec.origin or "").with_name(f"{point.module.rpartition('.')[2]}.yaml")
    own = _stored(path)
    learners.check(own, str(path))
    return own


def _stored(path: Path) -> dict[str, Any]:
    from seca_jax.config import learners

    try:
        return learners.stored(path)
    except OSError as error:
        raise ConfigError(f"{path}: the learner's settings cannot be read ({error.strerror})") from None
    except Exception as error:  # whatever a damaged file can do to the parser
        raise ConfigError(f"{path}: is no YAML ({' '.join(str(error).split())[:120]})") from None


def _load(kind: str, point: EntryPoint) -> Any:
    found: Any = point.load()
    if kind == "map":
        return _scenario(found, point.name)
    if not callable(found):
        raise TypeError(f"{point.value} is no function but {type(found).__name__}")
    if kind == "learner":
        make: Any = found
        return Maker(make, getattr(sys.modules[point.module], "opinion", None))
    return found


def _scenario(given: Any, name: str) -> "Scenario":
    from seca_jax.envs.smax import custom
    from seca_jax.envs.smax.scenarios import Scenario

    if isinstance(given, Scenario):
        return custom.checked(given, name)
    if isinstance(given, (str, os.PathLike)):
        return custom.checked(custom.read(given), name)
    raise ConfigError(
        f"map {name}: expected a Scenario or the path of a YAML file, not {type(given).__name__}"
    )


def _add(entry: Entry, replace: bool) -> None:
    from seca_jax.config import learners

    _read_entry_points()
    _check_name(entry, replace)
    for kind in ("env", "map") if KEYS[entry.kind] == "map" else (entry.kind,):
        _registered[kind].pop(entry.name, None)
    _registered[entry.kind][entry.name] = entry
    learners.forget()


def _check_name(entry: Entry, replace: bool) -> None:
    """Raises ConfigError where a name cannot be given."""
    name, key = entry.name, KEYS[entry.kind]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"{key}={name}: a name is made of letters, digits and underscores")
    taken = name in _own(entry.kind)
    for kind in (kind for kind in GROUPS if KEYS[kind] == key):
        taken |= name in _registered[kind] and not replace
    if taken:
        replaceable = entry.package is None and name not in _own(entry.kind)
        way_out = "give another name" + (" or replace=True" if replaceable else "")
        raise ConfigError(f"{key}={name}: there is one of that name already; {way_out}")


def _own(kind: str) -> tuple[str, ...]:
    """The names of a kind that this package has itself, and those that mean something else."""
    from seca_jax.config import learners
    from seca_jax.credit import names as orders
    from seca_jax.envs import registry as maps

    own = {"learner": learners.own, "order": lambda: orders.PLAIN}.get(kind, maps.own)
    return (*own(), *RESERVED.get(kind, ()))
