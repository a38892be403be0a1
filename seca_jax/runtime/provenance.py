"""Where a run's numbers come from: versions, devices, commit, command."""

import os
import platform
import shlex
import subprocess
import uuid
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Sequence

import seca_jax
from seca_jax import extensions
from seca_jax.runtime.devices import Device

PACKAGES = ("jax", "jaxlib", "flax", "optax", "jaxmarl", "orbax-checkpoint", "numpy")


def provenance(devices: Sequence[Device], argv: Sequence[str], module: str) -> dict[str, Any]:
    """What config.yaml keeps beside the configuration.

    Args:
        devices: that the run uses.
        argv: words of its command.
        module: that was run, e.g. ``seca_jax.train``.
    """
    return {
        "versions": versions(),
        "device": described(devices),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "platform": devices[0].platform,
        "git_commit": commit(),
        "command": shlex.join(["python", "-m", module, *argv]),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "wandb_id": uuid.uuid4().hex[:8],
    }


def described(devices: Sequence[Device]) -> str:
    """``2 x cpu``."""
    return f"{len(devices)} x {devices[0].device_kind}"


def versions() -> dict[str, str | None]:
    """Versions of Python, of this package, of those that its numbers depend on and of those that extend it.

    None: not installed.
    """
    found: dict[str, str | None] = {"python": platform.python_version(), "seca_jax": seca_jax.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found | extensions.packages()


def processor() -> str:
    """The model of this machine's processor, as far as the operating system tells."""
    try:  # Linux
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, model = line.partition(":")
        if name.strip() == "model name":
            return " ".join(model.split())
    model = said("sysctl", "-n", "machdep.cpu.brand_string") if platform.system() == "Darwin" else None
    return model or platform.processor() or platform.machine() or "unknown processor"


def commit() -> str | None:
    """The git commit of this package, with a remark where it was modified; None outside a repository."""
    found = said("git", "rev-parse", "HEAD")
    # Of this package alone: results stored beside it change no run
    if found and said("git", "status", "--porcelain", "-uno", "."):
        found += " (modified)"
    return found


def said(*command: str) -> str | None:
    """What a command run in the package's directory prints; None where it fails or is not there."""
    root = Path(__file__).parent.parent
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
