"""From data to one HTML file that carries everything it shows and loads nothing.

Templates lie beside this file; they escape whatever is not marked as HTML already.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from seca_jax.show import style

TYPES = {".png": "image/png", ".gif": "image/gif"}


class Table(NamedTuple):
    """Rows of cells under the names of their columns."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]  # text, or Markup where it is HTML already
    numbers: Sequence[int] = ()  # columns set flush right
    sentences: Sequence[int] = ()  # columns that want to be wide
    stacked: bool = True  # on a phone every row becomes a block; without, the table fits as it is


class Picture(NamedTuple):
    """A picture carried inside the page."""

    title: str
    alt: str
    source: str  # data URI
    width: int  # pixels


class Tile(NamedTuple):
    """A headline number."""

    number: str
    what: str
    how: str  # it was obtained


def picture(path: Path, title: str, alt: str) -> Picture:
    """A PNG or GIF.

    Raises:
        ValueError, OSError: not a picture, or it cannot be read.
    """
    from PIL import Image

    data = path.read_bytes()
    with Image.open(path) as image:
        width = image.width
    return Picture(title, alt, f"data:{TYPES[path.suffix]};base64,{base64.b64encode(data).decode()}", width)


def link(text: str, ident: str) -> Markup:
    """A link within the page."""
    return Markup('<a href="#{}">{}</a>').format(ident, text)


def render(template: str, *, folder: Path | None = None, **context: Any) -> str:
    """The page that a template makes of ``context``: HTML.

    Args:
        template: file name, in the package's folder of templates or in ``folder``.
        folder: more templates.
        context: what the template's variables stand for.
    """
    loaders: list[jinja2.BaseLoader] = [jinja2.FileSystemLoader(Path(__file__).parent / "templates")]
    loaders += [jinja2.FileSystemLoader(folder)] if folder else []
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["curves"] = list(zip(style.CURVES, style.CURVES_ON_DARK, strict=True))
    return environment.get_template(template).render(**context)
