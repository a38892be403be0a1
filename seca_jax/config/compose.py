"""From ``key=value`` words to a complete, checked Config; a run's config.yaml, written and read.

Hydra composes the YAML groups over the schema; the words of the command line are typed by the
schema's own fields, so that a path may hold any character and 4e6 is a whole number.
"""

import itertools
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterable

import yaml

from seca_jax.config.check import TYPE_NAMES, ConfigError, check, nearest, one_of
from seca_jax.config.schema import Config, get, keys, replace

CONF = Path(__file__).parent / "conf"
GROUPS = ("algo", "preset")
ESSENTIAL = ("map", "algo", "seeds", "seed", "total_steps")  # without them a config.yaml is no run's
# What a resumed run may change: how long, where and how it is watched, not what it computes
FREE_ON_RESUME = ("device", "log.progress", "checkpoint.interval", "checkpoint.keep") + tuple(
    name for name, _ in keys() if name.startswith("wandb.")
)


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in (CONF / "preset").glob("*.yaml"))


def typed(name: str, text: str, schema: type = Config) -> Any:
    """The value that ``text`` stands for, in the type of the key ``name`` of ``schema``.

    Raises:
        ConfigError: no such key, or not a value of its type.
    """
    kinds = {key: field.type for key, field in keys(schema)}
    if name not in kinds:
        group, hint = name.partition(".")[0], nearest(name, list(kinds))
        inside = ", ".join(key for key in kinds if key.startswith(group + "."))
        if inside and name == group:
            raise ConfigError(f"{name}={text}: {name} is a group of keys: {inside}")
        if inside and not hint:
            raise ConfigError(f"unknown key {name}; {group} has {inside}")
        raise ConfigError(f"unknown key {name}{hint}; --help lists all keys")
    kind = kinds[name]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int:
            number = float(text)  # so that 4e6 may be written
            return int(text.replace("_", "")) if number != int(number) or number > 2**53 else int(number)
        if kind is float:
            return float(text)
    except (ValueError, KeyError, OverflowError):
        hint = "; several values need --multirun" if "," in text else ""
        raise ConfigError(f"{name}={text}: expected {TYPE_NAMES[kind]}{hint}") from None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def parse(overrides: Iterable[str], schema: type = Config) -> dict[str, Any]:
    """Values by key of ``schema`` from ``key=value`` words; raises ConfigError, naming the word."""
    values = {}
    for word in overrides:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"{word}: expected key=value; --help lists all keys")
        values[name] = typed(name, text, schema)
    return values


def expand(overrides: Iterable[str]) -> list[list[str]]:
    """The jobs of a sweep: ``seed=0,5 map=3m`` becomes ``[[seed=0, map=3m], [seed=5, map=3m]]``.

    Hydra's sweep grammar: commas, ``range(0,5)``, ``choice(a,b)``. Raises ConfigError.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    axes = []
    for word in overrides:
        name = word.partition("=")[0]
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:
            axes.append([word])  # no sweep in it; parse() judges it
            continue
        sweeps = override.is_sweep_override()
        axes.append([f"{name}={v}" for v in override.sweep_string_iterator()] if sweeps else [word])
    return [list(job) for job in itertools.product(*axes)]


def compose(values: dict[str, Any]) -> Config:
    """The schema, the algorithm's and the preset's YAML, and ``values`` on top; not yet checked.

    Raises:
        ConfigError: unknown algorithm or preset.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from seca_jax import algos

    if "algo" in values:
        one_of("algo", values["algo"], algos.names())
    if "preset" in values:
        one_of("preset", values["preset"], presets())
    schema = OmegaConf.structured(Config)
    for node in (schema, *(schema[name] for name in schema if OmegaConf.is_config(schema[name]))):
        OmegaConf.set_readonly(node, False)  # the dataclasses are frozen, their composition is not
    ConfigStore.instance().store("schema", schema)
    chosen = [f"{name}={values[name]}" for name in GROUPS if name in values]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(hydra_compose("config", chosen))
    for name, value in values.items():
        config = replace(config, name, value)
    return config


def load(run_dir: str | os.PathLike) -> tuple[Config, dict[str, Any]]:
    """The resolved config of a run and its provenance (versions, device, commit, command).

    A key that the run's version did not know yet has its default, which is what that version did.

    Raises:
        ConfigError: no run there, or its config.yaml is damaged.
    """
    path = Path(run_dir) / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run_dir}: no run there (config.yaml is missing); give a run directory")
    try:
        stored, missing = yaml.safe_load(path.read_text()), object()
        provenance = stored.pop("provenance")
        config = Config()
        for name, _ in keys():
            value: Any = stored
            for part in name.split("."):
                value = value.get(part, missing) if value is not missing else missing
            if value is not missing:
                config = replace(config, name, value)
            elif name in ESSENTIAL:
                raise ConfigError(f"it lacks {name}")
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    except Exception as error:  # whatever a damaged file can do to the parser
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path} is damaged ({type(error).__name__}: {detail[:120]})") from None
    return config, provenance


def save(run_dir: str | os.PathLike, config: Config, provenance: dict[str, Any]) -> None:
    """Writes config.yaml, all at once; raises OSError, leaving it as it was."""
    path = Path(run_dir) / "config.yaml"
    draft = path.with_suffix(".tmp")
    try:
        draft.write_text(yaml.safe_dump({**asdict(config), "provenance": provenance}, sort_keys=False))
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def resumed(values: dict[str, Any]) -> Config:
    """The stored config of ``resume=<dir>``, with the few changes that a resumed run may make.

    Raises:
        ConfigError: no run there, or a key given beside ``resume`` contradicts it.
    """
    run_dir = values["resume"]
    config, _ = load(run_dir)
    # The directory may have been moved or named by another path since
    config = replace(replace(config, "out", str(run_dir)), "resume", str(run_dir))
    for name, value in values.items():
        stored = get(config, name)
        if name == "out" and os.path.realpath(value) != os.path.realpath(stored):
            raise ConfigError(f"out={value}: a resumed run stays in its directory, {stored}")
        if name == "total_steps" and value < stored:
            raise ConfigError(f"total_steps={value}: a resumed run can only be made longer than {stored}")
        fixed = name not in FREE_ON_RESUME and name not in ("out", "resume", "total_steps")
        if fixed and value != stored:
            raise ConfigError(f"{name}={value}: the run in {run_dir} has {name}={stored}; leave the key out")
        if not fixed:
            config = replace(config, name, value)
    check(config)
    return config
