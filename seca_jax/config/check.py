"""Is a configuration possible? Every check here runs before JAX is imported.

The schema's types and ranges hold for all keys; what else is asked of a key, only where the learner reads it.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seca_jax.config import learners
from seca_jax.config.errors import ConfigError
from seca_jax.config.keys import get
from seca_jax.config.schema import Config, keys, mesh_of, steps_per_update
from seca_jax.credit import names as orders
from seca_jax.envs import registry

# What an update cuts its environments into, or draws of them
MINIBATCHES = ("actor.minibatches", "critic.minibatches", "q.batch")
TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def folded(name: str) -> str:
    """A name as those of learners are written: no capitals, no hyphens."""
    return name.lower().replace("-", "_")


def nearest(name: str, names: Sequence[str], cutoff: float = 0.6) -> str:
    """`` (did you mean x?)``, or nothing when no name comes close."""
    # A user may leave out the group, as in lr for actor.lr
    tails = [n for n in names if n.rpartition(".")[2] == name.rpartition(".")[2]]
    cases = [n for n in names if n.lower() == folded(name)]
    group, dot, key = name.rpartition(".")
    inside = [n for n in names if dot and n.startswith(group + dot)]
    if inside:  # what names of a group share would make all of them look alike
        likely = difflib.get_close_matches(key, [n.rpartition(".")[2] for n in inside], n=1, cutoff=cutoff)
        near = [f"{group}.{own}" for own in likely]
    else:
        near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    close = tails or cases or near
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def one_of(name: str, value: str, names: Sequence[str]) -> None:
    """Raises ConfigError unless ``value`` is among ``names``."""
    if value not in names:
        # A short list speaks for itself; in a long one of short names, one letter is half the name
        told = len(names) > 6 or any(folded(value) == name.lower() for name in names)
        hint = nearest(value, names, cutoff=0.5) if told else ""
        raise ConfigError(f"{name}={value}: unknown{hint}; one of {', '.join(names)}")


def check_field(name: str, kind: Any, limits: Mapping[str, Any], value: Any) -> None:
    """Raises ConfigError unless ``value`` has the key's type and lies in its range."""
    right_type = type(value) is kind or (kind is float and type(value) is int)
    if not right_type or (kind is float and not math.isfinite(value)):
        raise ConfigError(f"{name}={value}: expected {TYPE_NAMES[kind]}")
    if limits["choices"]:
        one_of(name, str(value), limits["choices"])
    low, above, high = limits["low"], limits["above"], limits["high"]
    if low is not None and high is not None and not low <= value <= high:
        raise ConfigError(f"{name}={value}: must lie between {low} and {high}")
    if low is not None and value < low:
        raise ConfigError(f"{name}={value}: must be at least {low}")
    if above is not None and value <= above:
        raise ConfigError(f"{name}={value}: must be greater than {above}")


def largest_part(whole: int, most: int) -> int:
    """The largest divisor of ``whole`` that is at most ``most``."""
    return max(n for n in range(1, most + 1) if whole % n == 0)


def check_mesh(config: Config) -> None:
    """Raises ConfigError unless seeds and environments can be spread as ``mesh`` says."""
    try:
        found = mesh_of(config)
    except ValueError as error:
        raise ConfigError(f"mesh={config.mesh}: {error}") from None
    if found is None:
        return
    along, sharing = found
    if along > config.seeds:
        raise ConfigError(
            f"mesh={config.mesh}: {along} devices along the seeds, more than seeds={config.seeds}; "
            f"mesh={config.seeds}x{sharing} would do"
        )
    if shareable(config) % sharing:
        names = [name for name in MINIBATCHES if not learners.unread(name, config.algo)]
        made = ", ".join(f"{name}={get(config, name)}" for name in ("num_envs", *names))
        raise ConfigError(
            f"mesh={config.mesh}: {sharing} devices cannot share {shareable(config)} environments evenly "
            f"({made}); mesh={along}x{largest_part(shareable(config), sharing)} would do"
        )


