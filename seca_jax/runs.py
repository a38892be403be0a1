"""A run's directory: what its files are called, how they are read and written, who may write there.

It knows nothing of JAX, so that reports and checks of configurations need not wait for it. config.yaml
is read and written by :mod:`seca_jax.config.compose`, checkpoints by :mod:`seca_jax.runtime.checkpoint`.
"""

import contextlib
import importlib
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator

from seca_jax import door
from seca_jax.config.check import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
CURVES = "curves.png"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
POLICY = "policy.safetensors"
DESCRIPTION = "policy.json"
ARTEFACT = "policy.jax_export"
BEST = "best"  # the checkpoint with the highest test win rate
EVALUATION = "evaluation.json"
BATTLE = "battle.gif"
CREDIT_ORDER = "credit_order.png"
AUDIT = "audit.json"
AUDIT_FIGURE = "audit.png"
REPORT = "report.html"
LOCK = ".lock"  # there while a process trains in the directory, or after one was killed

SHIPPED = (
    "pretrained:"  # what a run's directory begins with that ships with the package, as in pretrained:2s3z
)
SHELF = Path(__file__).parent / "pretrained"


def place(run_dir: str | os.PathLike) -> Path:
    """The directory of a run, as the user names it: a path, or ``pretrained:<map>``.

    Raises:
        ConfigError: no such policy ships with the package.
    """
    said = os.fspath(run_dir)
    if not said.startswith(SHIPPED):
        return Path(run_dir)
    there = sorted(path.parent.name for path in SHELF.glob(f"*/{CONFIG}"))
    if (name := said.removeprefix(SHIPPED)) not in there:
        raise ConfigError(f"{said}: no such policy ships with seca_jax; there are {', '.join(there)}")
    return SHELF / name


