"""Policies that leave the package, and those that come with it, decide as the learner did."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import seca_jax
from seca_jax import algos, envs, evaluate, export, report, runs, train
from seca_jax.config import compose
from seca_jax.runtime import artefact, policies

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "policies.md"
TINY = [
    "actor.hidden=8",
    "critic.mixing=8",
    "critic.hypernet_hidden=8",
    "num_envs=4",
    "window=4",
    "q.batch=4",
]
TINY += ["actor.minibatches=1", "critic.minibatches=1", "q.episodes=8"]


def inputs(env, steps=4, battles=3):
    """[steps] pairs of random observations [B, N, O] and masks [B, N, A]."""
    draw = np.random.default_rng(1)
    for _ in range(steps):
        obs = draw.normal(size=(battles, env.num_agents, env.obs_size)).astype(np.float32)
        avail = draw.random((battles, env.num_agents, env.num_actions)) < 0.5
        avail[..., 1] |= ~avail.any(axis=-1)
        yield obs, avail


def decisions(learner, params, steps):
    """The learner's own greedy actions [steps, B, N] on a sequence of inputs."""
    carry, found, act = learner.initial_carry(len(steps[0][0])), [], jax.jit(learner.act, static_argnums=5)
    for obs, avail in steps:
        action, carry = act(params, carry, obs, avail, jax.random.key(0), True)
        found.append(np.asarray(action))
    return np.stack(found)


@pytest.fixture(scope="module")
def shipped():
    return seca_jax.load_run("pretrained:2s3z")


def test_an_exported_policy_plays_where_seca_jax_is_not(shipped, tmp_path):
    """The document's code, in a process that cannot import the package, on random observations."""
    place = seca_jax.export("pretrained:2s3z", out=tmp_path / "policy")
    steps = list(inputs(shipped.env))
    np.savez(place / "steps.npz", *[array for step in steps for array in step])
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    code = "import sys\nsys.modules['seca_jax'] = None\n" + code + (
        "found = []\nsteps = list(np.load('steps.npz').values())\n"
        "assert probabilities.shape == (3, about['agents'], about['actions'])\n"
        "carry = start(3)\n"
        "for observation, available in zip(steps[::2], steps[1::2]):\n"
        "    carry, action, probabilities = play(carry, observation, available)\n"
        "    assert np.allclose(probabilities.sum(-1), 1, atol=1e-5)\n"
        "    assert (np.asarray(probabilities)[~available] == 0).all()\n"
        "    assert (action == np.where(available, probabilities, -1).argmax(-1)).all()\n"
        "    found.append(np.asarray(action).tolist())\n"
        "json.dump(found, open('found.json', 'w'))\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('flax', 'jaxmarl')]\n"
    )  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = decisions(shipped.learner, shipped.of(0), steps)
    np.testing.assert_array_equal(json.loads((place / "found.json").read_text()), expected)

    about = json.loads((place / "policy.json").read_text())
    tensors = load_file(place / "policy.safetensors")
    assert {name: [*x.shape] for name, x in tensors.items()} == {
        name: own["shape"] for name, own in about["parameters"].items()
    }
    assert about["inputs"]["observation"]["shape"] == ["b", 5, shipped.env.obs_size]
    assert about["inputs"]["carry"]["last_action"]["start"] == -1 and about["map"] == "2s3z"
    # What was exported is read like what ships
    again = seca_jax.load_run(place)
    jax.tree.map(np.testing.assert_array_equal, again.params, shipped.params)


@pytest.mark.parametrize(
    ("algo", "words", "worth"),
    [
        ("seca", ["actor.shared=false", "actor.kind=mlp"], "probabilities"),
        ("pqn_vdn", [], "q_values"),
    ],
)
def test_the_function_decides_as_every_kind_of_learner_does(algo, words, worth):
    config = compose.from_words(["map=matrix", f"algo={algo}", *TINY, *words])
    env = envs.make(config)
    learner = algos.make(config, env)
    draw = np.random.default_rng(3)  # far from where training starts, so that actions differ
    abstract = jax.eval_shape(learner.init, jax.eval_shape(jax.random.key, 0)).params
    params = jax.tree.map(lambda x: draw.normal(size=x.shape).astype(x.dtype), abstract)
    data = artefact.lowered(artefact.play_of(config, env, learner, params), env, config.actor.hidden)
    function = jax.export.deserialize(bytearray(data))
    for battles in (1, 5):
        steps = list(inputs(env, battles=battles))
        first = learner.initial_carry(battles)
        carry, found = (first.hidden, first.last_action), []
        for obs, avail in steps:
            carry, action, told = function.call(carry, obs, avail)
            found.append(np.asarray(action))
            assert np.isfinite(told).all() and told.shape == avail.shape
        np.testing.assert_array_equal(found, decisions(learner, params, steps))
    assert worth in artefact.description(config, env, params, 0, 0)["outputs"]


