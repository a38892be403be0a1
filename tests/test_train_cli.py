"""The command line with the real learner on a probe game, and sweeps."""

import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import stub
import yaml

from seca_jax import algos, envs, runs, train
from seca_jax.config import compose
from seca_jax.runtime import checkpoint, program

TINY = [
    "map=delayed", "num_envs=4", "window=6", "actor.hidden=8",
    "critic.target_interval=3", "actor.entropy_final=0.01", "lr_decay=true", "eval.episodes=4",
    "total_steps=480", "log.interval=48", "eval.interval=96", "checkpoint.interval=144",
    "checkpoint.keep=9", "wandb.mode=disabled", "log.progress=false",
]  # fmt: skip


def tiny_program(*words):
    config = compose.from_words([*TINY, *words])
    env = envs.make(config)
    # One of them: a command that ran before may have made two of the CPU
    return program.Program(config, program.Functions(config, env, algos.make, jax.devices("cpu")[:1]))


@pytest.fixture
def undrawn(monkeypatch):
    from seca_jax.show import curves

    monkeypatch.setattr(curves, "curves", lambda *_: None)


@pytest.fixture(scope="module")
def five():
    """Five seeds, stacked: the program, the state after 12 updates, the tally."""
    program = tiny_program("seeds=5", "seed=3")
    return program, *program.chunk(*program.init(), np.int32(12))


def test_five_stacked_seeds_equal_five_single_runs(five):
    together, state, tally = five
    assert together.evaluate(state)["won"].shape == (5, 4)
    single = tiny_program("seeds=1")
    for place, seed in enumerate(range(3, 8)):
        single.by_seed = np.array([seed], np.uint32)  # what distinguishes a run with another seed
        alone, alone_tally = single.chunk(*single.init(), np.int32(12))
        # Batched products round differently, so agreement is to float32's rounding, twelve updates on
        pairs = zip(
            jax.tree.leaves((alone.params, alone_tally.sums)), jax.tree.leaves((state.params, tally.sums))
        )
        for one, stacked in pairs:
            np.testing.assert_allclose(one[0], stacked[place], rtol=2e-3, atol=2e-5)
        assert int(alone.steps[0]) == int(state.steps[place]) == 12 * 24
        np.testing.assert_array_equal(*(jax.random.key_data(k) for k in (alone.key[0], state.key[place])))


def test_seeds_differ(five):
    _, state, _ = five
    for leaf in jax.tree.leaves(state.params):
        rows = {np.asarray(row).tobytes() for row in leaf}
        assert len(rows) == 5 or not np.any(leaf)


def test_slices_do_not_change_a_number(five, compilations):
    """Twelve updates in one call, or in calls of five, one and six, with a single program."""
    program, state, tally = five
    again = program.init()
    before = compilations()
    for n in (5, 1, 6):
        again = program.chunk(*again, np.int32(n))
    jax.tree.map(
        np.testing.assert_array_equal, checkpoint.to_leaves((state, tally)), checkpoint.to_leaves(again)
    )
    assert compilations() == before


@pytest.mark.parametrize("rollout", ["stream", pytest.param("episode", marks=pytest.mark.slow)])
def test_resumed_equals_uninterrupted(undrawn, tmp_path, metrics, rollout):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.main([*TINY, "seeds=2", f"rollout={rollout}", f"out={whole}"]) == 0
    # What a run leaves that was killed long after its first checkpoint
    shutil.copytree(whole, parts)
    first, *later = runs.checkpoint_steps(parts)
    assert later
    for step in later:
        shutil.rmtree(parts / "checkpoints" / str(step))
    assert train.main([f"resume={parts}"]) == 0
    assert metrics(parts, timing=False) == metrics(whole, timing=False)
    program = tiny_program("seeds=2", f"rollout={rollout}")
    ends = [checkpoint.restore(tmp_path / run, program.abstract) for run in ("whole", "parts")]
    assert ends[0][0] == ends[1][0]
    jax.tree.map(np.testing.assert_array_equal, *(checkpoint.to_leaves(tree) for _, tree in ends))


