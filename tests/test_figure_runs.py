"""experiments/run.py trains what is missing, leaves what is done, and refuses what would mix up a figure."""

from pathlib import Path

import pytest

from seca_jax import compose
from seca_jax.config_check import ConfigError

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """experiments/run.py, with its results and runs in an empty directory."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import run

    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return run


def store(place: Path, *words: str) -> None:
    place.mkdir(parents=True)
    compose.save(place, compose.compose(compose.parse(words)), {})
    (place / "metrics.jsonl").touch()


def test_what_is_done_is_left_and_what_was_interrupted_goes_on(experiment, tmp_path):
    store(tmp_path / "results/figure5/tiny/2s3z/seca", "map=2s3z", "seeds=2")
    out = Path("runs/figure5/tiny/2s3z/coma")
    store(out, "map=2s3z", "algo=coma", "seeds=2")
    (out / "checkpoints").mkdir()
    options = {"maps": "2s3z", "runs": "seca,coma,lica", "seeds": "2", "wandb.mode": "disabled"}
    done, interrupted, new = experiment.plan("figure5", "tiny", options)
    assert [job.run.name for job in (done, interrupted, new)] == ["seca", "coma", "lica"]
    assert done.words == []
    assert interrupted.words == [f"resume={out}", "seeds=2", "wandb.mode=disabled"]
    assert new.words[:2] == ["map=2s3z", "algo=lica"] and "total_steps=100000" in new.words
    assert new.words[-3:] == ["seeds=2", "wandb.mode=disabled", "out=runs/figure5/tiny/2s3z/lica"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "which figure?"),
        (["figure9"], "figure=figure9: unknown"),
        (["figure5", "more"], "more: expected key=value"),
        (["figure5", "scale=huge"], "scale=huge: unknown"),
        (["figure2", "scale=full"], "budgets of its own"),
        (["figure5", "maps=,"], "maps=: unknown"),
        (["figure5", "runs=vdn"], "runs=vdn: unknown"),
        (["figure5", "algo=qmix"], "figure5 sets algo itself"),
        (["figure4", "credit.order=prob"], "figure4 sets credit.order itself"),
        (["figure5", "sedes=3"], "did you mean seeds?"),
        (["figure5", "lam=2"], "must lie between"),
        (["figure5", "scale=tiny", "seeds=3"], "was trained with seeds=2"),
        (["figure5", "scale=tiny", "maps=3s_vs_5z", "seeds=3"], "has seeds=2"),
    ],
)
def test_bad_input_is_one_line_and_trains_nothing(experiment, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setattr(experiment, "train", lambda job: pytest.fail("trained"))
    store(tmp_path / "results/figure5/tiny/2s3z/seca", "map=2s3z", "seeds=2")
    store(tmp_path / "runs/figure5/tiny/3s_vs_5z/seca", "map=3s_vs_5z", "seeds=2")
    (tmp_path / "runs/figure5/tiny/3s_vs_5z/seca/checkpoints").mkdir()
    assert experiment.main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_failed_run_does_not_cost_the_others_but_an_interrupt_does(experiment, monkeypatch, capsys):
    statuses = iter([3, 0, 130])
    trained = []
    monkeypatch.setattr(experiment, "train", lambda job: trained.append(job.run.name) or next(statuses))
    assert experiment.main(["figure5", "maps=2s3z"]) == 130
    assert trained == ["seca", "coma", "lica"]
    assert "[3/5, 0 min] 2s3z lica: training" in capsys.readouterr().out


def test_results_are_kept_once_a_run_is_done(experiment, tmp_path, monkeypatch):
    def command(words):
        out = Path(words[-1].removeprefix("out="))
        assert not out.exists()  # what died before its first checkpoint is gone
        out.mkdir(parents=True)
        for name in experiment.KEPT:
            (out / name).write_text(name)
        return 0

    monkeypatch.setattr(experiment.subprocess, "call", command)
    (tmp_path / "runs/figure5/small/2s3z/coma").mkdir(parents=True)
    (job,) = experiment.plan("figure5", "small", {"maps": "2s3z", "runs": "coma"})
    assert experiment.train(job) == 0
    assert {path.name for path in (tmp_path / "results/figure5/small/2s3z/coma").iterdir()} == {
        *experiment.KEPT
    }


def test_every_figure_can_be_planned(experiment):
    with pytest.raises(ConfigError):
        experiment.plan("figure4", "tiny", {"maps": "MMM2", "runs": ""})
    for figure, scale in (("figure2", "small"), ("figure4", "paper"), ("figure5", "full"), ("maps", "small")):
        assert all(job.words for job in experiment.plan(figure, scale, {}))
