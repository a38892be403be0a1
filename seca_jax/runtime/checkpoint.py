"""Checkpoints of a whole run: what is in one, and reading it; :mod:`seca_jax.runtime.saving` writes them.

A checkpoint holds every leaf of a pytree under its path, typed PRNG keys as their raw data. Orbax
writes into a temporary directory and renames it when all is on disk, so a process killed in the
middle of a save leaves the earlier checkpoints as they were.
"""

import errno
import logging
import os
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax import runs
from seca_jax.config.check import ConfigError
from seca_jax.config.compose import load
from seca_jax.config.schema import Config
from seca_jax.runtime import policies, processes
from seca_jax.runtime.devices import is_key
from seca_jax.types import Learner

CHECKSUMS = "checksums"  # leaves beside the others
LINES = "lines"  # [2] int64: size and CRC-32 of metrics.jsonl, so far


def to_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Host copies of all leaves by path.

    Copies, because a donated buffer is overwritten while orbax is still writing. Empty arrays are
    left out: orbax refuses them and they hold nothing.
    """
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        value = np.array(jax.random.key_data(leaf) if is_key(leaf) else leaf, copy=True)
        if value.size:
            leaves[jax.tree_util.keystr(path, simple=True, separator=".")] = value
    return leaves


def checksums(leaves: dict[str, np.ndarray]) -> np.ndarray:
    """CRC-32 of every leaf, in the order of their names: what is stored has none of its own."""
    return np.array(
        [zlib.crc32(np.ascontiguousarray(leaves[name]).data) for name in sorted(leaves)], np.uint32
    )


def from_leaves(leaves: dict[str, np.ndarray], abstract: Any) -> Any:
    """The tree with the structure of ``abstract`` (ShapeDtypeStructs) and the values of ``leaves``.

    Raises:
        ConfigError: a leaf is missing or has another shape or type.
    """

    def leaf(path: Any, expected: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        key = is_key(expected)
        plain = jax.eval_shape(jax.random.key_data, expected) if key else expected
        value: Any = leaves.get(name) if plain.size else np.zeros(plain.shape, plain.dtype)
        if value is None or value.shape != plain.shape or value.dtype != plain.dtype:
            found = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            wanted = f"{plain.dtype}{list(plain.shape)}"
            raise ConfigError(f"the checkpoint does not fit this config: {name} is {found}, not {wanted}")
        return jax.random.wrap_key_data(jnp.asarray(value)) if key else value

    return jax.tree_util.tree_map_with_path(leaf, abstract)


def _hush() -> None:
    """Keeps quiet about what tensorstore's threads have left to say after a failure.

    They report to an event loop that orbax has closed when the first of them failed, and Python prints a
    traceback for each. The failure itself is reported by us, in one line.
    """
    before = sys.unraisablehook
    if getattr(before, "__name__", "") == "hushed":
        return

    def hushed(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hushed
    # Of the reads that fail beside the first one asyncio says, when they are collected, that nobody asked
    logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.getMessage())
    # Nor has anybody waited for what would have come after it
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def manager(directory: Path, keep: int | None) -> Any:
    """Orbax's manager of a directory, which keeps the newest ``keep``; None: it only reads."""
    import orbax.checkpoint as ocp

    _hush()
    # Orbax logs whole tracebacks from its threads, too
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if keep is not None:
        directory.mkdir(parents=True, exist_ok=True)
    # What is here is whole: of a run's processes each reads, and one writes, without asking the others
    alone = {}
    if processes.count() > 1:
        own = jax.process_index()
        alone["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
        )
    options = ocp.CheckpointManagerOptions(
        **alone,
        max_to_keep=keep,
        create=False,
        read_only=keep is None,
        cleanup_tmp_directories=keep is not None,
    )
    return ocp.CheckpointManager(directory.absolute(), options=options)


# What the system says, where a library wraps it in words of its own
CAUSES = tuple(
    os.strerror(number)
    for number in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EROFS,
        errno.EIO,
        errno.ENOENT,
    )
)


def brief(error: Exception) -> str:
    """What went wrong, in a few words."""
    text = " ".join(str(error).split())
    return next((cause for cause in CAUSES if cause in text), f"{type(error).__name__}: {text[:150]}")


def read(path: Path) -> dict[str, np.ndarray]:
    """The leaves of a checkpoint by their names; raises all sorts of errors where it is damaged."""
    import orbax.checkpoint as ocp

    reader = manager(path.parent, keep=None)
    try:
        leaves = reader.restore(int(path.name), args=ocp.args.StandardRestore())
    finally:
        reader.close()
    expected = leaves.pop(CHECKSUMS, None)
    if expected is not None and not np.array_equal(expected, checksums(leaves)):
        raise ValueError("its numbers have changed since they were written")
    return leaves