def test_a_sweep_runs_every_combination_in_its_own_directory(stubbed, tmp_path, metrics):
    words = ["--multirun", "map=3m,2s3z", "seed=0,5", "seeds=1", "num_envs=4", "window=5", "eval.episodes=4"]
    assert train.main([*words, "total_steps=100", "wandb.mode=disabled", f"out={tmp_path}"]) == 0
    found = {}
    for job in sorted(path for path in tmp_path.iterdir()):
        config = yaml.safe_load((job / "config.yaml").read_text())
        found[job.name] = (config["map"], config["seed"])
        assert metrics(job)[-1]["step"] == 100
    expected = {f"map={place},seed={seed}": (place, seed) for place in ("3m", "2s3z") for seed in (0, 5)}
    assert found == expected


def test_default_directories_say_map_algo_and_time(stubbed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["map=3m", "seeds=1", "num_envs=4", "window=5", "eval.episodes=4", "wandb.mode=disabled"]
    assert train.main([*words, "total_steps=100"]) == 0
    assert train.main(["--multirun", *words, "total_steps=100,200", "name=mine"]) == 0
    names = sorted(path.name for path in (tmp_path / "runs" / "3m" / "seca").iterdir())
    assert names[0].startswith("20") and names[1:] == ["mine-total_steps=100", "mine-total_steps=200"]


def test_a_failed_run_does_not_cost_the_rest_of_a_sweep(stubbed, tmp_path):
    words = ["--multirun", "map=3m", "seed=0,1,2,3", "seeds=1", "num_envs=4", "window=5", "eval.episodes=4"]
    assert (
        train.main([*words, "actor.clip=2", "total_steps=100", "wandb.mode=disabled", f"out={tmp_path}"]) == 3
    )
    ends = [runs.checkpoint_steps(path) for path in sorted(tmp_path.iterdir())]
    assert len(ends) == 4 and [0] in ends and [0, 100] in ends


SWEEP = [
    "--multirun",
    "map=3m",
    "seeds=1",
    "num_envs=4",
    "window=5",
    "eval.episodes=4",
    "wandb.mode=disabled",
]


def test_a_sweep_again_skips_what_is_done_continues_what_was_stopped_and_trains_the_rest(
    stubbed, tmp_path, capsys, metrics
):
    words = [*SWEEP, "seed=0,1,2", f"out={tmp_path / 'sweep'}"]
    whole = [*words[:-1], "total_steps=400", f"out={tmp_path / 'whole'}"]
    assert train.main(whole) == 0
    # The first is done, the second was killed before its first checkpoint, the third not begun
    assert train.main([*words, "total_steps=400"]) == 0
    place = tmp_path / "sweep"
    shutil.rmtree(place / "seed=1" / "checkpoints")
    shutil.rmtree(place / "seed=2")
    before = {path: path.read_bytes() for path in (place / "seed=0").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train.main([*words, "total_steps=400"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    states = ("done already", "continuing", "training")
    assert told == [f"[{i + 1}/3] {place / f'seed={i}'}: {state}" for i, state in enumerate(states)]
    assert before == {path: path.read_bytes() for path in before}
    for seed in range(3):
        expected = metrics(tmp_path / "whole" / f"seed={seed}", timing=False)
        assert metrics(place / f"seed={seed}", timing=False) == expected
    # ... and may be made longer as a whole
    assert train.main([*words, "total_steps=500"]) == 0
    assert {metrics(place / f"seed={seed}")[-1]["step"] for seed in range(3)} == {500}


TRACED = [*SWEEP, "seed=0,4", "gamma=0.9,0.99", "total_steps=400"]


def test_runs_side_by_side_leave_what_each_would_leave_alone(stubbed, tmp_path, capsys, metrics):
    alone, side = tmp_path / "alone", tmp_path / "side"
    assert train.main([*TRACED, f"out={alone}"]) == 0
    capsys.readouterr()
    assert train.main([*TRACED, "--together", f"out={side}"]) == 0
    told = capsys.readouterr().out
    assert "4 runs of seca on 3m side by side, 4 seeds in all" in told
    assert "seed=4,gamma=0.99:         400 steps" in told
    places = sorted(path.name for path in alone.iterdir())
    assert len(places) == 4 and places == sorted(path.name for path in side.iterdir())
    for place in places:
        assert metrics(side / place, timing=False) == metrics(alone / place, timing=False)
        assert runs.checkpoint_steps(side / place) == runs.checkpoint_steps(alone / place)
        assert (side / place / "curves.png").exists() == (alone / place / "curves.png").exists()
    # Longer: together again, or each alone
    assert train.main([*TRACED[:-1], "--together", "total_steps=500", f"out={side}"]) == 0
    for place in places:
        assert train.main([f"resume={alone / place}", "total_steps=500"]) == 0
        assert metrics(side / place, timing=False) == metrics(alone / place, timing=False)


def test_what_needs_another_program_or_is_taken_is_no_hindrance_to_the_others(stubbed, tmp_path, capsys):
    words = [*SWEEP, "seed=0,1", "window=5,10", "total_steps=100", "--together", f"out={tmp_path}"]
    words.remove("window=5")
    with runs.locked(tmp_path / "seed=0,window=5", "out"):
        assert train.main(words) == 2
    captured = capsys.readouterr()
    assert "is training there" in captured.err and captured.err.count("\n") == 1
    assert "2 runs of seca on 3m side by side" in captured.out
    assert sorted(max(runs.checkpoint_steps(path)) for path in tmp_path.iterdir()) == [100, 120, 120]


def test_a_broken_run_does_not_stop_those_beside_it(stubbed, tmp_path, metrics):
    words = [*SWEEP, "seed=0,1,2,3", "actor.clip=2", "total_steps=400"]
    assert train.main([*words, f"out={tmp_path / 'alone'}"]) == 3
    assert train.main([*words, "--together", f"out={tmp_path / 'side'}"]) == 3
    for place in (tmp_path / "alone").iterdir():
        side = tmp_path / "side" / place.name
        assert runs.checkpoint_steps(side) == runs.checkpoint_steps(place)
        assert metrics(side, timing=False) == metrics(place, timing=False)


def test_single_seeds_side_by_side_have_a_device_each(tmp_path):
    words = [*SWEEP, "seed=0,1", "total_steps=100", "--together", f"out={tmp_path}"]
    done = subprocess.run([sys.executable, stub.__file__, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 seeds in all, 2 x cpu" in done.stdout
    assert done.stdout.count("done: ") == 2


def test_together_is_for_sweeps(capsys):
    assert train.main(["--together", "map=3m"]) == 2
    expected = "error: --together: say --multirun, too, and give a key several values\n"
    assert capsys.readouterr().err == expected


def test_a_sweep_does_not_mix_with_another(stubbed, tmp_path, capsys):
    words = [*SWEEP, "seed=0,1", "total_steps=100", f"out={tmp_path}"]
    assert train.main(words) == 0
    capsys.readouterr()
    assert train.main([*words, "gamma=0.9"]) == 2
    expected = f"out={tmp_path / 'seed=0'}: holds a run with gamma=0.99, not 0.9; give another directory"
    assert capsys.readouterr().err == f"error: {expected}\n"


def test_a_sweep_leaves_out_what_another_process_trains(stubbed, tmp_path, capsys):
    words = [*SWEEP, "seed=0,1", "total_steps=100", f"out={tmp_path}"]
    with runs.locked(tmp_path / "seed=0", "out"):
        assert train.main(words) == 2
    captured = capsys.readouterr()
    assert "is training there" in captured.err and captured.err.count("\n") == 1
    assert runs.checkpoint_steps(tmp_path / "seed=1") == [0, 100]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["map=3m,2s3z", "credit.order=prob,fixed"], "map=3m,credit.order=prob"),
        (["wandb.group='a b',c/d"], "wandb.group=_a_b_"),
        (["actor.lr=1e-3,3e-3", "seed=4"], "actor.lr=1e-3"),
    ],
)
def test_what_differs_names_the_runs_of_a_sweep(tmp_path, words, expected):
    job = train.plan(["--multirun", *words, f"out={tmp_path}"])[0]
    assert job.config.out == str(tmp_path / expected)


def test_a_run_asked_for_twice_is_refused(tmp_path, capsys):
    assert train.main(["--multirun", "seed=1,1", "map=3m", f"out={tmp_path}"]) == 2
    assert "asked for twice; give a value once" in capsys.readouterr().err


def test_the_module_runs(tmp_path):
    run = tmp_path / "run"
    words = [sys.executable, "-m", "seca_jax.train", *TINY, "seeds=2", "rollout=stream", f"out={run}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.splitlines()[-1] == f"done: {run / 'curves.png'}"
