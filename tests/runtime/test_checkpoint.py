"""Checkpoints: exact, atomic, and a full disk is reported instead of raised."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stub

from seca_jax import runs, train
from seca_jax.config import compose
from seca_jax.config.check import ConfigError
from seca_jax.runtime import checkpoint, saving
from seca_jax.runtime.program import Functions, Program

SMALL = ["map=3m", "seeds=2", "num_envs=4", "window=5", "eval.episodes=4", "wandb.mode=disabled"]
EVERY = ["log.interval=100", "eval.interval=400", "checkpoint.interval=200", "total_steps=400"]


def tree():
    return {
        "params": [jnp.arange(6.0).reshape(2, 3), jnp.asarray([1, 2], jnp.int32)],
        "key": jax.vmap(jax.random.key)(jnp.arange(2)),
        "empty": jnp.zeros((2, 0)),
        "flag": jnp.asarray([True, False]),
    }


def abstract(of):
    return jax.eval_shape(lambda: of)


def equal(a, b):
    raw = [jax.tree.map(lambda x: x, checkpoint.to_leaves(t)) for t in (a, b)]
    assert raw[0].keys() == raw[1].keys()
    for name in raw[0]:
        assert raw[0][name].dtype == raw[1][name].dtype
        np.testing.assert_array_equal(raw[0][name], raw[1][name])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, to be copied."""
    path = tmp_path_factory.mktemp("finished") / "run"
    words = [sys.executable, stub.__file__, *SMALL, *EVERY, f"out={path}"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    return path


@pytest.fixture
def run(stubbed, finished, tmp_path):
    """A finished run in a place of its own."""
    return shutil.copytree(finished, tmp_path / "run")


def test_round_trip_is_exact(tmp_path):
    saver = saving.Saver(tmp_path, 2, pytest.fail)
    assert saver.save(10, tree()) and saver.close()
    step, back = checkpoint.restore(tmp_path, abstract(tree()))
    assert step == 10 and saver.latest == 10
    equal(back, tree())
    assert back["empty"].shape == (2, 0)
    draws = [jax.random.uniform(key) for key in back["key"]]
    assert draws == [jax.random.uniform(jax.random.key(seed)) for seed in (0, 1)]


def test_the_newest_are_kept(tmp_path):
    saver = saving.Saver(tmp_path, 2, pytest.fail)
    for step in (10, 20, 30, 40):
        saver.save(step, tree())
    saver.close()
    assert runs.checkpoint_steps(tmp_path) == [30, 40]


def test_donated_buffers_may_be_overwritten_during_the_save(tmp_path):
    """What is saved is the state at the call, though training goes on in the very same memory."""
    advance = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    saver = saving.Saver(tmp_path, 1, pytest.fail)
    x = jnp.zeros((2, 1_000_000))
    saver.save(1, {"x": x})
    for _ in range(20):
        x = advance(x)
    saver.close()
    _, back = checkpoint.restore(tmp_path, {"x": jax.ShapeDtypeStruct((2, 1_000_000), jnp.float32)})
    assert not np.any(back["x"])


KILLED = """
    import os, signal, sys, threading
    import numpy as np
    from orbax.checkpoint._src.path import atomicity
    from seca_jax.runtime import saving

    saver = saving.Saver(sys.argv[1], 2, sys.exit)
    saver.save(1, {"x": np.full(1000, 1.0)})
    saver.wait()
    # The process dies when all of the second checkpoint is written but for its final rename
    os.rename = os.replace = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    saver.save(2, {"x": np.full(1000, 2.0)})
    saver.wait()
"""


def test_kill_in_the_middle_of_a_save_leaves_the_previous_one(tmp_path):
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], timeout=60)
    assert killed.returncode == -9
    drafts = [name for name in os.listdir(tmp_path / "checkpoints") if "tmp" in name]
    assert drafts, "the second save had not begun"
    assert runs.checkpoint_steps(tmp_path) == [1]
    wanted = {"x": jax.ShapeDtypeStruct((1000,), jnp.float64)}
    with jax.enable_x64(True):
        step, back = checkpoint.restore(tmp_path, wanted)
    assert step == 1 and np.all(back["x"] == 1.0)
    # and the next run of the saver clears the rest away
    saver = saving.Saver(tmp_path, 2, pytest.fail)
    saver.save(3, {"x": np.zeros(3)})
    saver.close()
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["1", "3"]


