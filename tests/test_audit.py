"""The audit's command line end to end, on untrained learners of games that last a step or five."""

import json

import jax
import numpy as np
import pytest

from seca_jax import algos, audit, envs
from seca_jax.config import compose
from seca_jax.experience import branching
from seca_jax.runtime.saving import Saver

SEEDS = 2


def save_run(directory, **words):
    """A run that has not learned anything yet."""
    config = compose.compose({"seeds": SEEDS, "seed": 4, **words})
    learner = algos.make(config, envs.make(config))
    state = jax.jit(jax.vmap(learner.init))(jax.vmap(jax.random.key)(np.arange(SEEDS)))
    directory.mkdir()
    compose.save(directory, config, {"versions": {}})
    saver = Saver(directory, 1, pytest.fail)
    assert saver.save(0, {"state": state}) and saver.close()
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    # A dueling critic that has not learned anything gives no credit at all
    words = {"map": "one_step", "algo": "seca", "critic.kind": "joint"}
    return save_run(tmp_path_factory.mktemp("audit") / "run", **words)


def audited(run, *words):
    assert audit.main([str(run), "states=30", "branches=40", *words]) == 0
    return json.loads((run / "audit.json").read_text())


def test_end_to_end(run, capsys):
    document = audited(run, "seed=5")
    out = capsys.readouterr().out
    assert "sequential ig-episode" in out and "with the TD residual" in out and "30 moments" in out
    assert document["map"] == "one_step" and document["algo"] == "seca"
    assert (document["seed"], document["step"]) == (5, 0)
    assert (document["states"], document["branches"]) == (30, 40)
    assert document["truncated"] == 0
    rows = {(row["advantage"], row["order"], row["residual"]): row for row in document["rows"]}
    names = ("ig-episode", "prob", "fixed", "random")
    kinds = [("sequential", name) for name in names] + [("coma", ""), ("marginal", ""), ("joint", "")]
    assert list(rows) == [(*kind, residual) for kind in kinds for residual in (False, True)]
    row = rows["sequential", "prob", False]
    for name in ("rms", "slope", "slope_ci", "correlation", "correlation_ci", "explained", "gradient_cosine"):
        assert row[name] is not None
    assert {(part["order"], part["place"]) for part in document["by_place"]} == {
        (name, place) for name in names for place in (1, 2, 3)
    }
    assert {part["unit"] for part in document["by_unit"]} == {"agent 0", "agent 1", "agent 2"}
    assert {(part["from"], part["to"]) for part in document["by_time"]} == {(0, 0)}
    assert (run / "audit.png").stat().st_size > 10_000
    assert not (run / "audit.parts").exists()


def test_the_truth_is_the_games(run):
    """Every agent earns a third where it does as told; the policies are close to uniform over 4 actions."""
    document = audited(run, "branches=400")
    assert document["value"]["mean"] == pytest.approx(0.25, abs=0.02)
    # Whoever does as told is worth 3/4 of its third more than expected, else 1/4 of it less
    expected = np.sqrt(0.25 * 0.75**2 + 0.75 * 0.25**2) / 3
    sizes = {(size["term"], size["order"]): size["rms"] for size in document["truth"]}
    for term in (("sequential", "fixed"), ("coma", ""), ("marginal", ""), ("shapley", "")):
        assert sizes[term] == pytest.approx(expected, rel=0.25)
    assert document["truth_rms"] == sizes["sequential", "ig-episode"]


def test_an_interrupted_audit_goes_on(run, monkeypatch, capsys):
    monkeypatch.setitem(branching.SLOTS, "cpu", 64)
    monkeypatch.setattr(branching, "ROUNDS", 4)
    whole = audited(run)
    played, real = [], branching.play_parts

    def limited(*args, start, **options):
        for number, part in enumerate(real(*args, start=start, **options), start):
            if len(played) == 3:
                raise KeyboardInterrupt
            played.append(number)
            yield part

    monkeypatch.setattr(branching, "play_parts", limited)
    assert audit.main([str(run), "states=30", "branches=40"]) == 130
    assert "the same command goes on where it was" in capsys.readouterr().err
    assert len(list((run / "audit.parts").glob("*.npz"))) == 3
    played.clear()
    played.append(-1)  # one part less than before, and it starts behind the others
    assert audit.main([str(run), "states=30", "branches=40"]) == 130
    assert played == [-1, 3, 4]
    monkeypatch.setattr(branching, "play_parts", real)
    assert audited(run) == whole


def test_parts_of_another_audit_are_not_taken(run, monkeypatch):
    whole = audited(run)

    def interrupted(*args, **options):
        yield from ()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(branching, "play_parts", interrupted)
        assert audit.main([str(run), "states=30", "branches=8"]) == 130
    (run / "audit.parts" / "00000.npz").write_bytes(b"what another audit left")
    assert audited(run) == whole


@pytest.mark.parametrize("algo", ("coma", "qmix"))
def test_learners_without_a_path_or_a_residual(tmp_path, algo):
    run = save_run(tmp_path / "run", map="delayed", algo=algo)
    document = audited(run, "plot=none")
    assert not (run / "audit.png").exists()
    assert {row["order"] for row in document["rows"]} == {"prob", "fixed", "random", ""}  # no ig-episode
    assert {row["residual"] for row in document["rows"]} == ({False, True} if algo == "coma" else {False})
    row = document["rows"][0]
    assert ("gradient_cosine" in row) == (algo == "coma")


@pytest.mark.parametrize(
    ("words", "message"),
    (
        ("orders=prob,best", "orders=best: must be ig-episode"),
        ("seed=9", "seed=9: the run has seeds 4 to 5"),
        ("seed=best", "seed=best: must be a seed of the run"),
        ("states=1", "states=1: must be at least 2"),
        ("plot=a.gif", "plot=a.gif: give a file that ends in .png"),
        ("branch=3", "unknown key branch (did you mean branches?)"),
    ),
)
def test_bad_input_is_told_in_one_line(run, capsys, words, message):
    assert audit.main([str(run), words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_one_run_is_audited_at_a_time(run, tmp_path, capsys):
    assert audit.main([str(run), str(tmp_path)]) == 2
    assert f"one run at a time, not {run} and {tmp_path}" in capsys.readouterr().err


def test_no_contributions_without_a_critic_of_the_state(tmp_path, capsys):
    run = save_run(tmp_path / "run", map="delayed", algo="qmix")
    assert audit.main([str(run), "orders=ig-10"]) == 2
    assert "orders=ig-10: contributions need" in capsys.readouterr().err


def test_help_names_every_key(capsys):
    assert audit.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("run", "states", "branches", "orders", "json", "plot"))
