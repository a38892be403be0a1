"""An audit's findings as tables for the terminal."""

from collections.abc import Callable
from typing import Any


def tables(document: dict[str, Any]) -> list[Any]:
    """The rows as tables for the terminal: credit, and the policy gradients that it makes."""
    credit = {
        "rms": lambda row: _number(row["rms"], 3),
        "true rms": lambda row: _number(row["truth_rms"], 3),
        "slope": lambda row: _with_interval(row, "slope"),
        "correlation": lambda row: _with_interval(row, "correlation"),
        "explained": lambda row: _number(row["explained"]),
        "bias": lambda row: _number(row["bias"], 3),
    }
    gradient = {
        "cosine with the true gradient": lambda row: _with_interval(row, "gradient_cosine"),
        "signal to noise": lambda row: _with_interval(row, "gradient_snr", 1),
    }
    if "gradient_cosine" not in document["rows"][0]:
        return [_table(document["rows"], credit)]
    return [_table(document["rows"], credit), _table(document["rows"], gradient)]


def _table(rows: list[dict[str, Any]], columns: dict[str, Callable[[dict[str, Any]], str]]) -> Any:
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("advantage", no_wrap=True)
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    for residual in (False, True):
        own = [row for row in rows if row["residual"] is residual]
        if residual and own:
            shown.add_section()
            shown.add_row("with the TD residual:")
        for row in own:
            name = " ".join(filter(None, (row["advantage"], row["order"])))
            shown.add_row(name, *(cell(row) for cell in columns.values()))
    return shown


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _with_interval(row: dict[str, Any], name: str, digits: int = 2) -> str:
    value, ends = _number(row[name], digits), row[f"{name}_ci"]
    return f"{value} ({_number(ends[0], digits)} to {_number(ends[1], digits)})" if ends else value


LEGEND = """\
rms: root mean square of what the critic claims, A, and of the truth; slope E[true A] / E[A^2]: 1 right
on average, 0 noise; correlation with the truth, which like the truth's size is cleared of the truth's
own noise, so that a rough one may pass 1; explained: share of the truth's mean square, below 0 where
the claims' errors are larger than the truth; bias: mean of the claims less the truth's; signal to noise:
of a training batch's gradient, length of the mean over standard deviation. 95 % intervals over episodes;
none where the truth's noise leaves too little to divide by."""
WIDTH = 104  # columns of the tables; a narrower terminal wraps them