FULL_DISK = """
    import resource, sys
    sys.argv[1:], (here,) = sys.argv[2:], sys.argv[1:2]
    sys.path.insert(0, here)
    import stub
    from seca_jax import algos, envs, train
    from seca_jax.runtime import saving

    envs.make, algos.make = stub.make_env, stub.make_algorithm
    save, room = saving.Saver.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self, step, tree):
        # From step 400 on, and for as long as the environment says, no file may pass 100 bytes
        full = 400 <= step < int(sys.argv.pop() if len(sys.argv) > 99 else {until})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 if full else room[0], room[1]))
        try:
            return save(self, step, tree) and self.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, room)

    saving.Saver.save = limited
    sys.exit(train.main())
"""


@pytest.mark.parametrize(("until", "status", "kept"), [(10_000, 4, [200]), (600, 0, [600, 800])])
def test_a_full_disk_is_reported_and_training_goes_on(tmp_path, metrics, until, status, kept):
    """Writes fail as on a full disk, until the end or until there is room again."""
    run = tmp_path / "run"
    script = textwrap.dedent(FULL_DISK.replace("{until}", str(until)))
    words = [*SMALL, *EVERY, "total_steps=800", f"out={run}"]
    here = os.path.dirname(stub.__file__)
    done = subprocess.run(
        [sys.executable, "-c", script, here, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stderr
    # tensorstore's threads print more, into our lines too: their event loop is gone when one has failed
    assert done.stderr.count("warning: checkpoint ") == (3 if until > 800 else 1)
    kept_path = run / "checkpoints" / "200"
    assert f"checkpoint 400 could not be written (File too large); kept: {kept_path}\n" in done.stderr
    assert [step for step in runs.checkpoint_steps(run) if step in kept] == kept
    assert not [name for name in os.listdir(run / "checkpoints") if "tmp" in name]
    assert max(line["step"] for line in metrics(run)) == 800


def test_a_save_that_cannot_fit_is_not_begun(tmp_path, monkeypatch):
    reports = []
    saver = saving.Saver(tmp_path, 2, reports.append)
    saver.save(1, tree())
    saver.wait()
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        assert not saver.save(2, tree())
    kept = tmp_path / "checkpoints" / "1"
    assert reports == [f"checkpoint 2 could not be written (No space left on device); kept: {kept}"]
    assert saver.save(3, tree()) and saver.close()
    assert runs.checkpoint_steps(tmp_path) == [1, 3]


def test_load_run_gives_the_parameters_of_every_seed(run):
    config, step, params = checkpoint.load_run(run)
    assert (config.seeds, step) == (2, 400)
    env = stub.make_env(config)
    program = Program(config, Functions(config, env, stub.make_algorithm, jax.devices("cpu")))
    state, tally = program.init()
    state, _ = program.chunk(state, tally, np.int32(20))
    jax.tree.map(np.testing.assert_array_equal, params, state.params)


def complaint(capsys, *words):
    assert train.main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").rstrip()


def files(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_resume_refuses_what_is_not_a_run(stubbed, tmp_path, capsys):
    expected = "no run there (config.yaml is missing); give a run directory"
    assert complaint(capsys, f"resume={tmp_path / 'none'}") == f"{tmp_path / 'none'}: {expected}"
    assert complaint(capsys, f"resume={tmp_path}") == f"{tmp_path}: {expected}"


def test_resume_refuses_another_map_algo_or_config(run, capsys):
    before = files(run)
    for word, stored in [("map=2s3z", "3m"), ("preset=paper", "default"), ("num_envs=8", 4), ("seeds=3", 2)]:
        name = word.partition("=")[0]
        expected = (
            f"{word}: the run in {run} has {name}={stored}; "
            f"leave the key out, or train anew from it with init={run}"
        )
        assert complaint(capsys, f"resume={run}", word) == expected
    expected = "total_steps=300: a resumed run can only be made longer than 400"
    assert complaint(capsys, f"resume={run}", "total_steps=300") == expected
    assert "stays in its directory" in complaint(capsys, f"resume={run}", "out=elsewhere")
    assert files(run) == before


def test_resume_accepts_what_is_the_same_or_only_watched(run):
    words = [f"resume={run}", "map=3m", "num_envs=4", "checkpoint.keep=1", "log.progress=false", f"out={run}"]
    assert train.main([*words, "total_steps=500"]) == 0
    assert runs.checkpoint_steps(run)[-1] == 500


@pytest.mark.parametrize("text", ["", "map: [", "map: 3m\n", "- 1\n", "\x00"])
def test_resume_refuses_a_damaged_config(run, capsys, text):
    (run / "config.yaml").write_text(text)
    before = files(run)
    assert complaint(capsys, f"resume={run}").startswith(f"{run / 'config.yaml'} is damaged")
    assert files(run) == before


def test_a_run_from_before_a_key_existed_still_loads(run):
    path = run / "config.yaml"
    before, _ = compose.load(run)
    path.write_text(re.sub(r"(?m)^  mixing: .*\n", "", path.read_text()))
    assert "mixing" not in path.read_text() and compose.load(run)[0] == before


def test_a_run_without_checkpoint_starts_from_step_0(run, finished, capsys, metrics):
    """Killed before its first one, with or without the line of step 0."""
    for kept in (1, 0):
        shutil.rmtree(run / "checkpoints")
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(lines[:kept]))
        assert train.main([f"resume={run}"]) == 0
        assert capsys.readouterr().err == f"warning: {run} has no checkpoint yet: starting from step 0\n"
        assert metrics(run, timing=False) == metrics(finished, timing=False)


def truncate(checkpoint):
    for path in files(checkpoint):
        if path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:10])


