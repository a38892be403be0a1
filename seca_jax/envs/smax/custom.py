"""Maps of one's own: a Scenario, or a YAML file that says the same. No JAX here.

    allies: {stalker: 2, zealot: 3}     # unit types and how many, in the order of their numbers;
    enemies: [zergling, zergling]       # or one by one
    max_steps: 120                      # the time limit, in transitions (101 unless given)

and, unless left out, ``smac_steps`` (the limit under ``env.time_limit=smac``), ``random_start`` and
``random_types`` (positions and types drawn anew for every battle), ``start: {ally: [8, 16], enemy: [24, 16],
spread: 2}`` and ``ridge: {south: 13, north: 15, ramp_west: 24, ramp_east: 28}``, in cells of the 32 x 32 map.
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from seca_jax.config.errors import ConfigError
from seca_jax.envs.smax.scenarios import MAP_SIZE, Ridge, Scenario, Start
from seca_jax.envs.smax.units import TABLE, UPSTREAM_TYPES

SUFFIXES = (".yaml", ".yml")
KEYS = ("allies", "enemies", "max_steps", "smac_steps", "random_start", "random_types", "start", "ridge")
MOST = 128  # units of a side


def is_file(name: str) -> bool:
    """Whether a value of ``map=`` is a file and no name."""
    return name.endswith(SUFFIXES)


def read(path: str | os.PathLike) -> Scenario:
    """The map in a YAML file, by the file's name without its ending.

    Raises:
        ConfigError: it cannot be read, or is no map; one line.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        detail = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"map={path}: cannot be read ({detail})") from None
    if not re.fullmatch(r"[A-Za-z0-9]\w*", path.stem, re.ASCII):
        raise ConfigError(f"map={path}: name the file by letters, digits and underscores, as in duel.yaml")
    return parse(text, path.stem, f"map={path}")


@lru_cache(maxsize=64)
def parse(text: str, name: str, place: str) -> Scenario:
    """The map that ``text`` describes.

    Args:
        text: YAML.
        name: of the map.
        place: where the text comes from, for messages.

    Raises:
        ConfigError: it is no map; one line.
    """
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: is no YAML ({' '.join(str(error).split())[:160]})") from None
    try:
        found = _mapping(told, "a map", KEYS)
        for side in ("allies", "enemies"):
            if side not in found:
                raise ValueError(f"{side} are missing, as in {side}: {{stalker: 2, zealot: 3}}")
        scenario = Scenario(
            name,
            allies=_units(found["allies"], "allies"),
            enemies=_units(found["enemies"], "enemies"),
            smac_steps=_steps(found, "smac_steps", None),
            max_steps=_steps(found, "max_steps", Scenario._field_defaults["max_steps"]),
            random_start=_flag(found, "random_start"),
            random_types=_flag(found, "random_types"),
            start=_start(found.get("start")),
            ridge=_ridge(found.get("ridge")),
        )
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
    return checked(scenario, name, place)


def written(scenario: Scenario) -> str:
    """The map as a line of YAML, which :func:`parse` understands."""
    told: dict[str, Any] = {
        side: [TABLE.names[unit] for unit in getattr(scenario, side)] for side in ("allies", "enemies")
    }
    told |= {key: getattr(scenario, key) for key in ("max_steps", "random_start", "random_types")}
    if scenario.smac_steps is not None:
        told["smac_steps"] = scenario.smac_steps
    places = scenario.start._asdict()
    told["start"] = {name: list(x) if isinstance(x, tuple) else x for name, x in places.items()}
    if scenario.ridge is not None:
        told["ridge"] = scenario.ridge._asdict()
    return yaml.safe_dump(told, default_flow_style=True, sort_keys=False, width=2**30).strip()


