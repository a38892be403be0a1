"""Rows that an experiment measured, stored with what they came from: a .json, and a .md of the same name."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import summary


def origin(script: str, words: Sequence[str], devices: Sequence[Any]) -> dict[str, Any]:
    """What a document begins with: command, commit, device and versions.

    Args:
        script: path of the experiment in the repository.
        words: of its command line.
        devices: that it used, of JAX.
    """
    from seca_jax.runtime.provenance import provenance  # not above: help and bad words must not wait for JAX

    told = provenance(devices, words, script)
    return {
        "command": shlex.join(["python", script, *words]),
        "commit": told["git_commit"],
        "device": f"{told['device']} ({told['processor']})",
        "versions": told["versions"],
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """Writes the .json alone; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def save(path: Path, document: dict[str, Any], cells: list[list[str]], *remarks: str) -> None:
    """Writes both files and says where the table is; raises OSError.

    Args:
        path: of the .json.
        document: what :func:`origin` says, and what was measured.
        cells: the table's, the first row naming the columns.
        remarks: what stands beside the origin, above the table.
    """
    write(path, document)
    above = "; ".join(
        [f"`{document['command']}`, commit {document['commit']}, {document['device']}", *remarks]
    )
    path.with_suffix(".md").write_text(f"{above}\n\n{summary.markdown(cells)}\n")
    print(path.with_suffix(".md"))
