"""Stored runs: one archive for each figure and scale, experiments/results/<figure>-<scale>.zip.

It holds ``<map>/<run>/`` of every run with what training left there: config.yaml (the resolved
configuration, command, versions, device and commit), metrics.jsonl, and evaluation.json where there is one.
Pictures that pages show beside them, and that cannot be drawn anew without the policies, lie in
``<figure>-<scale>/<map>/<run>/``.

    python -m zipfile -e experiments/results/maps-small.zip DIR

gives run directories that ``python -m seca_jax.report run=DIR/3m/seca`` reads.
"""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from seca_jax.config import compose
from seca_jax.config.keys import get
from seca_jax.config.learners import idle
from seca_jax.config.schema import Config, keys

NEEDED = ("config.yaml", "metrics.jsonl")  # a run that has them is done
KEPT = (*NEEDED, "evaluation.json")
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # for every member: the same runs make the same archive


def archive(results: Path, figure: str, scale: str) -> Path:
    """Where the runs of a figure are stored."""
    return results / f"{figure}-{scale}.zip"


@contextlib.contextmanager
def opened(results: Path, figure: str, scale: str) -> Iterator[Path]:
    """A directory that holds ``<map>/<run>/`` of every stored run, pictures included, while it is open.

    Raises:
        OSError: the archive is damaged.
    """
    path = archive(results, figure, scale)
    with tempfile.TemporaryDirectory(prefix=f"{path.stem}-") as place:
        if path.exists():
            try:
                with zipfile.ZipFile(path) as stored:
                    stored.extractall(place)
            except zipfile.BadZipFile as error:
                raise OSError(f"{path} is damaged ({error}); take it from the repository again") from None
        if (pictures := path.with_suffix("")).is_dir():
            shutil.copytree(pictures, place, dirs_exist_ok=True)
        yield Path(place)


def done(place: Path) -> bool:
    """Whether a run is stored there, of an :func:`opened` directory."""
    return all((place / name).is_file() for name in NEEDED)


def differences(place: Path, config: Config) -> list[str]:
    """Where a stored run was configured otherwise than a new one would be: ``key=stored (now value)``.

    What only says where a run lies and how it is watched does not count, nor do keys that its learner never
    reads.

    Args:
        place: of the stored run, in an :func:`opened` directory.
        config: what its command gives today.

    Raises:
        ConfigError: the stored configuration cannot be read today.
    """
    stored, _ = compose.load(place)
    return [
        f"{name}={get(stored, name)} (now {get(config, name)})"
        for name, _ in keys()
        if name not in (*compose.FREE_ON_RESUME, "out", "name", "resume", "preset")
        and get(stored, name) != get(config, name)
        and not (idle(name, config) and idle(name, stored))
    ]


def add(path: Path, name: str, run_dir: Path) -> None:
    """Stores a finished run, in place of one of the same name, all at once.

    Args:
        path: the archive; made where there is none.
        name: ``<map>/<run>``.
        run_dir: its directory.

    Raises:
        OSError: a file is missing or the archive cannot be written; it is as it was then.
    """
    present = [file for file in KEPT if file in NEEDED or (run_dir / file).exists()]
    _change(path, [name], {f"{name}/{file}": (run_dir / file).read_bytes() for file in present})


def remove(path: Path, names: Iterable[str]) -> None:
    """Takes runs, called ``<map>/<run>``, out of an archive; raises OSError."""
    _change(path, list(names), {})


def _change(path: Path, without: list[str], members: dict[str, bytes]) -> None:
    """Writes the archive anew without the runs of these names and with these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    with _alone(path.parent):
        if path.exists():
            with zipfile.ZipFile(path) as stored:
                old = {member: stored.read(member) for member in stored.namelist()}
            members = {m: x for m, x in old.items() if m.rpartition("/")[0] not in without} | members
        try:
            with zipfile.ZipFile(draft, "w") as made:
                for member, data in sorted(members.items()):
                    info = zipfile.ZipInfo(member, LONG_AGO)
                    info.external_attr = 0o644 << 16  # readable, wherever it is unpacked
                    made.writestr(info, data, zipfile.ZIP_BZIP2, 9)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Makes other processes that want to change an archive there wait."""
    try:
        import fcntl
    except ImportError:  # Windows, where one figure at a time has to do
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