def restore(
    run_dir: str | os.PathLike,
    abstract: Any,
    report: Callable[[str], None] | None = None,
    step: str = "",
    *,
    lines: bool = False,
) -> tuple[int, Any] | None:
    """A checkpoint of a run: its step and its tree.

    Args:
        run_dir: the run's directory.
        abstract: tree of ShapeDtypeStructs; a part of the saved tree will do.
        report: told of each newer checkpoint that is damaged.
        step: of the checkpoint, or ``best`` (``saving.Best``); empty: the newest that is whole.
        lines: ``report`` is told, too, where metrics.jsonl is not what it was when the checkpoint was made.

    Returns:
        the step and the tree, leaves as NumPy arrays or PRNG keys; None where there is no checkpoint.

    Raises:
        ConfigError: there is no such checkpoint, none can be read, or it belongs to another config.
    """
    name = runs.BEST if step == "best" else runs.CHECKPOINTS
    saved = runs.checkpoint_steps(run_dir, name)
    wanted = [number for number in saved if step in ("", "best", str(number))]
    if step and not wanted:
        kept = ", ".join(map(str, saved)) or "none"
        told = "checkpoint.best=true keeps one" if step == "best" else f"there are {kept}"
        raise ConfigError(f"step={step}: {run_dir} has no such checkpoint; {told}")
    for number in reversed(wanted):
        path = Path(run_dir) / name / str(number)
        try:
            leaves = read(path)
        except Exception as error:  # tensorstore raises ValueError, orbax KeyError, the file system OSError
            damage = f"checkpoint {path} is damaged ({brief(error)})"
            if number == wanted[0]:
                advice = "give another step" if step else f"delete {path.parent} to start from step 0"
                raise ConfigError(f"{damage}; {advice}") from None
            if report is not None:
                report(f"{damage}; falling back to the one before it")
            continue
        if lines and report is not None and LINES in leaves and _changed(run_dir, leaves[LINES]):
            report(
                f"{Path(run_dir) / runs.METRICS} is not what it was when checkpoint {number} was written: "
                "lines up to there are lost or changed"
            )
        try:
            return number, from_leaves(leaves, abstract)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return None


def _changed(run_dir: str | os.PathLike, lines: np.ndarray) -> bool:
    """Whether metrics.jsonl is not what a checkpoint remembers, in a way that no line itself tells."""
    size, crc = lines.tolist()
    path, damaged = Path(run_dir) / runs.METRICS, []
    content = path.read_bytes()[:size] if path.is_file() else b""
    if zlib.crc32(content) == crc:
        return False
    runs.read_metrics(run_dir, damaged.append)  # what it tells of is told of when training begins
    return not damaged


def set_aside(run_dir: str | os.PathLike, step: int) -> None:
    """Renames the checkpoints after ``step``, which are damaged, so that new ones can take their places."""
    for later in runs.checkpoint_steps(run_dir):
        if later > step:
            path = Path(run_dir) / runs.CHECKPOINTS / str(later)
            path.rename(path.with_name(f"{later}.damaged"))


def load_run(
    run_dir: str | os.PathLike,
    learner: Learner | None = None,
    report: Callable[[str], None] | None = None,
    step: str = "",
) -> tuple[Config, int, Any]:
    """A trained run: its config, the step of a checkpoint, and the parameters there.

    Args:
        run_dir: the run's directory.
        learner: the run's learner if you have made it already.
        report: told of each newer checkpoint that is damaged; standard error unless given.
        step: of the checkpoint, or ``best``; empty: the newest.

    Returns:
        ``(config, step, params)``; leaves of ``params`` are ``[seeds, ...]``, and one seed's share
        of them, ``jax.tree.map(lambda x: x[i], params)``, is what ``learner.act`` takes. Where the
        directory holds a policy alone, what does not act is None.

    Raises:
        ConfigError: no run there, it has not saved anything yet, or it is damaged.
    """
    from seca_jax import algos, envs

    config, _ = load(run_dir)
    if learner is None:
        learner = algos.make(config, envs.make(config))
    if runs.policy_alone(run_dir):
        abstract = jax.eval_shape(learner.init, jax.eval_shape(jax.random.key, 0)).params
        return config, *policies.read(run_dir, abstract, step)
    keys = jax.eval_shape(jax.vmap(jax.random.key), np.arange(config.seeds))
    params = jax.eval_shape(jax.vmap(learner.init), keys).params
    found = restore(run_dir, {"state": {"params": params}}, report or _warn, step)
    if found is None:
        raise ConfigError(f"{run_dir}: the run has no checkpoint yet; resume={run_dir} trains on")
    number, tree = found
    return config, number, jax.tree.map(jax.numpy.asarray, tree["state"]["params"])


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
