"""Policies by themselves: a run's acting parameters in a safetensors file, described, without the critic.

A directory with ``policy.safetensors`` and ``config.yaml`` and no checkpoints is read like a run of one seed,
whose critic is missing. ``seca_jax.export`` writes such directories, and some ship with the package.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seca_jax import runs
from seca_jax.config.check import ConfigError

ACTOR = ("actor", "agent")  # what learners call the parameters that act


def named(path: tuple) -> str:
    """A leaf's name: its path."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def leaves(tree: Any) -> dict[str, Any]:
    """The leaves by name."""
    return {named(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def acts(name: str) -> bool:
    """Whether the parameter is one that acting needs."""
    return name.partition(".")[0] in ACTOR


def write(place: Path, params: Any, about: dict[str, Any]) -> None:
    """Writes the policy and its description; raises OSError.

    Args:
        place: the directory.
        params: of one seed; what does not act is left out.
        about: the description, which must have ``step``.
    """
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(leaf) for name, leaf in leaves(params).items() if acts(name)}
    runs.write_atomically(place / runs.POLICY, save(tensors))
    shapes = {name: {"shape": [*x.shape], "dtype": str(x.dtype)} for name, x in tensors.items()}
    runs.write_atomically(
        place / runs.DESCRIPTION, json.dumps({**about, "parameters": shapes}, indent=1) + "\n"
    )


def read(run_dir: str | os.PathLike, abstract: Any, step: str = "") -> tuple[int, Any]:
    """The step after which a policy was taken, and its parameters.

    Args:
        run_dir: the directory.
        abstract: the parameters' ShapeDtypeStructs, of one seed.
        step: asked for; empty: whatever is there.

    Returns:
        the step; parameters, leaves [1, ...], None in the place of every one that does not act.

    Raises:
        ConfigError: another step was asked for, or the files are damaged.
    """
    from safetensors.numpy import load_file

    place = runs.place(run_dir)
    try:
        number = int(json.loads((place / runs.DESCRIPTION).read_text())["step"])
        tensors = load_file(place / runs.POLICY)
    except Exception as error:  # whatever damaged files can do to their parsers
        told = " ".join(str(error).split())[:120]
        raise ConfigError(f"{run_dir}: its policy is damaged ({type(error).__name__}: {told})") from None
    if step not in ("", str(number)):
        raise ConfigError(f"step={step}: {run_dir} has its policy after {number} steps alone")
    for name, wanted in leaves(abstract).items():
        if acts(name) and getattr(tensors.get(name), "shape", None) != wanted.shape:
            raise ConfigError(f"{run_dir}: its policy does not fit its config.yaml: {name}")

    def leaf(path: tuple, _: Any) -> Any:
        return jax.numpy.asarray(tensors[named(path)])[None] if acts(named(path)) else None

    return number, jax.tree_util.tree_map_with_path(leaf, abstract)
