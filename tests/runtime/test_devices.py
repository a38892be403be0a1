"""Which devices a run takes, and what is said where there are none."""

import os
import subprocess
import sys

import jax
import pytest
import stub
import yaml

from seca_jax.config.check import ConfigError
from seca_jax.runtime import devices

NONE = "JAX finds no such device here"
SMALL = ["map=3m", "num_envs=4", "window=5", "eval.episodes=4", "wandb.mode=disabled", "total_steps=100"]


def run_with(environment, *words, module=None):
    program = [stub.__file__] if module is None else ["-m", module]
    return subprocess.run(
        [sys.executable, *program, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_no_more_devices_are_named_than_used(tmp_path):
    done = run_with(stub.with_devices(4), *SMALL, "seeds=1", f"out={tmp_path / 'run'}")
    assert done.returncode == 0 and "1 seed, 1 x cpu" in done.stdout, done.stderr
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert stored["provenance"]["device"] == "1 x cpu"


@pytest.mark.parametrize(
    ("platforms", "words", "message"),
    [
        (
            "cuda",
            [],
            "JAX_PLATFORMS=cuda: JAX finds no such device here; install seca_jax[cuda13], or unset it",
        ),
        ("nonsense", [], "JAX_PLATFORMS=nonsense: JAX finds no such device here; unset it"),
        (
            "cpu",
            ["device=gpu"],
            "device=gpu: JAX finds none here under JAX_PLATFORMS=cpu; install seca_jax[cuda13], "
            "or use device=auto",
        ),
    ],
)
def test_a_platform_that_is_not_there_is_a_line(tmp_path, platforms, words, message):
    if jax.default_backend() != "cpu":
        pytest.skip("there is an accelerator")
    out = tmp_path / "run"
    done = run_with({"JAX_PLATFORMS": platforms}, *SMALL, *words, f"out={out}")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    assert not out.exists()


def test_the_benchmark_says_so_too():
    done = run_with({"JAX_PLATFORMS": "cuda"}, "map=matrix", module="seca_jax.benchmark")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: JAX_PLATFORMS=cuda: ")


def test_configure_names_what_is_missing():
    with pytest.raises(ConfigError, match="device=tpu: JAX finds none here"):
        devices.configure("tpu")


def test_cores_are_counted_where_the_system_does_not_tell_which_may_be_used(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert devices.cores() == os.cpu_count()
    assert devices.configure("cpu", 2)