def flip(checkpoint):
    """One bit in the middle of every file with numbers."""
    for path, content in files(checkpoint).items():
        if path.parent.name == "d":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def lose(checkpoint):
    next(path for path in sorted(files(checkpoint)) if path.parent.name == "d").unlink()


def lose_all(checkpoint):
    for path in files(checkpoint):
        path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, lose, lose_all])
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(finished, tmp_path, metrics, damage):
    run = shutil.copytree(finished, tmp_path / "run")
    newest = run / "checkpoints" / "400"
    damage(newest)
    words = [sys.executable, stub.__file__, f"resume={run}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"warning: checkpoint {newest} is damaged (")
    assert done.stderr.endswith("); falling back to the one before it\n") and done.stderr.count("\n") == 1
    assert metrics(run, timing=False) == metrics(finished, timing=False)
    assert runs.checkpoint_steps(run) == [200, 400]
    assert (run / "checkpoints" / "400.damaged").is_dir()
    again = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and again.stderr == ""


def test_resume_refuses_a_run_all_of_whose_checkpoints_are_damaged(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    for step in (200, 400):
        truncate(run / "checkpoints" / str(step))
    before = files(run)
    words = [sys.executable, stub.__file__, f"resume={run}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 2, done.stderr
    warning, error = done.stderr.splitlines()
    assert warning.startswith(f"warning: checkpoint {run / 'checkpoints' / '400'} is damaged")
    assert error.startswith(f"error: checkpoint {run / 'checkpoints' / '200'} is damaged")
    assert error.endswith(f"; delete {run / 'checkpoints'} to start from step 0")
    assert files(run) == before


def test_resume_refuses_a_checkpoint_of_another_shape(run, capsys):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("seeds: 2\n", "seeds: 3\n"))
    before = files(run)
    assert "the checkpoint does not fit this config" in complaint(capsys, f"resume={run}")
    assert files(run) == before


def test_from_leaves_names_what_is_missing():
    leaves = checkpoint.to_leaves(tree())
    del leaves["flag"]
    with pytest.raises(ConfigError, match="flag is nothing, not bool"):
        checkpoint.from_leaves(leaves, abstract(tree()))
