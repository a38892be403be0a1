"""From values to a complete Config; a run's config.yaml, written and read.

A configuration is the schema's defaults, then the learner's own settings, then the preset's, then what
the learner has of its own in that preset, then what the command line says: plain YAML, laid one over
the other and typed by the schema. ``maps`` in a YAML file holds settings of single maps; ``needs`` in a
preset's names a key: to learners that do not look at it the preset says nothing.

``map`` may be a SMAX map itself, a YAML file or a Scenario, which then becomes part of the configuration.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from seca_jax import runs
from seca_jax.config import learners
from seca_jax.config.check import ConfigError, check, one_of
from seca_jax.config.keys import get, replace
from seca_jax.config.learners import CONF
from seca_jax.config.schema import Config, DistributedConfig, keys
from seca_jax.config.words import parse, typed
from seca_jax.credit import names as orders
from seca_jax.envs import registry
from seca_jax.envs.smax import custom
from seca_jax.envs.smax.scenarios import Scenario

GROUPS = ("algo", "preset")
ESSENTIAL = ("map", "algo", "seeds", "seed", "total_steps")  # without them a config.yaml is no run's
# What a resumed run may change: how long, where and how it is watched, not what it computes
FREE_ON_RESUME = ("device", "mesh", "log.progress", "log.tensorboard") + tuple(
    name for name, _ in keys() if name.startswith(("checkpoint.", "distributed.", "wandb."))
)


def presets() -> list[str]:
    """Names of the presets."""
    return list(learners.presets())


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and text of every setting of a YAML file."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def layers(algo: str, preset: str, map_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What ``conf/`` lays over the schema's defaults, bottom first: a name for people, values by key.

    Raises:
        ConfigError: a file holds what the schema does not know.
    """
    own = learners.learner(algo)
    place = f"algo/{algo}.yaml" if algo in learners.own() else f"the settings of {algo}"
    common = learners.stored(CONF / "preset" / f"{preset}.yaml")
    if learners.unread(common.pop("needs", "map"), algo):
        common = {}
    files = (
        (place, own.get("settings", {})),
        (f"preset/{preset}.yaml", common),
        (f"{place}, preset {preset}", own.get("presets", {}).get(preset, {})),
    )
    for place, settings in files:
        everywhere = {name: value for name, value in settings.items() if name != "maps"}
        for part in (everywhere, settings.get("maps", {}).get(map_name, {})):
            try:
                yield place, {name: typed(name, text) for name, text in flat(part)}
            except ConfigError as error:
                raise ConfigError(f"{place}: {error}") from None


def compose(values: Mapping[str, Any]) -> Config:
    """The schema, the learner's and the preset's YAML, and ``values`` on top; not yet checked.

    Raises:
        ConfigError: unknown learner or preset, or ``map`` is a file without a map.
    """
    values = with_scenario(values)
    algo, preset = values.get("algo", Config.algo), values.get("preset", Config.preset)
    one_of("algo", algo, learners.names())
    one_of("preset", preset, learners.presets())
    config = Config(algo=algo, preset=preset)
    map_name = values.get("map", Config.map)
    for settings in (*(settings for _, settings in layers(algo, preset, map_name)), values):
        for name, value in settings.items():
            config = replace(config, name, value)
    return config


