"""Which devices a run uses, and the process-wide JAX settings that go with them."""

import contextlib
import os
from pathlib import Path
from typing import Any, Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seca_jax.config.check import ConfigError

Device = Any  # jax.Device, which is no type to a type checker


def configure(device: str, seeds: int = 1) -> list[Device]:
    """Sets the platform and the compilation cache; returns the devices to use, at most one a seed.

    A CPU counts as one device per core, up to the number of seeds: XLA runs a matrix product that is
    batched over seeds on a single core, so seeds side by side are what keeps the cores busy.

    The platform can only be chosen before JAX's first computation, hence before jaxmarl is imported.
    Compiled programs are kept in ``$JAX_COMPILATION_CACHE_DIR``, by default ``~/.cache/seca_jax``.

    Raises:
        ConfigError: the requested kind of device is not there.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path.home() / ".cache" / "seca_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # the platform is up already: take it as it is
            jax.config.update("jax_num_cpu_devices", min(cores(), seeds))
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        return (jax.devices() if device == "auto" else jax.devices(device))[:seeds]
    except (RuntimeError, AssertionError):  # JAX asserts that a platform of JAX_PLATFORMS is there
        platforms = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        if device == "auto":
            raise ConfigError(
                f"JAX_PLATFORMS={platforms}: JAX finds no such device here; {_extra(platforms)}unset it"
            ) from None
        asked = f" under JAX_PLATFORMS={platforms}" if platforms and device != "cpu" else ""
        raise ConfigError(
            f"device={device}: JAX finds none here{asked}; {_extra(device)}use device=auto"
        ) from None


def _extra(platforms: str | None) -> str:
    """What to install for a platform that is missing."""
    extras = {"gpu": "cuda13", "cuda": "cuda13", "tpu": "tpu"}
    found = [extras[name] for name in (platforms or "").split(",") if name in extras]
    return f"install seca_jax[{found[0]}], or " if found else ""


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every operating system tells which cores a process may use
        return os.cpu_count() or 1


class SeedAxis:
    """The leading seed axis, spread over devices that work side by side.

    Seeds never talk to each other, so each device runs its share under its own ``vmap`` and waits
    for nobody. Where the seeds do not divide evenly, the last one is computed again to fill up the
    shares (5 seeds on 2 devices: 3 and 3); that costs no time, since the fullest device decides, and
    changes no number. The copies stay on the devices and are dropped on the way to the host: dropping
    them in compiled code would make the devices exchange data and wait for each other.

    Attributes:
        rows: seeds and copies, the size of the axis on the devices.
        sharding: of every array with a seed axis on the devices.
    """

    def __init__(self, devices: list[Device], seeds: int) -> None:
        """``devices`` beyond one a seed are left alone."""
        devices = devices[:seeds]
        self._seeds, self.rows = seeds, -(-seeds // len(devices)) * len(devices)
        self._mesh = Mesh(np.array(devices), ("seed",))
        self.sharding = NamedSharding(self._mesh, PartitionSpec("seed"))

    def map(self, function: Callable, in_axes: tuple[int | None, ...]) -> Callable:
        """``vmap(function, in_axes)`` over the rows, each device its share; 0 or None per argument."""
        specs = tuple(PartitionSpec() if axis is None else PartitionSpec("seed") for axis in in_axes)
        return jax.shard_map(
            jax.vmap(function, in_axes=in_axes),
            mesh=self._mesh,
            in_specs=specs,
            out_specs=PartitionSpec("seed"),
            check_vma=False,
        )

    def place(self, tree: Any) -> Any:
        """Arrays [seeds, ...] of the host, or keys, onto the devices: [rows, ...]."""
        filled = np.minimum(np.arange(self.rows), self._seeds - 1)

        def placed(x: Any) -> jax.Array:
            if is_key(x):
                # Raw numbers travel: a key array would be indexed by a program on other devices
                return jax.random.wrap_key_data(placed(np.asarray(jax.random.key_data(x))))
            return jax.device_put(np.asarray(x)[filled], self.sharding)

        return jax.tree.map(placed, tree)

    def fetch(self, tree: Any) -> Any:
        """Arrays [rows, ...] of the devices to the host: [seeds, ...], NumPy except for keys."""

        def fetched(x: Any) -> Any:
            if is_key(x):
                return jax.random.wrap_key_data(fetched(jax.random.key_data(x)))
            return np.asarray(x)[: self._seeds]

        return jax.tree.map(fetched, tree)


def is_key(x: Any) -> bool:
    """Whether an array, or its ShapeDtypeStruct, holds typed PRNG keys."""
    return jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
