"""Which devices a run uses, and the process-wide JAX settings that go with them."""

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seca_jax.arrays import ENVS
from seca_jax.config.check import ConfigError

Device = Any  # jax.Device, which is no type to a type checker
MOST_CPU_DEVICES = 32  # each has its own threads; that many have been measured to work side by side
Shape = tuple[int, int]  # of a mesh: devices along the seeds, devices that share a seed's environments


def configure(
    device: str, seeds: int = 1, shareable: int = 1, mesh: Shape | None = None, processes: int = 1
) -> list[Device]:
    """Sets the platform and the compilation cache; returns the devices to use, those of :func:`arranged`.

    A CPU counts as one device per seed, however few its cores, up to :data:`MOST_CPU_DEVICES`: XLA runs a
    matrix product that is batched over seeds on a single core, and a device that has one seed works on so
    few arrays at a time that they stay in the caches. More of them are there where ``mesh`` asks for more.

    The platform can only be chosen before JAX's first computation, hence before jaxmarl is imported.
    Compiled programs are kept in ``$JAX_COMPILATION_CACHE_DIR``, by default ``~/.cache/seca_jax``.

    Args:
        device: the key ``device``.
        seeds: of the run.
        shareable: environments of a seed that devices may share, see :func:`seca_jax.config.check.shareable`.
        mesh: the key ``mesh``, see :func:`seca_jax.config.schema.mesh_of`.
        processes: that ``mesh`` is spread over.

    Raises:
        ConfigError: the requested kind of device is not there, or not as often.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path.home() / ".cache" / "seca_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # the platform is up already: take it as it is
            wanted = max(min(seeds, MOST_CPU_DEVICES), math.prod(mesh or ()))
            jax.config.update("jax_num_cpu_devices", -(-wanted // processes))
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        found = jax.devices() if device == "auto" else jax.devices(device)
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
    return arranged(found, seeds, shareable, mesh).ravel().tolist()


def arranged(devices: Sequence[Device], seeds: int, shareable: int, mesh: Shape | None) -> np.ndarray:
    """The devices that a run uses, [along the seeds, sharing a seed's environments].

    Left to itself, it gives seeds their devices first, at most one each. Accelerators that are left over
    then share environments, as many of them as divide these evenly. Those of a CPU do not: a seed's own
    is quicker without the others (they would wait for one another at every gradient).

    Args:
        devices: that there are.
        seeds: of the run.
        shareable: environments of a seed that devices may share evenly.
        mesh: what the user wants instead.

    Every process of a distributed run has as many of them as the others.

    Raises:
        ConfigError: there are fewer than ``mesh`` wants, or they cannot be spread over the processes.
    """
    own: dict[int, list[Device]] = {}
    for device in devices:
        own.setdefault(device.process_index, []).append(device)
    processes, each = len(own), min(map(len, own.values()))
    if mesh is None:
        total, cpu = processes * each, devices[0].platform == "cpu"
        alongs = range(min(total, seeds), 0, -1)
        candidates = [(along, 1 if cpu else total // along) for along in alongs]
        # A CPU's share environments where a process would be left without a seed
        candidates += [(along, processes) for along in alongs if along * processes <= total]
        fitting = (
            (along, sharing)
            for along, most in candidates
            for sharing in range(most, 0, -1)
            if shareable % sharing == 0 and along * sharing % processes == 0
        )
        mesh = next(fitting, None)
        if mesh is None:
            raise ConfigError(
                f"seeds={seeds}: {processes} processes cannot have a share each; give more seeds, or "
                f"num_envs and minibatches that {processes} divides"
            )
    along, sharing = mesh
    if along * sharing > processes * each:
        raise ConfigError(
            f"mesh={along}x{sharing}: {along * sharing} devices, and there are {processes * each}; "
            "give a smaller one, or mesh=auto"
        )
    if along * sharing % processes:
        raise ConfigError(
            f"mesh={along}x{sharing}: {along * sharing} devices do not divide evenly among "
            f"{processes} processes"
        )
    used = [one for part in own.values() for one in part[: along * sharing // processes]]
    return np.array(used, object).reshape(along, sharing)


def _extra(platforms: str | None) -> str:
    """What to install for a platform that is missing."""
    extras = {"gpu": "cuda13", "cuda": "cuda13", "tpu": "tpu"}
    found = [extras[name] for name in (platforms or "").split(",") if name in extras]
    return f"install seca_jax[{found[0]}], or " if found else ""


class SeedAxis:
    """The leading seed axis, spread over devices that work side by side.

    Seeds never talk to each other, so each device runs its share under its own ``vmap`` and waits
    for nobody. Where the seeds do not divide evenly, the last one is computed again to fill up the
    shares (5 seeds on 2 devices: 3 and 3); that costs no time, since the fullest device decides. The
    copies stay on the devices and are dropped on the way to the host: dropping them in compiled code
    would make the devices exchange data and wait for each other.

    Where several devices share a seed's environments, each holds the seed's whole state and works on its
    share of what is said to be shared out (:func:`seca_jax.arrays.shared_out`); XLA adds up their gradients.

    Attributes:
        rows: seeds and copies, the size of the axis on the devices.
        sharding: of every array with a seed axis on the devices.
    """

    def __init__(self, devices: np.ndarray, seeds: int) -> None:
        """``devices`` [along the seeds, sharing a seed's environments], see :func:`arranged`."""
        along, sharing = devices.shape
        self._seeds, self.rows = seeds, -(-seeds // along) * along
        # An axis that nobody shares is left out: the program is then the one that knows no such axis
        self._mesh = Mesh(devices, ("seed", ENVS)) if sharing > 1 else Mesh(devices[:, 0], ("seed",))
        self.sharding = NamedSharding(self._mesh, PartitionSpec("seed"))
        self._alone = len({device.process_index for device in devices.flat}) == 1
        self._whole = jax.jit(lambda x: x, out_shardings=NamedSharding(self._mesh, PartitionSpec()))

    def map(self, function: Callable, in_axes: tuple[int | None, ...]) -> Callable:
        """``vmap(function, in_axes)`` over the rows, each device its share; 0 or None per argument."""
        specs = tuple(PartitionSpec() if axis is None else PartitionSpec("seed") for axis in in_axes)
        return jax.shard_map(
            jax.vmap(function, in_axes=in_axes),
            mesh=self._mesh,
            in_specs=specs,
            out_specs=PartitionSpec("seed"),
            axis_names={"seed"},  # the other axis, if there is one, is XLA's to partition
            check_vma=False,
        )

    def place(self, tree: Any) -> Any:
        """Arrays [seeds, ...] of the host, or keys, onto the devices: [rows, ...]."""
        filled = np.minimum(np.arange(self.rows), self._seeds - 1)

        def placed(x: Any) -> jax.Array:
            if is_key(x):
                # Raw numbers travel: a key array would be indexed by a program on other devices
                return jax.random.wrap_key_data(placed(np.asarray(jax.random.key_data(x))))
            rows = np.asarray(x)[filled]
            if self._alone:
                return jax.device_put(rows, self.sharding)
            # Every process has the whole and takes its devices' rows of it
            return jax.make_array_from_callback(rows.shape, self.sharding, lambda part: rows[part])

        return jax.tree.map(placed, tree)

    def fetch(self, tree: Any) -> Any:
        """Arrays [rows, ...] of the devices to the host: [seeds, ...], NumPy except for keys.

        All processes get all rows, and have to ask for them together.
        """

        def fetched(x: Any) -> Any:
            if is_key(x):
                return jax.random.wrap_key_data(fetched(jax.random.key_data(x)))
            if not self._alone:  # leaf by leaf: a device has room for one more, not for all at once
                x = self._whole(x).addressable_data(0)
            return np.asarray(x)[: self._seeds]

        return jax.tree.map(fetched, tree)


def is_key(x: Any) -> bool:
    """Whether an array, or its ShapeDtypeStruct, holds typed PRNG keys."""
    return jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
