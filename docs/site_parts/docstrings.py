"""Our docstrings for mkdocstrings: roles such as :func:`td_lambda` become links, plain tables Markdown's."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(~?)([\w.]+)`")
RULE = re.compile(r"^=+( +=+)+$")


class Docstrings(griffe.Extension):
    """Rewrites every docstring of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called by griffe."""
        self.rewrite(pkg)

    def rewrite(self, thing: griffe.Object) -> None:
        """The docstring of a module, class, function or attribute, and of what is in it."""
        if thing.docstring:
            text = ROLE.sub(lambda role: link(role, thing), thing.docstring.value)
            thing.docstring.value = tables(text)
        for member in thing.members.values():
            if not member.is_alias:
                self.rewrite(member)  # type: ignore[arg-type]


def link(role: re.Match, thing: griffe.Object) -> str:
    """A link to what a role names, seen from ``thing``; plain code where the reference does not show it."""
    short, name = role.groups()
    label = name.rpartition(".")[2] if short else name
    head, dot, rest = name.partition(".")
    try:
        path = name if head == "seca_jax" else thing.resolve(head) + dot + rest
    except griffe.NameResolutionError:
        return f"`{label}`"
    return f'<autoref optional identifier="{path}"><code>{label}</code></autoref>'


def tables(text: str) -> str:
    """``text`` with its tables of columns under rules of = signs as Markdown's; a line may go on below."""
    lines, done = iter(text.splitlines()), []
    for line in lines:
        if not RULE.match(line.strip()) or not line.strip():
            done.append(line)
            continue
        starts = [found.start() for found in re.finditer(r"=+", line)]
        rows: list[list[str]] = []
        for row in lines:
            if RULE.match(row.strip()):
                break
            cells = [row[a:b].strip() for a, b in zip(starts, [*starts[1:], None])]
            if cells[0] or not rows:
                rows.append(cells)
            else:
                rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells)]
        columns = len(starts)
        done += ["", "|" + "  |" * columns, "|" + " --- |" * columns]
        done += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        done.append("")
    return "\n".join(done)
