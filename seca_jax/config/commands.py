"""What the command lines that take ``key=value`` words and print a result have in common."""

import itertools
import sys
from collections import Counter
from dataclasses import Field, fields
from typing import Callable, Sequence

from seca_jax.config import learners
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import get
from seca_jax.config.schema import Config, keys
from seca_jax.config.words import repeated
from seca_jax.credit import names as orders

EVERYBODY = "every learner"


def limits(field: Field) -> str:
    """The values that a number may have, in words; empty where there is no limit."""
    low, above, high = (field.metadata[name] for name in ("low", "above", "high"))
    if high is not None:
        return f"at most {high}" if low is None else f"{low} to {high}"
    if above is not None:
        return f"above {above}"
    return "" if low is None else f"at least {low}"


def who(name: str) -> str:
    """Which learners read a key, in words."""
    found = learners.readers(name)
    if found == learners.names():
        return EVERYBODY
    return f"{', '.join(found)} only"


def key_lines(config: Config, own: bool = False) -> list[str]:
    """Every key of a training run for ``--help``: its value in ``config``, type, limits, meaning, readers.

    ``own``: only the keys that its learner looks at, without their other readers.
    """
    lines = []
    for group, members in itertools.groupby(keys(), key=lambda item: item[0].rpartition(".")[0]):
        members = [item for item in members if not (own and learners.unread(item[0], config.algo))]
        if not members:
            continue
        # What most keys of a group have in common is told once
        ((usual, _),) = Counter(who(name) for name, _ in members).most_common(1)
        if group:
            about = next(f.metadata["doc"] for f in fields(Config) if f.name == group)
            lines += ["", f"  {group}: {about}" + (f" ({usual})" if usual != EVERYBODY and not own else "")]
        for name, field in members:
            value = get(config, name)
            shown = f"{name}={str(value).lower() if field.type is bool else value}"
            kind = ", ".join(filter(None, [getattr(field.type, "__name__", ""), limits(field)]))
            text = field.metadata["doc"].replace(orders.ALLOWED, orders.allowed())
            # Where the meaning already names the choices, naming them again only lengthens the line
            if any(choice not in text for choice in field.metadata["choices"]):
                text += f" ({', '.join(field.metadata['choices'])})"
            if who(name) != usual and not own:
                text += f" [{who(name)}]"
            lines.append(f"  {shown:<34} {kind:<17} {text}")
    return lines


def usage(first: str, options: type, *notes: str) -> str:
    """Text of ``--help``: the command, every key of the ``options`` dataclass, notes."""
    width = max(len(field.name) for field in fields(options)) + 1
    lines = [first, ""]
    for field in fields(options):
        told = ", ".join(str(x) for x in (field.default, limits(field)) if x != "")
        lines.append(f"  {field.name:<{width}} {field.metadata['doc']}{told and f' [{told}]'}")
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def call(
    command: Callable[[list[str]], int | None],
    words: list[str] | None,
    help_text: Callable[[], str],
    several: Sequence[str] = (),
) -> int:
    """Runs ``command`` on the words (None: the process' own); returns the exit status.

    It is what ``command`` returns (None counts as 0), 2 for bad input (one line on standard error says
    what is wrong and what would be right), 130 when interrupted. ``several`` are the keys that may be given
    more than once.
    """
    words = sys.argv[1:] if words is None else words
    if {"--help", "-h", "help"} & set(words):
        print(help_text())
        return 0
    for line in repeated(words, several):
        print(f"warning: {line}", file=sys.stderr)
    try:
        return command(words) or 0
    except BrokenPipeError:  # the reader has left: nothing to say to nobody
        raise
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
