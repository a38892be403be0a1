"""How a command line ends: an interrupt, or a reader that has left, is no traceback.

A door calls :func:`quietly` before it imports anything else, since what it imports may take seconds.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import FrameType, ModuleType, TracebackType
from typing import Any, NoReturn

EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141  # what a shell says of a command that wrote into a closed pipe


class Callable_(ModuleType):
    """A command line's module that may be called as the function of its name in :mod:`seca_jax.api`."""

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """What that function returns."""
        return getattr(import_module("seca_jax.api"), self.__name__.rpartition(".")[2])(*args, **keywords)


def callable_as(name: str) -> None:
    """Lets ``seca_jax.train(...)`` call :func:`seca_jax.api.train` though the name is the module's, too."""
    sys.modules[name].__class__ = Callable_


def script(name: str) -> NoReturn:
    """A console script: the command line of the module ``seca_jax.<name>``."""
    quietly()
    sys.exit(import_module(f"seca_jax.{name}").main())


train, evaluate, report, benchmark, audit, export = (
    partial(script, name) for name in ("train", "evaluate", "report", "benchmark", "audit", "export")
)

undo: list[Callable[[], None]] = []  # what is to be done before a process ends at once, last in first out


def quietly() -> None:
    """From here on Ctrl-C ends the process with status 130, and a closed standard output with 141.

    Code may catch KeyboardInterrupt and BrokenPipeError as ever; what it does not catch is not printed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
        signal.signal(signal.SIGINT, _interrupt)
    sys.excepthook, sys.unraisablehook = _uncaught, _unraisable
    atexit.register(_flush)


def leave(status: int) -> NoReturn:
    """Ends the process at once with ``status``, after what is to be undone."""
    while undo:
        undo.pop()()
    os._exit(status)


def _interrupt(_: int, frame: FrameType | None) -> None:
    while frame is not None:
        # Packages that are being imported turn the exception into others, go on, or abort the process
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            leave(EXIT_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        leave(EXIT_INTERRUPTED)
    if issubclass(kind, BrokenPipeError):
        leave(EXIT_NO_READER)
    sys.__excepthook__(kind, error, trace)


def _unraisable(unraisable: Any) -> None:
    """An exception that Python would print and forget, as in a destructor."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        leave(EXIT_INTERRUPTED)
    sys.__unraisablehook__(unraisable)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # else Python tries again at its end, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
