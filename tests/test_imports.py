"""Imports point one way, heavy packages stay out of the algorithms, and nothing computes at import time."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seca_jax

ROOT = Path(seca_jax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def named(path):
    """The module in a file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {named(path) for path in FILES}
# The wings from the ground up; one may import from its own floor and below. Names and maps are plain data
# without JAX, which a configuration is checked against: they stand on the ground floor whatever their wing.
FLOORS = (
    (
        "types",
        "arrays",
        "config",
        "extensions",
        "credit.names",
        "envs.registry",
        "envs.smax.custom",
        "envs.smax.scenarios",
        "envs.smax.units",
    ),
    ("networks", "credit", "envs"),
    ("experience",),
    ("algos",),
    ("show",),
    ("runtime",),
    ("train", "evaluate", "benchmark", "report", "audit", "export", "api"),
)
FLOOR = {wing: number for number, wings in enumerate(FLOORS) for wing in wings}
PURE = [wing for wing in FLOORS[0] if "." in wing or wing == "extensions"]
ABOVE = {"wandb", "orbax", "matplotlib", "rich"}


def floor(module):
    """The floor of ``seca_jax.<wing>...``, by the longest name that FLOORS has for it; 0 for the package."""
    parts = module.split(".")[1:]
    return next((FLOOR[n] for i in range(len(parts), 0, -1) if (n := ".".join(parts[:i])) in FLOOR), 0)


def imported(path):
    """Modules imported anywhere in a file, functions' bodies included, but not for type checking alone."""
    tree = ast.parse(path.read_text())
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = {name for name in names if name in MODULES}
            found |= modules if len(modules) == len(names) else modules | {node.module}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = floor(named(path))
    modules = imported(path)
    above = {m for m in modules if m.startswith("seca_jax.") and floor(m) > own}
    assert not above
    if own <= FLOOR["algos"]:
        assert ABOVE.isdisjoint(m.partition(".")[0] for m in modules)


def test_nothing_computes_at_import_time():
    """Importing every module leaves JAX's backend alone: platform and devices can still be chosen."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    code += "from jax._src import xla_bridge\nsys.exit(bool(xla_bridge._backends))"
    done = subprocess.run(
        [sys.executable, "-c", code, *sorted(MODULES)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_what_the_configuration_knows_does_not_need_jax():
    """Help and bad input come at once."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(f'seca_jax.{name}')\n"
    code += "sys.exit('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "config.compose", *PURE], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
