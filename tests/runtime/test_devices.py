"""Which devices a run takes, how seeds are spread over them, and what is said where there are none."""

import os
import subprocess
import sys
import textwrap

import jax
import pytest
import stub
import yaml

from seca_jax.config.check import ConfigError
from seca_jax.runtime import devices

NONE = "JAX finds no such device here"
SMALL = ["map=3m", "num_envs=4", "window=5", "eval.episodes=4", "wandb.mode=disabled", "total_steps=100"]
EVERY = ["log.interval=100", "eval.interval=200", "checkpoint.interval=300"]


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seeds=3"], "3 seeds, 3 x cpu, mesh=3x1"),
        (["seeds=40"], "40 seeds, 32 x cpu, mesh=32x1"),
        (["seeds=3", "mesh=1x1"], "3 seeds, 1 x cpu, mesh=1x1"),
    ],
)
def test_a_cpu_is_a_device_for_each_seed_within_reason(tmp_path, words, said):
    done = run_with({}, *SMALL, *words, f"out={tmp_path / 'run'}")
    assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("seeds", [2, 3])
def test_seeds_are_spread_over_devices_and_agree(tmp_path, metrics, seeds):
    """Evenly and unevenly."""
    numbers = []
    for count in (1, 2):
        run = tmp_path / str(count)
        words = [*SMALL, *EVERY, "eval.episodes=6", "total_steps=400", f"seeds={seeds}", f"out={run}"]
        done = run_with(stub.with_devices(count), *words)
        assert done.returncode == 0, done.stderr
        assert f"{count} x cpu" in done.stdout
        numbers.append(metrics(run, timing=False))
    assert numbers[0] == numbers[1]


COLLECTIVES = """
    import sys
    sys.path.insert(0, {here!r})
    import jax, numpy as np, stub
    from seca_jax.runtime import program as programs
    from seca_jax.config.keys import replace
    from seca_jax.config.schema import Config

    config = replace(replace(Config(), "seeds", 3), "num_envs", 4)
    env = stub.make_env(config)
    program = programs.Program(config, programs.Functions(config, env, stub.make_algorithm, jax.devices()))
    state, tally = program.init()
    chunk = program.functions.chunk.lower(program.rates, state, tally, np.int32(1))
    lowered = chunk, program.reset.lower(state)
    texts = [each.compile().as_text() for each in lowered]
    held = jax.tree.leaves(program.fetch(state))
    assert all(leaf.shape[0] == 3 for leaf in held) and jax.tree.leaves(state)[0].shape[0] == 4
    words = ("all-gather", "all-reduce", "all-to-all", "collective", "reduce-scatter")
    sys.exit(", ".join(word for word in words if any(word in text for text in texts)) or 0)
"""


def test_devices_never_wait_for_each_other():
    """Nothing is exchanged between them, even where the seeds do not divide evenly."""
    script = textwrap.dedent(COLLECTIVES.format(here=os.path.dirname(stub.__file__)))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=stub.with_devices(2), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
