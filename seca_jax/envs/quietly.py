"""Importing jaxmarl: it takes seconds, initialises JAX's backend and prints, so it happens late, here."""

import contextlib
import importlib
import io
import sys
from types import ModuleType


def jaxmarl(module: str) -> ModuleType:
    """``jaxmarl.<module>``, without the lines that importing it prints."""
    # One of jaxmarl's modules puts sys.stdout and sys.stderr back to the interpreter's originals
    # half-way through, so those are replaced for the duration too
    silent, original = io.StringIO(), sys.__stdout__
    sys.__stdout__ = silent
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(sys.stderr):
            return importlib.import_module(f"jaxmarl.{module}")
    finally:
        sys.__stdout__ = original
