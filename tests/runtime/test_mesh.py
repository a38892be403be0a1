"""Devices along the seeds, and devices that share a seed's environments: which, and whether numbers agree."""

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import stub
import yaml

from seca_jax.config.check import ConfigError
from seca_jax.runtime.devices import arranged

SIZES = {
    "num_envs": 16, "window": 4, "actor.hidden": 8, "critic.mixing": 8, "critic.hypernet_hidden": "8",
    "actor.epochs": 1, "actor.minibatches": 2, "critic.updates": 1, "critic.minibatches": 2,
    "eval.episodes": 6, "log.interval": 64, "q.mixing": 8, "q.hypernet": 8, "q.batch": 8, "q.episodes": 16,
    "q.updates": 1,
}  # fmt: skip
# Adam makes a whole step of a gradient that is rounding alone: short ones leave other errors to be seen
SHORT = {"lookahead": 1, "critic.lr": 1e-4}
TRAIN = """
    import sys
    import jax, numpy as np, seca_jax

    def numbers(settings):
        result = seca_jax.train(settings)
        metrics = {n: x for n, x in result.metrics.items() if n not in ("wall_s", "perf/steps_per_s")}
        leaves = jax.tree_util.tree_leaves_with_path(result.params)
        return metrics | {jax.tree_util.keystr(path): leaf for path, leaf in leaves}

    def check_same(settings, seeds, mesh, expected):
        found = numbers(settings | {"seeds": seeds, "mesh": mesh})
        assert found.keys() <= expected.keys()
        for name, right in expected.items():
            if name not in found:  # as of battles that only other seeds have ended
                assert np.isnan(right[:seeds]).all(), name
                continue
            np.testing.assert_allclose(found[name], right[:seeds], rtol=1e-3, atol=1e-5, err_msg=mesh + name)
"""


def in_process(code, *words, devices=8):
    environment = stub.with_devices(devices)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TRAIN) + textwrap.dedent(code), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def agree(game, algo, *meshes, **changes):
    """Trains on one device, and with (seeds, mesh) each."""
    settings = SIZES | {"map": game, "algo": algo, "total_steps": 192} | changes
    code = f"""
        settings = {settings!r}
        expected = numbers(settings | {{"seeds": {max(seeds for seeds, _ in meshes)}, "mesh": "1x1"}})
        for seeds, mesh in {meshes!r}:
            check_same(settings, seeds, mesh, expected)
        print("same")
    """
    done = in_process(code)
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


def test_numbers_do_not_depend_on_who_shares_environments():
    """To what the order of a sum changes: a float's last digits, which three updates do not blow up."""
    agree("delayed", "seca", (3, "2x4"))


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "changes"), [("seca", {}), ("seca", SHORT), ("qmix", {})])
def test_numbers_do_not_depend_on_the_mesh(algo, changes):
    """With fewer seeds than eight devices, as many, and more."""
    agree("3m", algo, (1, "1x8"), (2, "2x4"), (8, "8x1"), (9, "4x2"), **changes)


def test_each_device_works_on_its_share_and_gradients_are_added_up():
    """Of 2 x 12 environments on two by four devices."""
    code = f"""
        sys.path.insert(0, {os.path.dirname(stub.__file__)!r})
        import re, stub
        import jax.numpy as jnp
        from seca_jax.config.schema import Config
        from seca_jax.experience import rollout as rollouts
        from seca_jax.runtime.devices import SeedAxis
        from seca_jax.types import Carry

        env, axis = stub.make_env(Config()), SeedAxis(np.array(jax.devices()).reshape(2, 4), 2)
        carry = Carry(jnp.zeros((12, 2, 1)), jnp.full((12, 2), -1))

        def value(weight, key):
            def policy(weight, carry, obs, avail, key):
                logits = obs @ weight
                return jax.random.categorical(key, logits).astype(jnp.int32), carry, logits
            stream = rollouts.start_stream(env, carry, key, 12)
            return rollouts.collect_stream(env, policy, weight, stream, key, 5)[1].extra.sum()

        mapped = jax.jit(axis.map(jax.grad(value), (0, 0)), out_shardings=axis.sharding)
        arguments = axis.place((np.ones((2, 1, 2), np.float32), jax.random.split(jax.random.key(0), 2)))
        text = mapped.lower(*arguments).compile().as_text()
        print(re.findall(r"(s32|u32|f32)\\[1,12\\b", text), "all-reduce(" in text, "f32[1,3,2,2]" in text)
    """
    done = in_process(code)
    assert (done.returncode, done.stdout) == (0, "[] True True\n"), done.stderr


