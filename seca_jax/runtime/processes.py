"""The processes of a run on several hosts: how they find one another, decide together and end together.

All of them go through the same code with the same configuration, as JAX wants it, so whatever depends on a
clock, a signal or a disk is decided together. The first one alone writes, tracks and prints. In a run of one
process every function here is a matter of course: nothing is exchanged, nothing waits.

What is exchanged has to be asked for by all of them in the same order: never behind a condition that may
hold for one of them only.
"""

import contextlib
import socket
import sys
import time
import traceback
import zlib
from typing import Any, Callable, Iterator, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from seca_jax import door
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import get, replace
from seca_jax.config.schema import Config, DistributedConfig, keys

Result = TypeVar("Result")

AUTO = "auto"
TEXT = 1024  # bytes of a text that is exchanged; what is longer is cut
EXIT_FAILED = 1


def start(config: Config) -> None:
    """Joins the other processes, if the configuration has any; before JAX's first computation.

    Raises:
        ConfigError: they cannot be found, or not in time.
    """
    wanted = config.distributed
    if not wanted.coordinator or jax.distributed.is_initialized():
        return
    # JAX would take SIGTERM for itself; here it saves and stops
    jax.config.update("jax_enable_preemption_service", False)
    where = {
        "coordinator_address": wanted.coordinator,
        "num_processes": wanted.processes,
        "process_id": wanted.process,
    }
    try:
        if wanted.coordinator != AUTO:
            meet(wanted)
        jax.distributed.initialize(
            **({} if wanted.coordinator == AUTO else where), initialization_timeout=wanted.timeout
        )
    except (OSError, RuntimeError, ValueError) as error:
        if wanted.coordinator == AUTO and "coordinator_address" in str(error):
            raise ConfigError(
                "distributed=auto: neither Slurm, Open MPI, Kubernetes nor a TPU pod tells here where the "
                "processes are; give distributed=HOST:PORT, distributed.processes and distributed.process"
            ) from None
        detail = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"distributed.coordinator={wanted.coordinator}: the processes did not meet ({detail})"
        ) from None


def meet(wanted: DistributedConfig) -> None:
    """Waits until all processes are there, process 0 at HOST:PORT; raises OSError where they are not in time.

    JAX, which waits as well, would end a process that waits in vain with a page of C++.
    """
    host, _, port = wanted.coordinator.rpartition(":")
    deadline = time.monotonic() + wanted.timeout
    if wanted.process == 0:
        receive(int(port), wanted.processes, deadline)
        return
    with reached(host.strip("[]"), int(port), deadline) as there:
        there.sendall(wanted.process.to_bytes(4, "big"))
        if not there.recv(1):
            raise OSError("process 0 has given up: it tells why")
    # The same port is JAX's from now on
    reached(host.strip("[]"), int(port), deadline).close()


def receive(port: int, processes: int, deadline: float) -> None:
    """Process 0's part in :func:`meet`: lets the others go on when the last of them has said its number."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    absent = set(range(1, processes))
    with contextlib.ExitStack() as open_ones:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6)
        open_ones.enter_context(server)
        others = []
        while absent:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                other = open_ones.enter_context(server.accept()[0])
                other.settimeout(1)
                number = int.from_bytes(other.recv(4), "big")
            except OSError:  # nobody came, or a stranger who hangs up
                if time.monotonic() >= deadline:
                    missing = ", ".join(map(str, sorted(absent)))
                    raise OSError(f"process 0 waited in vain for {missing} of {processes}") from None
                continue
            if number in absent:
                absent.remove(number)
                others.append(other)
        for other in others:
            other.sendall(b"!")
            other.recv(1)  # it closes first, and the port is free for JAX at once


def reached(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to process 0, as soon as it is there; raises OSError where it is not in time."""
    while True:
        try:
            left = max(deadline - time.monotonic(), 0.01)
            return socket.create_connection((host, port), timeout=left)
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def count() -> int:
    """Processes of the run."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
    """Whether this process is the one that writes, tracks and prints."""
    return count() == 1 or jax.process_index() == 0


def gathered(number: int) -> list[int]:
    """Every process's ``number``, an int32, in order."""
    if count() == 1:
        return [number]
    return np.asarray(multihost_utils.process_allgather(np.int32(number))).tolist()


def any_of(flag: bool) -> bool:
    """Whether ``flag`` holds for any process."""
    return any(gathered(int(flag)))


def of_first(number: int) -> int:
    """The first process's ``number``."""
    return gathered(number)[0]


def texts(text: str) -> list[str]:
    """Every process's ``text``, in order."""
    if count() == 1:
        return [text]
    row = np.zeros(TEXT, np.uint8)
    encoded = text.encode()[:TEXT]
    row[: len(encoded)] = list(encoded)
    rows = np.asarray(multihost_utils.process_allgather(row))
    return [bytes(own[own > 0]).decode(errors="ignore") for own in rows]


def agreed(function: Callable[[], Result], only_first: bool = False) -> Result:
    """``function()``, of every process or of the first alone; raises ConfigError everywhere if one does.

    Without it the others would wait for ever for the one that has given up. Where ``only_first`` holds, the
    others get None.
    """
    if count() == 1:
        return function()
    found: Any = None
    complaint = ""
    if first() or not only_first:
        try:
            found = function()
        except ConfigError as error:
            complaint = str(error) or "bad input"
    told = texts(complaint)
    if any(told):
        raise ConfigError(complaint or next(text for text in told if text))
    return found


def same_run(config: Config) -> Config:
    """The configuration that all processes have, with the first one's directory and name.

    Raises:
        ConfigError: they were started with different keys.
    """
    if count() == 1:
        return config
    (out, *_), (name, *_) = texts(config.out), texts(config.name)
    config = replace(replace(config, "out", out), "name", name)
    if config.resume:
        config = replace(config, "resume", out)
    names = [name for name, _ in keys() if not name.startswith("distributed.")]
    own = [zlib.crc32(repr(get(config, name)).encode()) >> 1 for name in names]
    everyone = np.asarray(multihost_utils.process_allgather(np.array(own, np.int32)))
    if differ := [name for name, column in zip(names, everyone.T) if len(set(column)) > 1]:
        raise ConfigError(
            f"the processes of a distributed run were started with different {', '.join(differ)}; "
            "give all of them the same"
        )
    return config


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Within the block an exception ends this process at once, if there are others, and they notice.

    Python's own end would first wait for them, who wait for this one. A ConfigError is passed on: all of
    them have it, see :func:`agreed`.
    """
    try:
        yield
    except ConfigError:
        raise
    except BaseException as error:
        if count() == 1:
            raise
        number = f"process {jax.process_index()} of {count()}"
        text = " ".join(str(error).split())[:200]
        if "Gloo" in text:  # which connects CPUs; it says that of an exchange with whoever has gone
            print(f"error: {number} ends, since another one has ({text})", file=sys.stderr)
        elif isinstance(error, jax.errors.JaxRuntimeError):  # the same on accelerators, or out of memory
            print(f"error: {number} ends: {text}", file=sys.stderr)
        else:
            traceback.print_exc()
            print(f"error: {number} ends, and with it the others", file=sys.stderr)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        interrupted = isinstance(error, KeyboardInterrupt)
        door.leave(door.EXIT_INTERRUPTED if interrupted else EXIT_FAILED)
