"""The command line's ``key=value`` words: typed by the schema's own fields, and the jobs of a sweep.

A value's type is its key's, so that a path may hold any character and 4e6 is a whole number.
"""

import itertools
import math
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from seca_jax.config import learners
from seca_jax.config.check import TYPE_NAMES, ConfigError, check_field, nearest
from seca_jax.config.schema import Config, keys
from seca_jax.envs import registry
from seca_jax.envs.smax import custom
from seca_jax.envs.smax.scenarios import Scenario

FLAGS = ("help", "multirun", "together")  # after two dashes
SHORT = {
    "init": "init.run",
    "distributed": "distributed.coordinator",
}  # the key that a group's name alone stands for


def parse(words: Iterable[str], schema: type = Config) -> dict[str, Any]:
    """Values by key of ``schema`` from ``key=value`` words; raises ConfigError, naming the word."""
    words, values = list(words), {}
    for i, word in enumerate(words):
        name, equals, text = word.partition("=")
        alone = i + 1 == len(words) or "=" in words[i + 1][1:] or words[i + 1].startswith("-")
        if not equals or not name or name.startswith("-") or not (text or alone):
            raise ConfigError(misspelt(words[i:], schema))
        name = SHORT.get(name, name)
        values[name] = typed(name, text, schema)
    return values


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values by key of a run, as Python has them.

    Args:
        settings: by key, ``{"actor.lr": 1e-3}``, or nested as ``{"actor": {"lr": 1e-3}}``; None leaves a
            key as it is. ``map`` may be a Scenario.

    Raises:
        ConfigError: no such key, or not a value of its type.
    """
    values = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= given({f"{name}.{inner}": own for inner, own in value.items()})
        elif value is not None:
            name = SHORT.get(name, name)
            values[name] = value if isinstance(value, Scenario) else typed(name, str(value))
    return values


def repeated(words: Iterable[str], several: Sequence[str] = ()) -> list[str]:
    """A line for each key that ``words`` give more than once, but for ``several``: the last one counts."""
    last, again = {}, []
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and name in last and name not in (*several, *again) and "/" not in name:  # a path is no key
            again.append(name)
        last[name] = word
    return [f"{name} is given more than once; {last[name]} counts" for name in again]


def misspelt(words: Sequence[str], schema: type) -> str:
    """What is wrong with the first of ``words``, which is no ``key=value``, and what was probably meant."""
    word, *rest = words
    kinds = {name: field.type for name, field in keys(schema)}
    name, _, text = word.lstrip("-").partition("=")
    said = word
    if rest and not text and not rest[0].startswith("-") and "=" not in rest[0][1:]:
        # map = 3m, map =3m, map= 3m, map: 3m, --map 3m: the value is the next word, or after an equals sign
        taken = rest[: 2 if rest[0] == "=" else 1]
        said, name, text = " ".join([word, *taken]), name.removesuffix(":"), taken[-1].removeprefix("=")
    elif not text:
        name, _, text = name.partition(":")
    name = name if name in kinds else name.replace("-", "_")
    if name in kinds:
        text = text or ("true" if kinds[name] is bool else "...")
        return f"{said}: write {name}={text}; --help lists all keys"
    if not word.strip():
        return "an empty word (an unset shell variable?); expected key=value"
    if near := get_close_matches(name, FLAGS, n=1, cutoff=0.7):
        return f"{word}: expected key=value (did you mean --{near[0]}?); --help lists all keys"
    if word.startswith("-"):
        return f"{word}: expected key=value{nearest(name, list(kinds), cutoff=0.7)}; --help lists all keys"
    hint = ""
    if issubclass(schema, Config):
        values = {"map": registry.names(), "algo": learners.names(), "preset": learners.presets()}
        hint = next((f", as in {key}={word}" for key, known in values.items() if word in known), "")
        if (Path(word) / "config.yaml").is_file():
            hint = f", as in resume={word}"
        elif custom.is_file(word):
            hint = f", as in map={word}"
    elif "run" in kinds:
        if "/" in word or Path(word).exists():
            return f"{word}: no run there (config.yaml is missing); give a run's directory"
        hint = f", as in run={word}"
    return f"{word}: expected key=value{hint}; --help lists all keys"


def described(name: str, schema: type) -> str:
    """`` (did you mean x?)`` of the keys whose meaning has the words of ``name``, as learning_rate has."""
    phrase = name.replace("_", " ").lower()
    found = [key for key, field in keys(schema) if " " in phrase and phrase in field.metadata["doc"]]
    return f" (did you mean {' or '.join(found)}?)" if 0 < len(found) < 5 else ""


def typed(name: str, text: str, schema: type = Config) -> Any:
    """The value that ``text`` stands for, in the type of the key ``name`` of ``schema``.

    Raises:
        ConfigError: no such key, or not a value of its type.
    """
    fields = dict(keys(schema))
    if name not in fields:
        group, hint = name.partition(".")[0], nearest(name, list(fields)) or described(name, schema)
        inside = ", ".join(key for key in fields if key.startswith(group + "."))
        if inside and name == group:
            raise ConfigError(f"{name}={text}: {name} is a group of keys: {inside}")
        if inside and not hint:
            raise ConfigError(f"unknown key {name}; {group} has {inside}")
        raise ConfigError(f"unknown key {name}{hint}; --help lists all keys")
    kind, place = fields[name].type, fields[name].metadata["path"]
    if not text.strip() and (place or fields[name].default != ""):
        right = "a path" if place else "a value"
        raise ConfigError(f"{name}=: empty (an unset shell variable?); give {right}, or leave the key out")
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int:
            number = float(text)  # so that 4e6 may be written
            return int(text.replace("_", "")) if number != int(number) or number > 2**53 else int(number)
        if kind is float:
            return float(text)
    except (ValueError, KeyError, OverflowError):
        hint = "; several values need --multirun" if sweeps(text) else ""
        if size := re.fullmatch(r"([\d.]+)([kKmM])", text):
            hint = f" (write {size[1]}e{3 if size[2] in 'kK' else 6})"
        elif re.fullmatch(r"\d{1,3}(,\d{3})+", text):
            hint = f" (write {text.replace(',', '_')})"
        elif kind is float and re.fullmatch(r"\d+,\d+", text):
            hint = f" (write {text.replace(',', '.')})"
        raise ConfigError(f"{name}={text}: expected {TYPE_NAMES[kind]}{hint}") from None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def options(words: Iterable[str], schema: type) -> Any:
    """A ``schema``, complete and each key within its range, from ``key=value`` words; raises ConfigError."""
    chosen = schema(**parse(words, schema))
    for name, field in keys(schema):
        check_field(name, field.type, field.metadata, getattr(chosen, name))
    return chosen


def expand(words: Iterable[str]) -> list[list[str]]:
    """The jobs of a sweep: ``seed=0,5 map=3m`` becomes ``[[seed=0, map=3m], [seed=5, map=3m]]``.

    Several values are ``a,b``, ``choice(a,b)`` or ``range(start,stop,step)`` (start 0 and step 1 unless
    given, stop excluded). A comma inside quotes or brackets separates nothing. Raises ConfigError.
    """
    axes: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        axes[name] = [f"{name}={value}" for value in sweep(name, text)] if equals else [word]
    return [list(job) for job in itertools.product(*axes.values())]


def sweeps(text: str) -> bool:
    """Whether ``text`` stands for several values."""
    return len(split(text)) > 1 or bool(re.fullmatch(r"(range|choice)\(.*\)", text))


def sweep(name: str, text: str) -> list[str]:
    """The values that ``text``, one value or several, stands for; raises ConfigError."""
    call = re.fullmatch(r"(range|choice)\((.*)\)", text)
    if call and call[1] == "range":
        return spaced(name, text, split(call[2]))
    values = [value.strip() for value in split(call[2] if call else text)]
    if len(values) > 1 and not all(values):
        raise ConfigError(f"{name}={text}: a value is missing beside a comma")
    return values


def split(text: str) -> list[str]:
    """``text`` at its commas, but for those inside quotes or brackets; whole where these do not match."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts if not depth and not quote else [text]


def spaced(name: str, text: str, bounds: Sequence[str]) -> list[str]:
    """The values of ``range(bounds)``, as Python's but for fractions too; raises ConfigError."""
    try:
        numbers = [float(bound) for bound in bounds]
        start, stop, step = {1: [0.0, *numbers, 1.0], 2: [*numbers, 1.0], 3: numbers}[len(numbers)]
        count = math.ceil((stop - start) / step - 1e-9)
    except (ValueError, KeyError, ZeroDivisionError, OverflowError):
        raise ConfigError(f"{name}={text}: expected range(start,stop) or range(start,stop,step)") from None
    if count < 1:
        raise ConfigError(f"{name}={text}: has no values")
    return [f"{start + i * step:.12g}" for i in range(count)]
