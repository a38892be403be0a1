"""The host loop: what it writes, when it stops, and that resuming changes no number."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stub
import yaml

from seca_jax import runs, train
from seca_jax.config.keys import replace
from seca_jax.config.schema import Config
from seca_jax.runtime import checkpoint, loop, saving
from seca_jax.runtime import program as programs

SMALL = ["map=3m", "seeds=2", "num_envs=4", "window=5", "eval.episodes=6", "wandb.mode=disabled"]
# 20 steps an update: a line every 5 updates, evaluations every 10, checkpoints every 15
EVERY = ["log.interval=100", "eval.interval=200", "checkpoint.interval=300"]


def program(config, devices=None):
    env = stub.make_env(config)
    return programs.Program(
        config, programs.Functions(config, env, stub.make_algorithm, devices or jax.devices("cpu"))
    )


def small_config(**changes):
    config = Config()
    for name, value in {"seeds": 2, "num_envs": 4, "window": 5, **changes}.items():
        config = replace(config, name, value)
    return config


def test_metrics_have_the_documented_form(stubbed, tmp_path, metrics):
    run = tmp_path / "run"
    assert train.main([*SMALL, *EVERY, "seed=7", "total_steps=1000", f"out={run}"]) == 0
    lines = metrics(run)
    assert [line["step"] for line in lines if line["seed"] == 7] == list(range(0, 1001, 100))
    assert [line["step"] for line in lines if line["seed"] == 8] == list(range(0, 1001, 100))
    test_keys = {"test/win_rate", "test/return", "test/length"}
    train_keys = {f"train/{k}" for k in ("win_rate", "return", "length", "entropy", "critic_loss")}
    for line in lines:
        expected = {"step", "seed", "wall_s"}
        if line["step"] > 0:
            expected |= train_keys | {"perf/steps_per_s"}
        if line["step"] % 200 == 0:
            expected |= test_keys
        assert set(line) == expected
    last = lines[-1]
    assert last["test/length"] == stub.LENGTH and last["train/length"] == stub.LENGTH
    assert last["train/win_rate"] == 0.5
    assert last["train/critic_loss"] == np.mean([46, 47, 48, 49, 50])  # the updates of the last line
    assert runs.checkpoint_steps(run) == [900, 1000]


def test_stops_exactly_at_the_first_update_that_reaches_total_steps(stubbed, tmp_path, metrics):
    assert train.main([*SMALL, *EVERY, "total_steps=1030", f"out={tmp_path / 'run'}"]) == 0
    assert max(line["step"] for line in metrics(tmp_path / "run")) == 1040


@pytest.mark.parametrize("slice_s", [0.0, 60.0])
def test_whole_episodes_are_logged_at_the_first_update_past_a_multiple(
    stubbed, tmp_path, metrics, monkeypatch, slice_s
):
    """However many updates a slice may hold; the slowest seed counts."""
    monkeypatch.setattr(loop, "SLICE_S", slice_s)
    run = tmp_path / "run"
    assert train.main([*SMALL, *EVERY, "rollout=episode", "total_steps=1000", f"out={run}"]) == 0
    lines = metrics(run)
    by_seed = [[line["step"] for line in lines if line["seed"] == seed] for seed in (0, 1)]
    slowest = [min(steps) for steps in zip(*by_seed, strict=True)]
    update = small_config().num_envs * stub.LENGTH
    assert by_seed[0] != by_seed[1]  # the seeds' step counts differ
    assert slowest[0] == 0 and len(slowest) == 11
    assert all(0 <= step - 100 * i < update for i, step in enumerate(slowest))


@pytest.mark.parametrize("rollout", ["stream", "episode"])
def test_resumed_equals_uninterrupted(stubbed, tmp_path, metrics, monkeypatch, rollout):
    """Interrupted in the middle of a line, between evaluation and checkpoint, and continued."""
    words = [*SMALL, *EVERY, f"rollout={rollout}", "total_steps=2000"]
    assert train.main([*words, f"out={tmp_path / 'whole'}"]) == 0

    asked = iter([False] * 17)
    graceful = train_stopping(lambda: next(asked, True))
    with monkeypatch.context() as patch:
        patch.setattr("seca_jax.runtime.interrupt.graceful", graceful)
        patch.setattr(loop, "SLICE_S", 0.0)  # slices of one update
        assert train.main([*words, f"out={tmp_path / 'parts'}"]) == 130
    saved = runs.checkpoint_steps(tmp_path / "parts")[-1]
    assert 0 < saved < 2000
    # A run killed later may have logged past its last checkpoint
    with open(tmp_path / "parts" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9999, "seed": 0, "wall_s": 1.0, "train/entropy": 5.0}\n{"step": 99')
    assert train.main([f"resume={tmp_path / 'parts'}"]) == 0
    assert metrics(tmp_path / "parts", timing=False) == metrics(tmp_path / "whole", timing=False)

    trees = [restored(tmp_path / name, rollout) for name in ("whole", "parts")]
    jax.tree.map(np.testing.assert_array_equal, *trees)


def test_a_run_whose_lines_were_longer_goes_on(stubbed, tmp_path, metrics, monkeypatch):
    """Saved in the middle of a line that would have ended long ago by now."""
    run = tmp_path / "run"
    asked = iter([False] * 17)
    with monkeypatch.context() as patch:
        patch.setattr("seca_jax.runtime.interrupt.graceful", train_stopping(lambda: next(asked, True)))
        patch.setattr(loop, "SLICE_S", 0.0)
        words = [*SMALL, "rollout=episode", "log.interval=1000", "total_steps=1000", f"out={run}"]
        assert train.main(words) == 130
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("interval: 1000\n", "interval: 50\n"))
    assert train.main([f"resume={run}"]) == 0
    lines = [line for line in metrics(run) if line["seed"] == 0]
    assert lines[1]["perf/steps_per_s"] == 0 and lines[-1]["step"] >= 1000


def train_stopping(stop):
    import contextlib

    @contextlib.contextmanager
    def graceful(announce):
        yield stop

    return graceful


def restored(run, rollout):
    config = small_config(rollout=rollout)
    return checkpoint.to_leaves(checkpoint.restore(run, program(config).abstract)[1])


def test_a_longer_run_equals_one_that_was_long_from_the_start(stubbed, tmp_path, metrics):
    words = [*SMALL, *EVERY]
    assert train.main([*words, "total_steps=2000", f"out={tmp_path / 'long'}"]) == 0
    assert train.main([*words, "total_steps=1000", f"out={tmp_path / 'short'}"]) == 0
    assert train.main([f"resume={tmp_path / 'short'}", "total_steps=2000"]) == 0
    assert metrics(tmp_path / "short", timing=False) == metrics(tmp_path / "long", timing=False)


def test_resuming_a_finished_run_changes_nothing(stubbed, tmp_path, metrics):
    assert train.main([*SMALL, *EVERY, "total_steps=400", f"out={tmp_path / 'run'}"]) == 0
    before = metrics(tmp_path / "run")
    assert train.main([f"resume={tmp_path / 'run'}"]) == 0
    assert metrics(tmp_path / "run") == before


def test_nothing_compiles_after_the_first_chunk(stubbed, tmp_path, monkeypatch, compilations):
    by_call = []
    init = programs.Program.__init__

    def counting(self, *args):
        init(self, *args)
        chunk, calls = self.chunk, []
        by_call.append(calls)

        def counted(*args):
            before = compilations()
            result = chunk(*args)
            calls.append(compilations() - before)
            return result

        self.chunk = counted

    monkeypatch.setattr(programs.Program, "__init__", counting)
    assert train.main([*SMALL, *EVERY, "total_steps=5030", f"out={tmp_path / 'run'}"]) == 0
    assert train.main([f"resume={tmp_path / 'run'}", "total_steps=6000"]) == 0
    for calls in by_call:
        assert len(calls) > 5 and calls == [1] + [0] * (len(calls) - 1)


def test_a_learner_with_empty_arrays_is_refused():
    config = small_config()
    env = stub.make_env(config)
    learner = stub.make_algorithm(config, env)
    init = learner.init
    learner = learner._replace(init=lambda key: init(key).replace(key=(key, jnp.zeros((0,)))))
    learner = learner._replace(train_step=lambda state, step=learner.train_step: unwrapped(step, state))
    with pytest.raises(ValueError, match=r"the train state has an empty array: .key\[1\]"):
        programs.Functions(config, env, lambda *_: learner, jax.devices("cpu"))


def unwrapped(step, state):
    key, empty = state.key
    state, metrics = step(state.replace(key=key))
    return state.replace(key=(state.key, empty)), metrics


def test_stacked_seeds_equal_single_runs(stubbed, tmp_path, metrics):
    words = ["map=3m", "num_envs=4", "window=5", "eval.episodes=6", "wandb.mode=disabled", *EVERY]
    assert train.main([*words, "seeds=3", "seed=4", "total_steps=400", f"out={tmp_path / 'all'}"]) == 0
    together = metrics(tmp_path / "all", timing=False)
    for seed in (4, 5, 6):
        run = tmp_path / str(seed)
        assert train.main([*words, "seeds=1", f"seed={seed}", "total_steps=400", f"out={run}"]) == 0
        assert metrics(run, timing=False) == [line for line in together if line["seed"] == seed]


def test_non_finite_stops_with_seed_step_and_last_good_checkpoint(stubbed, tmp_path, capsys, metrics):
    run = tmp_path / "run"
    # Updates 1 to 34 are finite; the checkpoint of step 600 is the last one before
    small = [word for word in SMALL if word != "seeds=2"]
    words = [*small, *EVERY, "seeds=8", "total_steps=2000", "actor.clip=35", f"out={run}"]
    state, _ = program(small_config(seeds=8)).init()
    first = int(np.argmax(np.asarray(state.params["draw"]) > 0.5))
    assert 0 < first < 8
    assert train.main(words) == 3
    error = capsys.readouterr().err.strip()
    assert error.splitlines() == [
        f"error: non-finite loss or parameters: seed {first}, step 700; "
        f"last good checkpoint: {run / 'checkpoints' / '600'}"
    ]
    assert runs.checkpoint_steps(run)[-1] == 600
    assert max(line["step"] for line in metrics(run)) == 600


def test_config_yaml_tells_where_the_numbers_come_from(stubbed, tmp_path):
    run = tmp_path / "run"
    assert train.main([*SMALL, *EVERY, "total_steps=100", f"out={run}"]) == 0
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["critic"]["lr"] == Config().critic.lr and stored["total_steps"] == 100
    provenance = stored["provenance"]
    assert {"python", "seca_jax", "jax", "jaxlib", "flax", "optax", "jaxmarl"} <= set(provenance["versions"])
    assert provenance["versions"]["jax"] == jax.__version__
    assert provenance["processor"].endswith(f", {os.cpu_count()} cores") and len(provenance["processor"]) > 12
    assert "total_steps=100" in provenance["command"] and "cpu" in provenance["device"]
    assert Path(stored["out"]) == run


def test_a_slow_learner_is_saved_by_the_clock(stubbed, tmp_path, metrics, monkeypatch):
    """In the middle of lines too, and a run that is killed there goes on from there."""
    words = [*SMALL, "total_steps=1000", "log.interval=500", "checkpoint.keep=99"]
    assert train.main([*words, f"out={tmp_path / 'whole'}"]) == 0
    monkeypatch.setattr(loop, "SLICE_S", 0.0)
    run = tmp_path / "run"
    assert train.main([*words, "checkpoint.minutes=1e-9", f"out={run}"]) == 0
    saved = runs.checkpoint_steps(run)
    assert saved == list(range(0, 1001, 20))
    for step in saved:
        if step > 260:
            shutil.rmtree(run / "checkpoints" / str(step))
    assert train.main([f"resume={run}", "checkpoint.minutes=10"]) == 0
    assert runs.checkpoint_steps(run)[-2:] == [260, 1000]
    assert metrics(run, timing=False) == metrics(tmp_path / "whole", timing=False)


def test_no_line_is_logged_while_a_checkpoint_is_not_there_yet(stubbed, tmp_path, monkeypatch):
    """Else a kill would cost an interval and what was logged while the checkpoint was written."""
    savers, found = [], []
    init, log = saving.Saver.__init__, loop.Reporter.log

    def kept(saver, *args, **options):
        savers.append(saver)
        init(saver, *args, **options)

    def seen(reporter, seeds, steps, *args):
        found.append((int(steps.min()), savers[0]._pending, savers[0].latest))
        log(reporter, seeds, steps, *args)

    monkeypatch.setattr(saving.Saver, "__init__", kept)
    monkeypatch.setattr(loop.Reporter, "log", seen)
    assert train.main([*SMALL, *EVERY, "total_steps=1000", f"out={tmp_path / 'run'}"]) == 0
    assert found[1:] == [(step, None, (step - 1) // 300 * 300) for step in range(100, 1001, 100)]


def test_a_seed_that_has_its_steps_rests(stubbed, tmp_path, metrics):
    """Whole episodes: the others' numbers stay what they are, its own end where it has had enough."""
    words = [*SMALL, "log.interval=20", "eval.interval=100", "seeds=6", "rollout=episode"]
    assert train.main([*words, "total_steps=2000", f"out={tmp_path / 'run'}"]) == 0
    assert train.main([*words, "total_steps=3000", f"out={tmp_path / 'longer'}"]) == 0
    update, ends = small_config().num_envs * stub.LENGTH, set()
    for seed in range(6):
        lines, longer = (
            [line for line in metrics(tmp_path / name, timing=False) if line["seed"] == seed]
            for name in ("run", "longer")
        )
        last = lines[-1]["step"]
        assert 2000 <= last < 2000 + update and "test/win_rate" in lines[-1]
        ends.add(len([line for line in lines if "train/entropy" in line]))
        # A line ends when the slowest seed has got there: up to its own end a seed's are the same
        common = [line for line in lines if line["step"] < 2000]
        assert common == longer[: len(common)] and len(common) > 15
    assert len(ends) > 1  # some rested for a whole line