def checked(scenario: Scenario, name: str, place: str = "") -> Scenario:
    """``scenario`` as the map ``name``, which jaxmarl lacks.

    Raises:
        ConfigError: nobody could fight that battle; one line.
    """
    try:
        for side in ("allies", "enemies"):
            _check_side(side, getattr(scenario, side), scenario.random_types)
        for key, least in (("max_steps", 1), ("smac_steps", 1)):
            steps = getattr(scenario, key)
            if steps is not None and steps < least:
                raise ValueError(f"{key}: {steps} must be at least {least}")
        start, ridge = scenario.start, scenario.ridge
        if start.spread < 0:
            raise ValueError(f"start: spread {start.spread} must be at least 0")
        for side in ("ally", "enemy"):
            x, y = getattr(start, side)
            if not all(start.spread <= place <= MAP_SIZE - start.spread for place in (x, y)):
                raise ValueError(
                    f"start: {side} [{x:g}, {y:g}] with a spread of {start.spread:g} leaves the map, "
                    f"which is 0 to {MAP_SIZE:g} both ways"
                )
        if ridge is not None and not 0 < ridge.south < ridge.north < MAP_SIZE:
            raise ValueError(f"ridge: south, then north must lie between 0 and {MAP_SIZE:g}")
        if ridge is not None and not 0 <= ridge.ramp_west < ridge.ramp_east <= MAP_SIZE:
            raise ValueError(f"ridge: ramp_west, then ramp_east must lie between 0 and {MAP_SIZE:g}")
    except ValueError as error:
        raise ConfigError(f"{place or f'map {name}'}: {error}") from None
    return scenario._replace(
        name=name, allies=tuple(scenario.allies), enemies=tuple(scenario.enemies), upstream=False
    )


def _check_side(side: str, units: Sequence[int], drawn: bool) -> None:
    """Raises ValueError where these units are no side of a battle."""
    if not 1 <= len(units) <= MOST:
        raise ValueError(f"{side}: {len(units)} units; give 1 to {MOST}")
    for unit in units:
        if unit not in range(len(TABLE.names)):
            raise ValueError(f"{side}: {unit!r} is no unit type; they are in seca_jax.envs.smax.units")
        if drawn and unit >= UPSTREAM_TYPES:
            names = ", ".join(TABLE.names[:UPSTREAM_TYPES])
            raise ValueError(f"{side}: where types are drawn, give only {names}")
    if all(TABLE.heals[unit] for unit in units):
        raise ValueError(f"{side}: who can only heal has lost before it begins; give a fighter too")


def _mapping(told: Any, what: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """``told`` if it is a mapping of some of ``keys``; raises ValueError."""
    if not isinstance(told, Mapping):
        raise ValueError(f"{what} is no mapping; it has {', '.join(keys)}")
    for name in told:
        if name not in keys:
            near = difflib.get_close_matches(str(name), keys, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"unknown key {name}{hint}; {what} has {', '.join(keys)}")
    return told


def _units(told: Any, side: str) -> tuple[int, ...]:
    """Unit types in the order of their numbers, from counts by name or from a list of names."""
    if isinstance(told, Mapping):
        pairs = list(told.items())
    elif isinstance(told, list):
        pairs = [(name, 1) for name in told]
    else:
        raise ValueError(f"{side}: expected {{stalker: 2, zealot: 3}} or a list of unit types")
    units: list[int] = []
    for name, count in pairs:
        if name not in TABLE.names:
            near = difflib.get_close_matches(str(name), TABLE.names, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"{side}: unknown unit type {name}{hint}; one of {', '.join(TABLE.names)}")
        if type(count) is not int or not 1 <= count <= MOST:
            raise ValueError(f"{side}: {name}: {count} must be a whole number from 1 to {MOST}")
        units += [TABLE.names.index(name)] * count
    return tuple(units)


def _steps(found: Mapping[str, Any], key: str, default: Any) -> Any:
    steps = found.get(key, default)
    if steps is not None and type(steps) is not int:
        raise ValueError(f"{key}: {steps} must be a whole number")
    return steps


def _flag(found: Mapping[str, Any], key: str) -> bool:
    flag = found.get(key, False)
    if type(flag) is not bool:
        raise ValueError(f"{key}: {flag} must be true or false")
    return flag


def _number(told: Any, what: str) -> float:
    if type(told) not in (int, float):
        raise ValueError(f"{what}: {told} must be a number")
    return float(told)


def _start(told: Any) -> Start:
    if told is None:
        return Start()
    values: dict[str, Any] = {}
    for name, value in _mapping(told, "start", Start._fields).items():
        if name == "spread":
            values[name] = _number(value, "start: spread")
        elif isinstance(value, list) and len(value) == 2:
            values[name] = tuple(_number(x, f"start: {name}") for x in value)
        else:
            raise ValueError(f"start: {name}: expected [x, y], in cells")
    return Start(**values)


def _ridge(told: Any) -> Ridge | None:
    if told is None:
        return None
    found = _mapping(told, "ridge", Ridge._fields)
    missing = [name for name in Ridge._fields if name not in found]
    if missing:
        raise ValueError(f"ridge: {missing[0]} is missing; it has {', '.join(Ridge._fields)}")
    return Ridge(**{name: _number(value, f"ridge: {name}") for name, value in found.items()})
