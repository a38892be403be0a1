"""What a report says about how runs are set up and where they come from."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from seca_jax.config import learners
from seca_jax.config.check import ConfigError
from seca_jax.config.schema import Config, keys
from seca_jax.show.page.render import Table

if TYPE_CHECKING:
    from seca_jax.show.page.run import Run

# Where and how a run is watched, not what it computes; and what its title says already
NOT_SETTINGS = (
    "map",
    "algo",
    "preset",
    "out",
    "name",
    "resume",
    "device",
    "log.progress",
    "log.tensorboard",
) + tuple(name for name, _ in keys() if name.startswith(("wandb.", "checkpoint.")))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict's leaves by dotted key."""
    leaves = {}
    for name, value in tree.items():
        inner = isinstance(value, dict) and value
        leaves |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return leaves


def defaults(config: dict[str, Any]) -> dict[str, Any]:
    """What a run of this learner and preset has today where nothing else is said, by dotted key."""
    from seca_jax.config import compose

    values = {name: config[name] for name in compose.GROUPS if name in config}
    try:
        return flat(asdict(compose.compose(values)))
    except ConfigError:  # a learner or preset that exists no more
        return flat(asdict(Config()))


def shown(value: Any) -> str:
    """A configuration's value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "(empty)" if value in ("", None) else f"{value:_}" if isinstance(value, int) else str(value)


def reads(run: "Run", name: str) -> bool:
    """Whether the run has the key and its learner and kind of critic look at it."""
    algo, kind = run.config["algo"], run.config.get("critic.kind", "")
    return name in run.config and not (algo in learners.names() and learners.idle_for(name, algo, kind))


def changed(run: "Run") -> Table:
    """What differs from the defaults."""
    usual = defaults(run.config)
    rows = [
        (name, shown(value), shown(usual[name]))
        for name, value in run.config.items()
        if name in usual and name not in NOT_SETTINGS and value != usual[name] and reads(run, name)
    ]
    return Table(("key", "here", "default"), rows)


def groups(run: "Run") -> dict[str, Table]:
    """Every key with its meaning, by group."""
    documented = {name: field.metadata["doc"] for name, field in keys()}
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for name, value in run.config.items():
        group = name.partition(".")[0] if "." in name else "run"
        rows.setdefault(group, []).append((name, shown(value), documented.get(name, "")))
    return {group: Table(("key", "value", "meaning"), own, sentences=(2,)) for group, own in rows.items()}


def origin(run: "Run") -> Table:
    """Where the numbers come from: commit, device, versions."""
    stored = run.provenance
    rows = [
        (name, str(stored[entry]))
        for entry, name in (
            ("started", "started"),
            ("git_commit", "git commit"),
            ("device", "device"),
            ("platform", "platform"),
        )
        if stored.get(entry)
    ]
    versions = stored.get("versions")
    if isinstance(versions, dict):
        rows += [(str(name), str(number)) for name, number in versions.items()]
    return Table(("", ""), rows, stacked=False)


def resumed(run: "Run") -> list[tuple[str, str]]:
    """When and by which command the run was continued."""
    return [
        (
            f"Resumed {again.get('started', '')}, commit {again.get('git_commit')}:",
            str(again.get("command", "")),
        )
        for again in run.provenance.get("resumed") or ()
        if isinstance(again, dict)
    ]


def differing(found: Sequence["Run"]) -> dict[str, list[str]]:
    """The keys in which runs differ, with what each has.

    What a run lacks, stored before the key existed, or has of a key that its learner does not read, is
    "-", which alone makes no difference.
    """
    names = dict.fromkeys(name for run in found for name in run.config if name not in NOT_SETTINGS)
    values = {name: [shown(run.config[name]) if reads(run, name) else "-" for run in found] for name in names}
    return {name: own for name, own in values.items() if len(set(own) - {"-"}) > 1}


def differences(found: Sequence["Run"], labels: Sequence[str]) -> Table:
    """A table of the keys in which runs differ."""
    return Table(("key", *labels), [(name, *values) for name, values in differing(found).items()])
