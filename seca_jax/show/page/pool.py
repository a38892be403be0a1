"""Runs that differ in their seeds only, read as one run with all of those seeds."""

import statistics
from collections.abc import Sequence
from typing import Any

from seca_jax.config.check import ConfigError
from seca_jax.show.page.run import Run
from seca_jax.show.page.settings import differing, reads, shown

SEEDS = ("seed", "seeds")
ALWAYS = ("map", "algo", "preset")  # differ where nothing else of the configuration does


def seeds_of(run: Run) -> list[int]:
    """The numbers of a run's seeds."""
    first = int(run.config.get("seed", 0))
    return [*range(first, first + int(run.config["seeds"]))]


def apart(found: Sequence[Run]) -> dict[str, list[str]]:
    """The keys beside the seeds in which runs differ, with what each has."""
    values = {name: [shown(run.config.get(name)) for run in found] for name in ALWAYS}
    values = {name: own for name, own in values.items() if len(set(own)) > 1}
    return values | {name: own for name, own in differing(found).items() if name not in SEEDS}


def distinct(found: Sequence[Run], word: str) -> None:
    """Raises ConfigError, naming the ``word`` that asked for it, if a seed occurs in two of the runs."""
    owner: dict[int, Run] = {}
    for run in found:
        for seed in seeds_of(run):
            if seed in owner:
                raise ConfigError(
                    f"{word}: seed {seed} is in {owner[seed].path} and in {run.path}; every seed counts once"
                )
            owner[seed] = run


def alike(found: Sequence[Run]) -> list[list[Run]]:
    """The runs in groups that differ in their seeds only, in the order of their first ones."""
    groups: list[list[Run]] = []
    for run in found:
        home = next((group for group in groups if not apart([group[0], run])), None)
        if home is None:
            groups.append([run])
        else:
            home.append(run)
    return groups


def pool(found: Sequence[Run]) -> Run:
    """The runs as one.

    Its final win rates are those of the evaluations that all runs have, of as many episodes, else those of
    training. Audits are of single runs and are left out; the battle is the first run's that has one.

    Raises:
        ConfigError: they differ in more than their seeds, or share one.
    """
    if differences := apart(found):
        name, values = next(iter(differences.items()))
        told = ", ".join(f"{value} in {run.path}" for value, run in zip(values, found))
        raise ConfigError(f"pool=true: {name} differs, {told}; only runs that differ in seeds are joined")
    distinct(found, "pool=true")
    found = sorted(found, key=lambda run: seeds_of(run)[0])
    first = found[0]
    names = " + ".join(str(run.config.get("name") or run.path.name) for run in found)
    total = sum(int(run.config["seeds"]) for run in found)
    commands = [str(run.provenance["command"]) for run in found if run.provenance.get("command")]
    drawn = next((run for run in found if run.pictures), first)
    return first._replace(
        config={**first.config, "seeds": total, "name": names},
        provenance={**first.provenance, "command": "\n".join(commands)},
        lines=sorted((line for run in found for line in run.lines), key=lambda line: line["step"]),
        evaluation=_evaluation(found, drawn),
        audit=None,
        pictures=drawn.pictures,
        warnings=[warning for run in found for warning in run.warnings],
        joined=", ".join(f"{run.path} (seeds {', '.join(map(str, seeds_of(run)))})" for run in found),
    )


def _evaluation(found: Sequence[Run], drawn: Run) -> dict[str, Any] | None:
    """The evaluations of all runs as one; None where one has none, or of another number of episodes."""
    documents = [run.evaluation for run in found if run.evaluation is not None]
    ways = {(each["episodes"], each.get("step"), each.get("policy")) for each in documents}
    if len(documents) < len(found) or len(ways) > 1:
        return None
    rows = [row for document in documents for row in document["seeds"]]
    median = statistics.median(row["win_rate"] for row in rows)
    battle = {"battle": (drawn.evaluation or {}).get("battle")}
    return {**documents[0], **battle, "seeds": rows, "median_win_rate": median}


def names_of(groups: Sequence[Sequence[Run]]) -> list[str]:
    """A method's name for each group of :func:`alike`: the learner, and its settings where they differ.

    The same settings have the same name on every map.
    """
    firsts = [group[0] for group in groups]
    telling: dict[str, dict[str, None]] = {}
    for run in firsts:
        rivals = [own for own in firsts if all(own.config[key] == run.config[key] for key in ("map", "algo"))]
        telling.setdefault(run.config["algo"], {}).update(dict.fromkeys(apart(rivals)))
    return [
        ", ".join(
            [str(run.config["algo"])]
            + [
                f"{name}={shown(run.config[name])}"
                for name in telling[run.config["algo"]]
                if reads(run, name)
            ]
        )
        for run in firsts
    ]
