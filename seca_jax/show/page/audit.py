"""What a report says about an audit of a run's credit: whether its advantages are true."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from seca_jax import runs
from seca_jax.show.page.render import Picture, Table, picture

PICTURE = "Accuracy of credit by place in the order"


class Audit(NamedTuple):
    """What the template shows of an audit."""

    summary: str
    rows: Table
    pictures: list[Picture]


def read(run_dir: Path, step: int | None) -> Audit | None:
    """The audit of a run, if there is one and it is about the checkpoint from ``step``, the newest.

    Raises:
        ValueError, KeyError, TypeError, OSError: a file is damaged.
    """
    path = run_dir / runs.AUDIT
    if not path.is_file():
        return None
    document = json.loads(path.read_text())
    if document["step"] != step:
        return None
    figure = run_dir / runs.AUDIT_FIGURE
    about = (
        f"{document['map']}, {document['algo']}: correlation of credit with the truth by place in the order"
    )
    # An audit without a picture leaves an older one where it is
    fresh = figure.is_file() and figure.stat().st_mtime >= path.stat().st_mtime
    return Audit(summary(document), table(document), [picture(figure, PICTURE, about)] if fresh else [])


def summary(document: dict[str, Any]) -> str:
    """How it was found out, and how large true credit is."""
    moments, branches = document["states"], document["branches"]
    return (
        f"The simulator was branched at {moments} moments of seed {document['seed']}, {branches} "
        "continuations each, to learn what every agent's action was worth: the first order's true terms "
        f"have a root mean square of {document['truth_rms']:.3g}. Slope and correlation are of the truth "
        "with what the critic claims, with 95 % intervals: 1 is right, 0 is noise."
    )


def table(document: dict[str, Any]) -> Table:
    """Claims against truth, a row for every advantage."""
    rows = []
    gradients = "gradient_cosine" in document["rows"][0]  # value-based learners have none
    for row in document["rows"]:
        name = " ".join(filter(None, (row["advantage"], row["order"])))
        rows.append(
            (
                name + (" with the TD residual" if row["residual"] else ""),
                _number(row["rms"], 3),
                _number(row["truth_rms"], 3),
                _with_interval(row, "slope"),
                _with_interval(row, "correlation"),
                *([_with_interval(row, "gradient_cosine")] if gradients else []),
            )
        )
    names = ("advantage", "r.m.s.", "true r.m.s.", "slope", "correlation", "cosine of gradients")
    return Table(names if gradients else names[:-1], rows, numbers=(1, 2))


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _with_interval(row: dict[str, Any], name: str) -> str:
    ends = row[f"{name}_ci"]
    return _number(row[name]) + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")
