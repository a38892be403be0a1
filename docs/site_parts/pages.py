"""What mkdocs needs besides: documents from outside docs/, links that lead there, equations.

A document is written for whoever reads it in the repository: its links are relative paths of the repository,
also those to code. On the site a link to a module, or after # to something in it, leads to its place in the
reference, and a link to another file to the copy of that file here. Equations are LaTeX between dollars where
a page's front matter says ``math: true``; on the site they are MathML, for which no script is loaded.
"""

import dataclasses
import html as markup
import itertools
import os
import posixpath
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
BESIDE = [
    "experiments/*.md",
    "experiments/results/**/*.*",
    "seca_jax/envs/smax/README.md",
    "seca_jax/config/conf/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
]
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"(^(```+).*?^\2\s*$)", re.MULTILINE | re.DOTALL)
MATH = re.compile(r"`[^`]+`|\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)
STYLED = re.compile(r'<mi mathvariant="([b-z][a-z-]*)">([^<]+)</mi>')


def letter(found: re.Match) -> str:
    """A bold, script or double-struck letter as the sign that Unicode has for it, which all browsers know."""
    if found[1] == "normal":
        return found[0]
    style = found[1].upper().replace("BOLD-ITALIC", "BOLD ITALIC")
    name = unicodedata.name(markup.unescape(found[2])).replace("LETTER ", "").partition(" ")[2]
    for kind in ("MATHEMATICAL ", ""):
        try:
            return f"<mi>{unicodedata.lookup(f'{kind}{style} {name}')}</mi>"
        except KeyError:
            continue
    return found[0]


def on_files(files: Files, config: Any) -> Files:
    """Adds the documents that live beside what they tell of, at their paths in the repository."""
    for pattern in BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if not name.endswith(".html"):  # pages that experiments/report.py has made here
                files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, "reference/keys.md", content=keys()))
    return files


def keys() -> str:
    """The page of all keys: what ``--help`` tells of them."""
    sys.path.insert(0, str(ROOT))
    from seca_jax.config import commands, schema

    about = {field.name: field.metadata.get("doc", "") for field in dataclasses.fields(schema.Config)}
    lines = ["# Keys", ""]
    lines += [
        "Given as `key=value` to `python -m seca_jax.train`, whose `--help` says the same, and from Python",
        "to [`seca_jax.train`](../../seca_jax/api.py#train). The defaults are SeCA's; `--help algo=NAME`",
        "shows another learner's.",
    ]
    for group, members in itertools.groupby(schema.keys(), lambda item: item[0].rpartition(".")[0]):
        if group:
            lines += ["", f"## {group}", "", f"{about[group][0].upper()}{about[group][1:]}."]
        lines += ["", "| key | default | meaning |", "| --- | --- | --- |"]
        for name, field in members:
            meaning = re.sub(r"([|*_])", r"\\\1", markup.escape(field.metadata["doc"], quote=False))
            notes = [commands.limits(field), commands.who(name)]
            told = "; ".join(note for note in notes if note not in ("", commands.EVERYBODY))
            default = str(field.default).lower() if field.type is bool else str(field.default)
            cells = [f"`{name}`", f"`{default}`" if default else "", meaning + (told and f" ({told})")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turns the repository's links into the site's, and takes the equations out."""
    source = page.file.src_uri
    beside = page.file.abs_src_path and (ROOT / source).exists()
    home = posixpath.dirname(source if beside else f"docs/{source}")

    def moved(found: re.Match) -> str:
        text, target = found.groups()
        path, mark, anchor = target.partition("#")
        if not path or ":" in path:
            return found[0]
        path = posixpath.normpath(posixpath.join(home, path))
        if path.startswith("seca_jax/") and path.endswith(".py"):
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            return f"[{text}][{module}{'.' * bool(anchor)}{anchor}]"
        if path == "README.md":
            path = "docs/index.md"
        elif (ROOT / path).is_dir():
            path = f"{path}/README.md"
        here = posixpath.dirname(source) or "."
        return f"[{text}]({posixpath.relpath(path.removeprefix('docs/'), here)}{mark}{anchor})"

    equations: list[str] = []

    def kept(found: re.Match) -> str:
        if found[1] is None and found[2] is None:
            return found[0]
        display = "inline" if found[1] is None else "block"
        equations.append(STYLED.sub(letter, convert(found[1] or found[2], display=display)))
        return f"EQUATION{len(equations) - 1}HERE"

    parts = FENCE.split(markdown)
    for i in range(0, len(parts), 3):
        if page.meta.get("math"):
            parts[i] = MATH.sub(kept, parts[i])
        parts[i] = LINK.sub(moved, parts[i])
        if i + 2 < len(parts):
            parts[i + 2] = ""  # the fence's own ticks, which the group before holds too
    page.meta["equations"] = equations
    return "".join(parts)


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Puts the equations in, and lets a notebook's links lead to the site's pages, too."""
    if page.file.src_uri.endswith(".ipynb"):
        return re.sub(r'href="([\w./-]+)\.md(#[^"]*)?"', r'href="\1.html\2"', html)
    for i, equation in enumerate(page.meta.get("equations", [])):
        html = html.replace(f"<p>EQUATION{i}HERE</p>", f'<div class="equation">{equation}</div>')
        html = html.replace(f"EQUATION{i}HERE", equation)
    return html


def on_config(config: Any) -> Any:
    """Builds from the repository's root, wherever make was called."""
    os.chdir(ROOT)
    return config
