"""What the command lines that take ``key=value`` words and print a result have in common."""

import sys
from dataclasses import fields
from typing import Callable

from seca_jax.config.check import ConfigError


def usage(first: str, options: type, *notes: str) -> str:
    """Text of ``--help``: the command, every key of the ``options`` dataclass, notes."""
    width = max(len(field.name) for field in fields(options)) + 1
    lines = [first, ""]
    for field in fields(options):
        default = f" [{field.default}]" if field.default != "" else ""
        lines.append(f"  {field.name:<{width}} {field.metadata['doc']}{default}")
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def call(
    command: Callable[[list[str]], int | None], words: list[str] | None, help_text: Callable[[], str]
) -> int:
    """Runs ``command`` on the words (None: the process' own); returns the exit status.

    It is what ``command`` returns (None counts as 0), 2 for bad input (one line on standard error says
    what is wrong and what would be right), 130 when interrupted.
    """
    words = sys.argv[1:] if words is None else words
    if {"--help", "-h", "help"} & set(words):
        print(help_text())
        return 0
    try:
        return command(words) or 0
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
