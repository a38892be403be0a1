"""experiments/run.py trains what is missing, leaves what is done, and refuses what would mix up a figure."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seca_jax.config import compose

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
    (out / "checkpoints" / "4096").mkdir(parents=True)
    options = {"maps": "2s3z", "runs": "seca,coma,lica", "seeds": "2", "wandb.mode": "disabled"}
    done, interrupted, new = experiment.plan("figure5", "tiny", options)
    assert [job.run.name for job in (done, interrupted, new)] == ["seca", "coma", "lica"]
    assert (done.words, done.state) == ([], "done, but with total_steps=4000000")
    assert [job.state for job in (interrupted, new)] == ["continuing", "training"]
    assert interrupted.words == [f"resume={out}", "seeds=2", "wandb.mode=disabled"]
    assert new.words[:2] == ["map=2s3z", "algo=lica"] and "total_steps=100000" in new.words
    assert new.words[-3:] == ["seeds=2", "wandb.mode=disabled", "out=runs/figure5/tiny/2s3z/lica"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "which figure?"),
        (["figure9"], "figure9: no such figure"),
        (["figure5", "more"], "more: expected key=value"),
        (["figure5", "scale=huge"], "scale=huge: unknown"),
        (["figure2", "scale=full"], "budgets of its own"),
        (["figure5", "maps=,"], "maps=: unknown"),
        (["figure5", "runs=vdn"], "runs=vdn: unknown"),
        (["figure5", "algo=qmix"], "figure5 sets algo itself"),
        (["figure4", "credit.order=prob", "runs=seca"], "figure4 sets credit.order itself"),
        (["figure5", "total_steps=50_000"], "figure5 sets total_steps itself"),
        (["baselines", "maps=2s3z", "runs=qmix"], "none of these runs on these maps"),
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
    (tmp_path / "runs/figure5/tiny/3s_vs_5z/seca/checkpoints/4096").mkdir(parents=True)
    assert experiment.main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_word_that_a_stored_learner_never_reads_is_none_of_its_business(experiment, tmp_path):
    store(tmp_path / "results/figure5/tiny/2s3z/seca", "map=2s3z", "total_steps=100_000")
    seca, qmix = experiment.plan("figure5", "tiny", {"maps": "2s3z", "runs": "seca,qmix", "q.lr": "1e-4"})
    assert seca.state == "done" and "q.lr=1e-4" in qmix.words


def test_a_save_that_was_not_completed_is_no_checkpoint(experiment, tmp_path):
    (tmp_path / "runs/figure5/small/2s3z/coma/checkpoints/4096.orbax-checkpoint-tmp").mkdir(parents=True)
    (job,) = experiment.plan("figure5", "small", {"maps": "2s3z", "runs": "coma"})
    assert job.state == "training"


def test_a_failed_run_does_not_cost_the_others_but_an_interrupt_does(experiment, monkeypatch, capsys):
    statuses = iter([137, 0, 130])
    trained = []
    monkeypatch.setattr(experiment, "train", lambda job: trained.append(job.run.name) or next(statuses))
    assert experiment.main(["figure5", "maps=2s3z"]) == 137
    assert trained == ["seca", "coma", "lica"]
    assert "[3/5, 0 min] 2s3z lica: training" in capsys.readouterr().out


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 7), (signal.SIGTERM, 7), (signal.SIGKILL, 137)])
def test_a_signal_leaves_the_command_time_to_end(tmp_path, number, status):
    """SIGINT reaches both, as from a terminal, SIGTERM this process alone, SIGKILL the command alone."""
    saver = """
import os, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: saves())
signal.signal(signal.SIGTERM, lambda *_: saves())
def saves():
    time.sleep(0.6)  # longer than subprocess.call would wait before it kills
    sys.exit(7)
print(os.getpid(), flush=True)
time.sleep(60)
"""
    caller = "import sys, run; sys.exit(run.call([sys.executable, '-c', sys.argv[1]]))"
    words = [sys.executable, "-c", caller, saver]
    pipe, here = subprocess.PIPE, str(EXPERIMENTS)
    with subprocess.Popen(words, cwd=here, stdout=pipe, text=True, start_new_session=True) as process:
        command = int(process.stdout.readline())
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid if number == signal.SIGTERM else command, number)
        assert process.wait(20) == status


def test_results_are_kept_all_at_once(experiment, tmp_path, monkeypatch, capsys):
    left = []

    def call(words):
        out = Path(words[-1].removeprefix("out="))
        assert not out.exists()  # what died before its first checkpoint is gone
        out.mkdir(parents=True)
        for name in left:
            (out / name).write_text(name)
        return 0

    monkeypatch.setattr(experiment, "call", call)
    (tmp_path / "runs/figure5/small/2s3z/coma").mkdir(parents=True)
    (job,) = experiment.plan("figure5", "small", {"maps": "2s3z", "runs": "coma"})
    assert experiment.train(job) == 4 and not job.place.exists()
    assert "results could not be kept" in capsys.readouterr().err
    left += experiment.NEEDED  # curves.png may be missing: it can be drawn again
    assert experiment.train(job) == 0
    assert {path.name for path in job.place.iterdir()} == {*experiment.NEEDED}


def test_every_figure_can_be_planned(experiment):
    for figure, scale in (("figure2", "small"), ("figure4", "paper"), ("figure5", "full"), ("maps", "small")):
        assert all(job.words for job in experiment.plan(figure, scale, {}))


def test_runs_that_share_a_place_are_the_same_run(experiment):
    import figures

    for panels in figures.FIGURES.values():
        first = figures.each_once(panels)
        for run in (run for panel in panels for run in panel.runs):
            words = ((f"map={own.map}", *own.words) for own in (run, first[run.map, run.name]))
            ours, theirs = (compose.compose(compose.parse(own)) for own in words)
            assert ours == theirs


def test_a_run_has_one_colour_wherever_it_is_shown(experiment):
    import figures

    first, *others = figures.looks(figures.FIGURES["figure4"], 21).values()
    assert all(first == other for other in others) and sorted(first.values()) == list(range(9))
    five, *_ = figures.looks(figures.FIGURES["figure5"], 10).values()
    assert all(five[name] == first[name] for name in ("seca", "coma"))
    many = figures.looks(figures.FIGURES["search"], 21)
    assert all(sorted(own.values()) == list(range(len(own))) for own in many.values())


def test_panels_of_one_map_show_the_same_metric(experiment, tmp_path):
    import draw
    import figures

    def keep(name, win_rate):
        (tmp_path / "MMM2" / name).mkdir(parents=True)
        lines = [
            {"step": step, "seed": 0, "wall_s": 1.0, "test/win_rate": win_rate * step, "test/return": step}
            for step in (0, 1)
        ]
        (tmp_path / "MMM2" / name / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))

    keep("seca", 0)
    keep("seca-fixed", 0)
    panels = figures.FIGURES["figure4"]

    def drawn():
        found = [(panel, curves) for panel in panels if (curves := draw.stored(tmp_path, panel))]
        return found, draw.as_drawn(tmp_path, found)

    found, returns = drawn()
    assert all(panel.metric == "test/return" for panel, _ in returns)
    assert [row[2:4] for row in draw.differences(returns)[1:]] == [["SeCA", "SeCA, fixed"]]
    assert [table.heading for table in draw.tables("figure4", found, returns)][:2] == [
        "greedy win rate",
        "return (median seed wins none)",
    ]
    keep("coma", 0.5)
    found, rates = drawn()
    assert all(panel.metric == "test/win_rate" for panel, _ in rates)
    assert len(draw.differences(rates)) == 3
