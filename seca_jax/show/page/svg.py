"""Charts as SVG inside a page: matplotlib's, made light, in the page's own font and colours."""

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from seca_jax.show import charts, style

SIZE = (5.0, 2.9)  # inches of 72 units: a phone shows a chart at its own size, a laptop a little enlarged
HOVERS = 25  # most points of a curve that tell their numbers
_SVG = "{http://www.w3.org/2000/svg}"
_INK, _GRID = "#010203", "#040506"  # stand for the page's colours until the chart is text
# Colours are the page's variables, so that a dark page has its own
_VARIABLES = {_INK: "var(--soft)", _GRID: "var(--grid)"} | {
    colour: f"var(--curve-{i})" for i, colour in enumerate(style.CURVES)
}


# What every chart repeats has a name in the page's style sheet
_CLASSES = {
    f"fill: none; stroke: {_GRID}; stroke-width: 0.8": "grid",
    f"font-size: 11px; text-anchor: middle; fill: {_INK}": "across",
    f"font-size: 11px; text-anchor: end; fill: {_INK}": "up",
}


class Key(NamedTuple):
    """A line of a legend."""

    label: str
    colour: str  # CSS
    dash: str  # SVG's stroke-dasharray


class Chart(NamedTuple):
    """What a page needs to show a chart."""

    title: str
    svg: Markup  # empty: no numbers yet
    legend: list[Key]


def chart(
    title: str,
    curves: Sequence[charts.Curve],
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    looks: Sequence[int] | None = None,
) -> Chart:
    """Curves as :func:`charts.paint` has them, whose points tell their numbers when pointed at."""
    looks = range(len(curves)) if looks is None else looks
    shown = [(curve, i) for curve, i in zip(curves, looks, strict=True) if len(curve.steps)]
    if not shown:
        return Chart(title, Markup(""), [])
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    look: dict[Any, Any] = {f"{part}color": _INK for part in ("xtick.", "ytick.", "axes.label")}
    look |= {"svg.fonttype": "none", "font.size": 11, "grid.color": _GRID}
    with rc_context(look):
        figure = Figure(figsize=SIZE)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        # Inches by hand: room for tick labels such as -0.25 and 1.25e+16
        axes = figure.add_axes((0.66 / SIZE[0], 0.55 / SIZE[1], 1 - 0.84 / SIZE[0], 1 - 0.77 / SIZE[1]))
        charts.paint(
            axes, [c for c, _ in shown], limits=limits, log=log, looks=[i for _, i in shown], dots=False
        )
        axes.set_xlabel("environment steps per seed")
        axes.patch.set_visible(False)
        axes.grid(alpha=1.0, linewidth=0.8)
        axes.tick_params(which="both", length=0)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_INK)
        file = io.StringIO()
        figure.savefig(file, format="svg")
    tree = ElementTree.fromstring(file.getvalue())
    _lighten(tree)
    for curve, i in shown:
        if axes.get_xscale() == "log":
            curve = charts.after_start(curve)
        points = axes.transData.transform(np.stack([curve.steps, curve.band[1]], axis=-1))
        points = points * 72 / figure.dpi * (1, -1) + (0, 72 * SIZE[1])
        _hovers(tree, curve, _variable(i), points)
    tree.set("role", "img")
    ends = ", ".join(f"{curve.label} ends at {curve.band[1, -1]:.4g}" for curve, _ in shown)
    tree.set("aria-label", f"{title}: {ends}")
    text = ElementTree.tostring(tree, encoding="unicode").replace("ns0:", "")
    text = text.replace(' xmlns:ns0="http://www.w3.org/2000/svg"', "")  # HTML knows what an svg is
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    legend = [
        Key(curve.label, _variable(i), " ".join(str(2 * part) for part in style.look(i)[1]))
        for curve, i in shown
    ]
    return Chart(title, Markup(text), legend)


def _variable(look: int) -> str:
    return _VARIABLES[style.look(look)[0]]


def _lighten(tree: ElementTree.Element) -> None:
    """Drops what a page does not need: matplotlib's metadata, identifiers, style sheet, digits, fonts."""
    for name in ("metadata", "defs"):
        for child in tree.findall(_SVG + name):
            tree.remove(child)
    for name in ("width", "height", "version"):
        tree.attrib.pop(name, None)
    for element in tree.iter():
        for name in ("id", "clip-path"):  # curves and grid end inside the axes
            element.attrib.pop(name, None)
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
        for name in ("d", "x", "y"):
            if value := element.get(name):
                element.set(name, _rounded(value))
        if element.get("transform", "").startswith("rotate(-0 "):
            element.attrib.pop("transform")
        if look := element.get("style"):
            look = re.sub(r"font: (?:[\w.]+ )*?([\d.]+px)[^;]*", r"font-size: \1", look)
            look = re.sub(r"font-family: [^;]*; |; stroke-linecap: \w+|stroke-linejoin: \w+; ", "", look)
            name = _CLASSES.get(look)
            element.set("class" if name else "style", name or look)
            if name:
                element.attrib.pop("style")
    for parent in list(tree.iter()):
        for child in [child for child in parent if child.tag == _SVG + "g" and not len(child)]:
            parent.remove(child)


def _rounded(numbers: str) -> str:
    return " ".join(re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}", numbers).split())


def _hovers(tree: ElementTree.Element, curve: charts.Curve, colour: str, points: np.ndarray) -> None:
    """Points that say their numbers when pointed at; dots mark them where there are few."""
    if len(points) < charts.DOTTED:
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)  # nothing long, with round ends
        ElementTree.SubElement(
            tree, _SVG + "path", {"d": dots, "class": "dots", "style": f"stroke: {colour}"}
        )
    for i in np.unique(np.linspace(0, len(points) - 1, HOVERS).round().astype(int)):
        low, median, high = curve.band[:, i]
        at = {"cx": f"{points[i, 0]:.0f}", "cy": f"{points[i, 1]:.0f}", "r": "7", "class": "hover"}
        area = ElementTree.SubElement(tree, _SVG + "circle", at)
        words = f"{curve.label}, {style.short(float(curve.steps[i]))} steps: {median:.4g}"
        words += f" ({low:.4g} to {high:.4g})" if low < high else ""
        ElementTree.SubElement(area, _SVG + "title").text = words


def interval(value: float, low: float, high: float, label: str) -> Markup:
    """A small SVG: ``value`` in its interval on a scale from 0 to 1."""
    a, b, x = (f"{4 + 112 * min(max(v, 0.0), 1.0):.1f}" for v in (low, high, value))
    return Markup(
        '<svg class="interval" viewBox="0 0 120 14" role="img" aria-label="{label}">'
        '<line x1="4" y1="7" x2="116" y2="7" style="stroke: var(--line)"/>'
        '<line x1="{a}" y1="7" x2="{b}" y2="7" style="stroke: var(--curve-0); stroke-width: 3"/>'
        '<circle cx="{x}" cy="7" r="4" style="fill: var(--curve-0)"/></svg>'
    ).format(label=label, a=a, b=b, x=x)