@pytest.mark.parametrize("rollout", ["stream", "episode"])
def test_rested_seeds_go_on_exactly_in_a_longer_run(stubbed, tmp_path, rollout):
    words = [*SMALL, *EVERY, "seeds=5", f"rollout={rollout}"]
    assert train.main([*words, "total_steps=3000", f"out={tmp_path / 'long'}"]) == 0
    assert train.main([*words, "total_steps=1000", f"out={tmp_path / 'short'}"]) == 0
    assert train.main([f"resume={tmp_path / 'short'}", "total_steps=3000"]) == 0
    config = small_config(rollout=rollout, seeds=5)
    trees = [
        checkpoint.to_leaves(checkpoint.restore(tmp_path / name, program(config).abstract)[1])
        for name in ("long", "short")
    ]
    jax.tree.map(np.testing.assert_array_equal, *trees)


def test_a_training_of_days_is_announced(stubbed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "SLICE_S", 0.0)
    words = [*SMALL, *EVERY, "total_steps=2000"]
    assert train.main([*words, f"out={tmp_path / 'quick'}"]) == 0
    assert "to go" not in capsys.readouterr().out
    clock = [0.0]

    def hour():
        clock[0] += 3600.0
        return clock[0]

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=hour))  # saving threads ask the real clock
    assert train.main([*words, f"out={tmp_path / 'slow'}"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "to go" in line]
    # 40 steps of both seeds an hour; 1,980 of each are left
    assert line.startswith("0 steps/s: about 4 days to go, until ")


def test_a_longer_run_says_which_schedules_it_moves(stubbed, tmp_path, capsys):
    run = tmp_path / "run"
    words = [*SMALL, *EVERY, "actor.entropy=0.02", "actor.entropy_final=0.001", "lr_decay=true"]
    assert train.main([*words, "total_steps=1000", f"out={run}"]) == 0
    assert train.main([f"resume={run}"]) == 0
    assert capsys.readouterr().err == ""
    assert train.main([f"resume={run}", "total_steps=2000"]) == 0
    assert capsys.readouterr().err == (
        "warning: 2,000 steps instead of 1,000 stretch what falls until the end; at step 1,000 that moves "
        "actor.entropy from 0.001 to 0.0105, actor.lr from 0 to 0.0015, critic.lr from 0 to 0.0005\n"
    )


def test_a_damaged_line_is_named_and_forgotten(stubbed, tmp_path, capsys, metrics):
    run = tmp_path / "run"
    assert train.main([*SMALL, *EVERY, "actor.entropy_final=-1", "total_steps=400", f"out={run}"]) == 0
    path = run / "metrics.jsonl"
    whole = metrics(run)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{broken\n", *lines[3:]]))
    capsys.readouterr()
    assert train.main([f"resume={run}", "total_steps=600"]) == 0
    assert capsys.readouterr().err == f"warning: {path} is damaged: line 3 is left out\n"
    assert metrics(run)[: len(whole) - 1] == [*whole[:2], *whole[3:]]