def test_a_learner_with_another_network_is_refused(stubbed, tmp_path, capsys):
    words = ["map=3m", "seeds=1", "num_envs=4", "window=5", "eval.episodes=4", "wandb.mode=disabled"]
    assert train.main([*words, "total_steps=40", f"out={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert export.main([f"{tmp_path / 'run'}"]) == 2
    assert capsys.readouterr().err == (
        "error: algo=seca: its policy is no network of this package; it cannot be exported\n"
    )
    assert not (tmp_path / "run" / "export").exists()


def test_the_best_seed_is_that_of_the_last_evaluation(tmp_path):
    lines = [
        {"step": step, "seed": seed, "wall_s": 1.0, "test/win_rate": rate, "test/return": 0.0}
        for step, rates in ((10, (0.9, 0.1)), (20, (0.4, 0.6)), (30, (1.0, 0.0)))
        for seed, rate in zip((4, 5), rates)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = compose.compose({"seed": 4, "seeds": 2})
    assert export.seed_of(export.options([f"{tmp_path}"]), config, 20) == 5
    assert export.seed_of(export.options([f"{tmp_path}", "seed=4"]), config, 20) == 4


def test_what_ships_wins_its_battles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert seca_jax.evaluate("pretrained:2s3z", episodes=16)["median_win_rate"] >= 0.9
    # Nobody's files go into the package
    assert runs.output("", "pretrained:2s3z", "battle.gif") == Path("2s3z-battle.gif")
    assert runs.output("mine.gif", "pretrained:2s3z", "battle.gif") == Path("mine.gif")


def test_what_ships_is_small_and_names_nobodys_directories():
    shelf = Path(seca_jax.__file__).parent / "pretrained"
    assert sorted(path.name for path in shelf.iterdir()) == ["2s3z", "3s_vs_5z"]
    for place in shelf.iterdir():
        assert sum(path.stat().st_size for path in place.iterdir()) < 2**20
        config, origin = compose.load(place)
        assert config.map == place.name and config.seeds == 1 and origin["git_commit"]
        assert not re.search(r"[ =]/\w", (place / "config.yaml").read_text())


def test_training_starts_from_a_policy_that_ships(shipped):
    settings = {"map": "2s3z", "seeds": 2, "num_envs": 4, "window": 4, "total_steps": 16, "eval.episodes": 1}
    settings |= {"actor.minibatches": 1, "critic.minibatches": 1, "eval.interval": 10**6}
    from seca_jax.runtime import initial, session

    config = compose.compose({**settings, "init.run": "pretrained:2s3z"})
    _, _, learner = session.prepare(config)
    keys = jax.eval_shape(jax.vmap(jax.random.key), np.arange(2))
    abstract = jax.eval_shape(jax.vmap(learner.init), keys)
    fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract.replace(key=None, stream=None))
    started = initial.start(config, abstract)(fresh)
    for name, leaf in policies.leaves(started.params).items():
        own = policies.leaves(shipped.of(0)).get(name)
        assert policies.acts(name) == (own is not None)
        np.testing.assert_array_equal(leaf, 0 if own is None else np.stack([own, own]))


@pytest.mark.parametrize(
    ("command", "words", "complaint"),
    [
        (evaluate, ["pretrained:3m"], "pretrained:3m: no such policy ships with seca_jax; there are"),
        (evaluate, ["pretrained:2s3z", "order=ig-10"], "order=ig-10: pretrained:2s3z has no critic"),
        (evaluate, ["pretrained:2s3z", "step=5"], "step=5: pretrained:2s3z has its policy after"),
        (export, ["pretrained:2s3z"], "out=<directory> is required: nothing is written beside"),
        (train, ["resume=pretrained:2s3z"], "resume=pretrained:2s3z: its policy alone is there"),
        (train, ["map=2s3z", "init=pretrained:2s3z", "init.parts=critic"], "init=pretrained:2s3z: its"),
        (report, ["pretrained:2s3z"], "pretrained:2s3z: a policy that ships with the package has no curves"),
    ],
)  # fmt: skip
def test_what_a_policy_alone_cannot_do_is_told_in_a_line(
    tmp_path, monkeypatch, capsys, command, words, complaint
):
    monkeypatch.chdir(tmp_path)
    if command is train:
        words = [*words, "wandb.mode=disabled"]
    assert command.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {complaint}") and told.count("\n") == 1
    assert not list(tmp_path.iterdir())
