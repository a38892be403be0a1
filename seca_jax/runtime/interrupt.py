"""SIGINT, SIGTERM and SIGHUP: the first asks the run to save and stop, a second SIGINT aborts at once."""

import contextlib
import os
import signal
import sys
import threading
from typing import Callable, Iterator

from seca_jax.door import EXIT_INTERRUPTED


@contextlib.contextmanager
def graceful(announce: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Within the block, signals set a flag instead of killing; yields the function that reads it.

    Python runs signal handlers between bytecodes of the main thread, which may sit in compiled code
    for a minute. The interpreter's wake-up descriptor is written at once, so a thread that reads it
    can count signals, and abort, whatever the main thread is doing.

    Args:
        announce: called from that thread at the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may install handlers
        return
    asked = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while received := os.read(reader, 1):
            if asked.is_set() and received[0] == signal.SIGINT:
                if sys.stdout.isatty():
                    os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the progress bar hid the cursor
                os._exit(EXIT_INTERRUPTED)
            if not asked.is_set():
                asked.set()
                announce()

    handled = [signal.SIGINT, signal.SIGTERM]
    # A closed terminal hangs up, unless the parent (nohup) wants that ignored; Windows has no such signal
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    earlier_handlers = {number: signal.signal(number, lambda *_: None) for number in handled}
    earlier_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(earlier_writer)
        for number, handler in earlier_handlers.items():
            signal.signal(number, handler)
        os.close(writer)  # the thread reads the end of the pipe and returns
        thread.join()
        os.close(reader)
