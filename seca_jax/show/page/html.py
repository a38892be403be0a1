"""What a report page is made of: one HTML file that carries everything it shows.

Functions return HTML; what they are given is text, which they escape, unless its name ends in ``html``.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

# The page may load nothing at all: pictures are inside it, and there is no script
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
TYPES = {".png": "image/png", ".gif": "image/gif"}
STYLE = """
:root { color-scheme: light; --ink: #1c1e21; --soft: #5a6068; --line: #dcdfe3; --paper: #fff; --wash: #f5f6f7;
  --link: #00568a }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 40px 0 12px; padding-top: 12px; border-top: 1px solid var(--line) }
h3 { font-size: 1.05rem; margin: 24px 0 8px; overflow-wrap: anywhere }
p { margin: 8px 0; max-width: 75ch; overflow-wrap: anywhere }
a { color: var(--link) }
.soft { color: var(--soft) }
.warn { background: #fff4e0; border-left: 4px solid #d98200; padding: 8px 12px }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px;
  margin: 20px 0; padding: 0; list-style: none }
.tiles li { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums }
.tiles span { display: block; font-size: .85rem; line-height: 1.35 }
.charts { display: grid; gap: 20px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)) }
figure { margin: 0; min-width: 0 }
figcaption { font-weight: 600; margin-bottom: 2px }
.chart { max-width: 620px }
.chart > svg { display: block; width: 100%; height: auto }
.chart text { font-size: 12.5px; fill: var(--soft) }
.chart .grid { stroke: #e8eaec }
.chart .axis { stroke: #8a9098 }
.legend { margin: 0 0 2px; font-size: .85rem; line-height: 1.4 }
.legend span { margin-right: 14px; display: inline-block }
.legend svg { width: 22px; height: 12px; margin-right: 5px }
.scroll { overflow-x: auto; max-width: 100%; margin: 10px 0 }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
.scroll img { display: block; width: 100%; max-width: var(--natural); min-width: min(var(--natural), 620px);
  height: auto; border: 1px solid var(--line) }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: 4px }
th, td { padding: 5px 14px 5px 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; border-bottom: 2px solid var(--line); white-space: nowrap }
td.number, th.number { text-align: right; white-space: nowrap }
td { max-width: 46ch; overflow-wrap: break-word }
td.wide { min-width: 15rem }
svg.interval { width: 120px; height: 14px; display: block; margin-top: 5px }
details { border: 1px solid var(--line); border-radius: 6px; margin: 8px 0; padding: 0 14px }
summary { cursor: pointer; padding: 9px 0; font-weight: 600; overflow-wrap: anywhere }
details[open] > summary { border-bottom: 1px solid var(--line); margin-bottom: 8px }
details h2 { border: 0; margin: 18px 0 6px; padding: 0; font-size: 1.1rem }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px;
  overflow-x: auto; max-width: 100%; margin: 8px 0; font-size: .86rem; line-height: 1.45 }
code, pre { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
.target { scroll-margin-top: 4rem }
footer { margin-top: 48px; color: var(--soft); font-size: .85rem }
@media (max-width: 480px) { main { padding: 16px 14px 48px } .tiles b { font-size: 1.25rem }
  .tiles { grid-template-columns: repeat(2, 1fr); gap: 8px } details { padding: 0 10px }
  .chart text { font-size: 15px } }
@media print { .scroll { overflow: visible } }
"""


def document(title: str, body_html: str) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>\n{body_html}\n</main></body></html>\n"
    )


def heading(text: str) -> str:
    """The page's own heading."""
    return f"<h1>{escape(text)}</h1>\n"


def subheading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>\n"


def section(title: str, *parts_html: str) -> str:
    """A heading and what belongs to it; nothing where nothing does."""
    body = "\n".join(filter(None, parts_html))
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>\n" if body else ""


def fold(summary: str, *parts_html: str, ident: str = "", opened: bool = False) -> str:
    """Something that opens when asked; ``ident`` is what links to it name."""
    # Inside, not on the element itself: only then do browsers open what a link leads to
    at = f'<div class="target" id="{escape(ident, quote=True)}"></div>' if ident else ""
    body = "\n".join(filter(None, (at, *parts_html)))
    opening = "<details open>" if opened else "<details>"
    return f"{opening}<summary>{escape(summary)}</summary>\n{body}</details>\n"


def footer(text: str) -> str:
    """The page's last line."""
    return f"<footer>{escape(text)}</footer>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind``: soft, warn or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def command(text: str) -> str:
    """A command line, to be copied."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def link(text: str, ident: str) -> str:
    """A link within the page."""
    return f'<a href="#{escape(ident, quote=True)}">{escape(text)}</a>'


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Headline numbers: (number, what it is, how it was obtained)."""
    cells = (
        f'<li><b>{escape(number)}</b><span>{escape(what)}</span><span class="soft">{escape(how)}</span></li>'
        for number, what, how in items
    )
    return f'<ul class="tiles">{"".join(cells)}</ul>'


def table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    html: Sequence[int] = (),
    wide: Sequence[int] = (),
) -> str:
    """A table that scrolls by itself where the page is too narrow for it.

    Args:
        names: of the columns.
        rows: cells as text.
        numbers: columns set flush right.
        html: columns whose cells are HTML already.
        wide: columns of sentences.
    """

    def cells(row: Sequence[str], tag: str, ready: Sequence[int]) -> str:
        kind = {**dict.fromkeys(numbers, ' class="number"'), **dict.fromkeys(wide, ' class="wide"')}
        return "".join(
            f"<{tag}{kind.get(i, '')}>{cell if i in ready else escape(str(cell))}</{tag}>"
            for i, cell in enumerate(row)
        )

    head = cells(names, "th", ())
    body = "".join(f"<tr>{cells(row, 'td', html)}</tr>" for row in rows)
    label = escape("table: " + ", ".join(filter(None, names)), quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(path: Path, alt: str) -> str:
    """A PNG or GIF, carried inside the page; scrolls where it would become too small to read.

    Raises:
        ValueError: not a picture.
        OSError: it cannot be read.
    """
    from PIL import Image

    data = path.read_bytes()
    with Image.open(path) as image:
        width = image.width
    source = f"data:{TYPES[path.suffix]};base64,{base64.b64encode(data).decode()}"
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(alt, quote=True)}">'
        f'<img src="{source}" alt="{escape(alt, quote=True)}" style="--natural: {width}px"></div>'
    )