def devices(count, platform="gpu", processes=1):
    each = count // processes
    return [SimpleNamespace(platform=platform, process_index=i // each, id=i) for i in range(count)]


@pytest.mark.parametrize(
    ("there", "seeds", "num_envs", "mesh"),
    [
        (devices(1), 5, 64, (1, 1)),
        (devices(4), 8, 64, (4, 1)),
        (devices(8), 8, 64, (8, 1)),
        (devices(8), 1, 64, (1, 8)),
        (devices(8), 1, 36, (1, 6)),
        (devices(8), 3, 64, (3, 2)),
        (devices(8), 3, 63, (3, 1)),
        (devices(8, "cpu"), 1, 64, (1, 1)),
        (devices(8, "cpu"), 5, 64, (5, 1)),
    ],
)
def test_seeds_come_first_and_accelerators_left_over_share_environments(there, seeds, num_envs, mesh):
    found = arranged(there, seeds, num_envs, None)
    assert found.shape == mesh
    # What it has chosen it chooses again
    assert np.array_equal(arranged(list(found.ravel()), seeds, num_envs, None), found)


def test_a_mesh_of_ones_own_needs_that_many_devices():
    assert arranged(devices(8, "cpu"), 5, 64, (2, 3)).shape == (2, 3)
    with pytest.raises(
        ConfigError, match="mesh=2x3: 6 devices, and there are 4; give a smaller one, or mesh=auto"
    ):
        arranged(devices(4), 5, 63, (2, 3))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["mesh=4"], "mesh=4: must be auto, or SEEDSxENVS as in 4x2"),
        (["mesh=0x2"], "mesh=0x2: must be auto, or SEEDSxENVS as in 4x2"),
        (
            ["mesh=4x2", "seeds=2"],
            "mesh=4x2: 4 devices along the seeds, more than seeds=2; mesh=2x2 would do",
        ),
        (
            ["mesh=1x3"],
            "mesh=1x3: 3 devices cannot share 16 environments evenly "
            "(num_envs=64, actor.minibatches=4, critic.minibatches=4); mesh=1x2 would do",
        ),
        (
            ["mesh=1x32", "algo=qmix", "num_envs=64", "q.batch=48"],
            "mesh=1x32: 32 devices cannot share 16 environments evenly (num_envs=64, q.batch=48); "
            "mesh=1x16 would do",
        ),
    ],
)
def test_a_mesh_that_cannot_be_is_a_line(refused, words, complaint):
    assert refused("map=3m", *words) == complaint


def test_a_run_goes_on_with_another_mesh(tmp_path):
    """The start says which mesh there is; what is resumed elsewhere is the same run."""

    def train(devices, *words):
        environment = stub.with_devices(devices)
        command = [sys.executable, stub.__file__, *words, "wandb.mode=disabled"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    run = tmp_path / "run"
    words = ["map=3m", "num_envs=16", "window=5", "eval.episodes=4", "total_steps=160"]
    started = train(8, *words, "seeds=2", "mesh=2x4", f"out={run}")
    assert started.returncode == 0 and "2 seeds, 8 x cpu, mesh=2x4: " in started.stdout, started.stderr
    done = train(1, f"resume={run}", "mesh=auto", "total_steps=240")
    assert done.returncode == 0 and "2 seeds, 1 x cpu, mesh=1x1: " in done.stdout, done.stderr
    assert yaml.safe_load((run / "config.yaml").read_text())["mesh"] == "auto"
