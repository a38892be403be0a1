"""How a command line ends: an interrupt, or a reader that has left, is no traceback.

A door calls :func:`quietly` before it imports anything else, since what it imports may take seconds.
"""

import atexit
import os
import signal
import sys
from types import TracebackType
from typing import Any

EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141  # what a shell says of a command that wrote into a closed pipe


def quietly() -> None:
    """From here on Ctrl-C ends the process with status 130, and a closed standard output with 141.

    Code may catch KeyboardInterrupt and BrokenPipeError as ever; what it does not catch is not printed.
    """
    interrupted = False

    def interrupt(*_: Any) -> None:
        nonlocal interrupted
        interrupted = True
        # Packages that are being imported may print the exception and go on, or turn it into another
        sys.unraisablehook = lambda _: None
        raise KeyboardInterrupt

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if interrupted or issubclass(kind, KeyboardInterrupt):
            os._exit(EXIT_INTERRUPTED)
        if issubclass(kind, BrokenPipeError):
            os._exit(EXIT_NO_READER)
        sys.__excepthook__(kind, error, trace)

    def flush() -> None:
        try:
            sys.stdout.flush()
        except OSError:  # else Python tries again at its end, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
        signal.signal(signal.SIGINT, interrupt)
    sys.excepthook = uncaught
    atexit.register(flush)
