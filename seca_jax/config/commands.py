"""What the command lines that take ``key=value`` words and print a result have in common."""

import os
import sys
from dataclasses import Field, fields
from typing import Callable

from seca_jax.config.check import ConfigError


def limits(field: Field) -> str:
    """The values that a number may have, in words; empty where there is no limit."""
    low, above, high = (field.metadata[name] for name in ("low", "above", "high"))
    if high is not None:
        return f"{low} to {high}"
    if above is not None:
        return f"above {above}"
    return "" if low is None else f"at least {low}"


def usage(first: str, options: type, *notes: str) -> str:
    """Text of ``--help``: the command, every key of the ``options`` dataclass, notes."""
    width = max(len(field.name) for field in fields(options)) + 1
    lines = [first, ""]
    for field in fields(options):
        told = ", ".join(str(x) for x in (field.default, limits(field)) if x != "")
        lines.append(f"  {field.name:<{width}} {field.metadata['doc']}{told and f' [{told}]'}")
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def tell(text: str) -> None:
    """Prints a text of which the reader may want the beginning only, as in ``--help | head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Or the interpreter would complain once more when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def call(
    command: Callable[[list[str]], int | None], words: list[str] | None, help_text: Callable[[], str]
) -> int:
    """Runs ``command`` on the words (None: the process' own); returns the exit status.

    It is what ``command`` returns (None counts as 0), 2 for bad input (one line on standard error says
    what is wrong and what would be right), 130 when interrupted.
    """
    words = sys.argv[1:] if words is None else words
    if {"--help", "-h", "help"} & set(words):
        tell(help_text())
        return 0
    try:
        return command(words) or 0
    except BrokenPipeError:  # the reader has left: nothing to say to nobody
        raise
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