def policy_alone(run_dir: str | os.PathLike) -> bool:
    """Whether a run's policy is there without critic, optimisers and checkpoints; raises ConfigError."""
    there = place(run_dir)
    return (there / POLICY).is_file() and not (there / CHECKPOINTS).exists()


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a whole file or nothing; raises OSError, leaving the file as it was."""
    path = Path(path)
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with open(draft, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(
                file.fileno()
            )  # renamed before its content is on the disk, it is empty after a power cut
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def checkpoint_steps(run_dir: str | os.PathLike, name: str = CHECKPOINTS) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending; others have no mere number for a name."""
    names = (path.name for path in (Path(run_dir) / name).glob("*"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def check_links(run_dir: str | os.PathLike) -> None:
    """Raises ConfigError if a link in a run's directory leads out of it: what is written there would, too."""
    home = Path(run_dir).resolve()
    for place, directories, files in os.walk(home):
        for path in (Path(place) / name for name in (*directories, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise ConfigError(
                    f"{Path(run_dir) / path.relative_to(home)}: leads out of the run's directory, to "
                    f"{os.readlink(path)}; put what it leads to in its place, or remove it"
                )
        # W&B's own links are absolute, and lead to where a moved run was before
        directories[:] = [name for name in directories if Path(place) / name != home / "wandb"]


def read_metrics(
    run_dir: str | os.PathLike, report: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """All lines of a run's metrics.jsonl, each with ``step``, ``seed`` and ``wall_s``.

    Args:
        run_dir: the run's directory; without the file there are no lines.
        report: told, once and in one line, which lines are damaged and left out. A last line that a
            crash cut off is no damage.
    """
    path = Path(run_dir) / METRICS
    texts = path.read_bytes().split(b"\n") if path.exists() else []
    lines, damaged = [], []
    for number, text in enumerate(texts, start=1):
        if not text or (number == len(texts) and text.startswith(b"{")):
            continue
        try:
            line = json.loads(text)
            if not {"step", "seed", "wall_s"} <= set(line):
                raise ValueError
            lines.append(line)
        except (ValueError, TypeError):
            damaged.append(str(number))
    if damaged and report is not None:
        many = len(damaged) > 1
        shown = ", ".join(damaged[:5]) + (f" and {len(damaged) - 5} more" if len(damaged) > 5 else "")
        report(f"{path} is damaged: line{'s' * many} {shown} {'are' if many else 'is'} left out")
    return lines


def check_vacant(run_dir: str | os.PathLike) -> None:
    """Raises ConfigError if a new run cannot start in ``run_dir``. Writes nothing."""
    run_dir = Path(run_dir)
    if (run_dir / CONFIG).exists():
        raise ConfigError(
            f"out={run_dir}: holds a run already; resume={run_dir} continues it, or give another out="
        )
    # What a process leaves that was killed before its run had begun is nobody's
    if run_dir.is_dir() and {path.name for path in run_dir.iterdir()} - {LOCK, f"{CONFIG}.tmp"}:
        raise ConfigError(f"out={run_dir}: is not empty; give a new directory")
    existing = run_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"out={run_dir}: cannot write in {existing}; give a directory you may write to")


@contextlib.contextmanager
def locked(run_dir: str | os.PathLike, word: str) -> Iterator[None]:
    """Within the block no other process trains in ``run_dir``, which is made where it is missing.

    The operating system releases the lock when the process ends, however it ends. What was made here
    and has stayed empty is removed again.

    Args:
        run_dir: the run's directory.
        word: what the user said, ``out`` or ``resume``, for the message.

    Raises:
        ConfigError: another process has it, nothing can be written there, or a link in it leads elsewhere.
    """
    path = Path(run_dir) / LOCK
    check_links(run_dir)
    missing = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    try:
        file = _take(path)
    except BlockingIOError:
        raise ConfigError(
            f"{word}={run_dir}: {_holder(path)} is training there; wait for its end or stop it"
        ) from None
    except OSError as error:
        _remove_empty(missing)
        verb = "created" if word == "out" else "written"
        raise ConfigError(f"{word}={run_dir}: cannot be {verb} ({error.strerror})") from None

    def release() -> None:
        # Removed while it is held: whoever opens it from now on makes a new one, see _take
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()
        _remove_empty(missing)

    door.undo.append(release)
    try:
        yield
    finally:
        door.undo.remove(release)
        release()


def _take(path: Path) -> BinaryIO:
    """The lock file, open and locked; raises BlockingIOError where another process has it, OSError."""
    for _ in range(1000):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+b")  # noqa: SIM115, open for as long as it is locked
        except FileNotFoundError:  # its holder has just ended and removed the directory too
            continue
        try:
            _lock(file)
            # A file that its last holder has removed meanwhile is nobody's lock
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                file.truncate(0)
                file.write(f"{os.getpid()} {socket.gethostname()}\n".encode())
                file.flush()
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()
        time.sleep(0.001)
    raise BlockingIOError


def _lock(file: BinaryIO) -> None:
    """Locks an open file for this process; raises BlockingIOError where another one has it."""
    if fcntl is None:
        msvcrt: Any = importlib.import_module("msvcrt")
        try:  # far behind the text: what is locked cannot be read by others
            file.seek(2**30)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            raise BlockingIOError from None
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some network file systems know no locks: better unguarded than not at all
        pass


def _holder(path: Path) -> str:
    """Who has a lock, as far as the file tells."""
    try:
        process, host = path.read_text().split()
    except (OSError, ValueError):  # it is just being written
        return "another process"
    return f"process {process} on {host}"


def _remove_empty(places: list[Path]) -> None:
    """Removes directories that are still empty, innermost first."""
    for place in places:
        try:
            place.rmdir()
        except OSError:
            return


def named(words: list[str]) -> list[str]:
    """The words, a bare directory or ``pretrained:<map>`` among them read as ``run=<directory>``."""

    def bare(word: str) -> bool:
        # A sweep's directories have = in their names, too
        directory = os.path.isdir(word) and not re.match(r"[\w.]+=", word)
        return directory or ("=" not in word and word.startswith(SHIPPED))

    return [f"run={word}" if bare(word) else word for word in words]


def one(words: list[str]) -> list[str]:
    """:func:`named` for a command that takes one run; raises ConfigError where bare words name several."""
    found = named(words)
    places = [word.removeprefix("run=") for word in found if word.startswith("run=")]
    if len(places) > 1 and found != words:
        raise ConfigError(f"one run at a time, not {' and '.join(places)}")
    return found


def output(given: str, run: str, name: str) -> Path | None:
    """Where an output goes, None for ``none``; raises ConfigError where it cannot be written."""
    return None if given == "none" else writable(given, run, name)


def writable(given: str, run: str, name: str) -> Path:
    """The file ``given``, or else ``name`` in the run's directory; raises ConfigError unless it can be.

    Of a policy that ships with the package it is a file in the working directory, ``2s3z-<name>``.
    """
    shipped = run.startswith(SHIPPED)  # nobody's own files go into the package
    path = Path(f"{place(run).name}-{name}" if shipped else Path(run) / name)
    path = Path(given) if given else path
    if not given and not shipped:
        check_links(run)
    if path.is_dir():
        raise ConfigError(f"{path}: is a directory; give a file")
    if not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(
            f"{path}: cannot be written there; give a file in a directory that exists and is writable"
        )
    return path