def with_scenario(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """``values`` with a ``map`` that is a YAML file or a Scenario turned into its name and its content.

    Raises:
        ConfigError: the file is no map, or there is a map of its name.
    """
    given = values.get("map")
    if isinstance(given, Scenario):
        scenario = custom.checked(given, given.name)
    elif given is not None and custom.is_file(given):
        scenario = custom.read(given)
    else:
        return values
    if scenario.name in registry.names():
        raise ConfigError(f"map={given}: there is a map {scenario.name} already; give it another name")
    return {**values, "map": scenario.name, "env.scenario": custom.written(scenario)}


def on_map(config: Config, given: str) -> Config:
    """``config`` on the map ``given``, a name or a YAML file, and checked; raises ConfigError."""
    if given == config.map:
        return config
    for name, value in {"env.scenario": "", **with_scenario({"map": given})}.items():
        config = replace(config, name, value)
    check(config)
    return config


def from_words(words: Iterable[str]) -> Config:
    """The complete and checked configuration that ``key=value`` words ask for; raises ConfigError."""
    config = compose(parse(words))
    check(config)
    return config


def load(run_dir: str | os.PathLike) -> tuple[Config, dict[str, Any]]:
    """The resolved config of a run and its provenance (versions, device, commit, command).

    A key that the run's version did not know yet has the value that says what that version did.

    Raises:
        ConfigError: no run there, its config.yaml is damaged, or it names what is not installed here.
    """
    path = runs.place(run_dir) / runs.CONFIG
    if not path.is_file():
        raise ConfigError(f"{run_dir}: no run there (config.yaml is missing); give a run directory")
    try:
        stored, missing = yaml.safe_load(path.read_text()), object()
        provenance = stored.pop("provenance")
        config = Config()
        for name, field in keys():
            value: Any = stored
            for part in name.split("."):
                value = value.get(part, missing) if value is not missing else missing
            if value is not missing:
                config = replace(config, name, value)
            elif name in ESSENTIAL:
                raise ConfigError(f"it lacks {name}")
            elif field.metadata["before"] is not None:
                config = replace(config, name, field.metadata["before"])
        missing = absent(config)
        if not missing:
            check(config)
    except ConfigError as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    except Exception as error:  # whatever a damaged file can do to the parser
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path} is damaged ({type(error).__name__}: {detail[:120]})") from None
    if missing:
        raise ConfigError(f"{path}: {missing}: not installed here; install the package that registers it")
    return config, provenance


def absent(config: Config) -> str:
    """The first of a run's map, learner and order that nobody registers here, as key=value; or empty."""
    if not config.env.scenario and config.map not in registry.names():
        return f"map={config.map}"
    if config.algo not in learners.names():
        return f"algo={config.algo}"
    try:
        if not learners.unread("credit.order", config.algo):
            orders.parse(config.credit.order)
    except ValueError:
        return f"credit.order={config.credit.order}"
    return ""


def save(run_dir: str | os.PathLike, config: Config, provenance: dict[str, Any]) -> None:
    """Writes config.yaml, all at once; raises OSError, leaving it as it was."""
    # Where the processes of this command are is no property of the run
    config = replace(config, "distributed", DistributedConfig())
    text = yaml.safe_dump({**asdict(config), "provenance": provenance}, sort_keys=False)
    runs.write_atomically(Path(run_dir) / runs.CONFIG, text)


def resumed(values: dict[str, Any]) -> Config:
    """The stored config of ``resume=<dir>``, with the few changes that a resumed run may make.

    Raises:
        ConfigError: no run there, or a key given beside ``resume`` contradicts it.
    """
    run_dir = values["resume"]
    config, _ = load(run_dir)
    if runs.policy_alone(run_dir):
        raise ConfigError(
            f"resume={run_dir}: its policy alone is there; init={run_dir} starts training from it"
        )
    # The directory may have been moved or named by another path since
    config = replace(replace(config, "out", str(run_dir)), "resume", str(run_dir))
    values = dict(with_scenario(values))
    for name, value in values.items():
        stored = get(config, name)
        if name == "out" and os.path.realpath(value) != os.path.realpath(stored):
            raise ConfigError(f"out={value}: a resumed run stays in its directory, {stored}")
        if name == "total_steps" and value < stored:
            raise ConfigError(f"total_steps={value}: a resumed run can only be made longer than {stored}")
        fixed = name not in FREE_ON_RESUME and name not in ("out", "resume", "total_steps")
        if fixed and value != stored:
            raise ConfigError(
                f"{name}={value}: the run in {run_dir} has {name}={stored}; "
                f"leave the key out, or train anew from it with init={run_dir}"
            )
        if not fixed:
            config = replace(config, name, value)
    check(config)
    return config