def check_distributed(config: Config) -> None:
    """Raises ConfigError unless ``distributed.*`` says where all processes are, or nothing."""
    coordinator, processes, process = (
        getattr(config.distributed, name) for name in ("coordinator", "processes", "process")
    )
    if coordinator in ("", "auto"):
        if processes or process >= 0:
            name = f"distributed.processes={processes}" if processes else f"distributed.process={process}"
            raise ConfigError(f"{name}: goes with distributed.coordinator=HOST:PORT, the same for all")
        return
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):[0-9]{1,5}", coordinator):
        raise ConfigError(f"distributed.coordinator={coordinator}: must be HOST:PORT of process 0, or auto")
    if processes < 1:
        raise ConfigError("distributed.processes is missing: how many there are, the same for all of them")
    if not 0 <= process < processes:
        told = f"distributed.process={process}:" if process >= 0 else "distributed.process is missing:"
        raise ConfigError(f"{told} each process has its own number, 0 to {processes - 1}")


def shareable(config: Config) -> int:
    """Environments that devices may share evenly in all that an update does: divisors of it do."""
    batches = [config.num_envs]
    for name in MINIBATCHES:
        if not learners.unread(name, config.algo):
            size = get(config, name)
            batches.append(size if name == "q.batch" else config.num_envs // size)
    return math.gcd(*batches)


def ahead(config: Config) -> str:
    """``lookahead`` in a complaint, and whose value that is where the preset has it."""
    has = learners.stored(learners.CONF / "preset" / f"{config.preset}.yaml").get("lookahead")
    whose = f" (preset={config.preset}'s)" if has == str(config.lookahead) else ""
    return f"lookahead={config.lookahead}{whose}"


def check(config: Config) -> None:
    """Raises ConfigError, a one-line ValueError, unless the configuration can run."""
    for name, field in keys():
        check_field(name, field.type, field.metadata, get(config, name))
    if config.env.scenario:
        if config.map in registry.own():
            raise ConfigError(f"env.scenario: there is a map {config.map} already; give another name")
        registry.scenario(config)
    else:
        one_of("map", config.map, registry.names())
    one_of("algo", config.algo, learners.names())

    def read(*names: str) -> list[str]:
        return [name for name in names if not learners.unread(name, config.algo)]

    width = config.critic.hypernet_hidden
    if read("critic.hypernet_hidden") and width != "paper" and not re.fullmatch(r"0*[1-9][0-9]*", width):
        raise ConfigError(f"critic.hypernet_hidden={width}: must be a whole number above 0, or paper")
    if read("credit.order"):
        try:
            orders.parse(config.credit.order)
        except ValueError as error:
            raise ConfigError(f"credit.order={config.credit.order}: {error}") from None
    if config.seed + config.seeds > 2**31:
        raise ConfigError(f"seed={config.seed}: the last of {config.seeds} seeds must stay below 2147483648")
    if config.total_steps >= 2**31:
        raise ConfigError(
            f"total_steps={config.total_steps}: must stay below 2147483648, the counter's range"
        )
    uneven = [
        name
        for name in read("actor.minibatches", "critic.minibatches")
        if config.num_envs % get(config, name)
    ]
    if uneven:
        wrong = " and ".join(f"{name}={get(config, name)}" for name in uneven)
        right = " ".join(f"{name}={largest_part(config.num_envs, get(config, name))}" for name in uneven)
        raise ConfigError(f"{wrong} must divide num_envs={config.num_envs}, as {right} would")
    one_of("preset", config.preset, learners.presets())
    if config.lookahead and config.rollout == "episode" and read("lookahead"):
        raise ConfigError(
            f"{ahead(config)}: whole episodes (rollout=episode) are known to their "
            "end; give lookahead=0, or rollout=stream"
        )
    check_mesh(config)
    check_distributed(config)
    update = steps_per_update(config)
    if update is None and config.total_steps < config.num_envs:
        raise ConfigError(
            f"total_steps={config.total_steps}: less than one update, "
            f"num_envs={config.num_envs} whole episodes"
        )
    if update is not None and config.total_steps < update:
        raise ConfigError(
            f"total_steps={config.total_steps}: less than one update, num_envs*window={update} steps; "
            "give more, or fewer num_envs"
        )
    if update is not None and read("lookahead") and config.total_steps <= config.lookahead * update:
        raise ConfigError(
            f"total_steps={config.total_steps}: {-(-config.total_steps // update)} updates of "
            f"num_envs*window={update} steps, and {ahead(config)} leaves the first "
            f"{config.lookahead} nothing to learn from; give more than {config.lookahead * update}, or less "
            "of lookahead"
        )
