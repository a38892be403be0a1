"""experiments/run.py trains what is missing, leaves what is done, and refuses what would mix up a figure."""

import json
import os
import signal
import subprocess
import sys
import zipfile
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


def trained(place: Path, *words: str) -> None:
    """A run's directory."""
    place.mkdir(parents=True)
    compose.save(place, compose.from_words(words), {})
    (place / "metrics.jsonl").touch()


def stored(archive: Path, name: str, *words: str) -> None:
    """A run in a figure's archive."""
    import store

    place = archive.parent / "made" / name
    trained(place, *words)
    store.add(archive, name, place)


def test_what_is_done_is_left_and_what_was_interrupted_goes_on(experiment, tmp_path):
    stored(tmp_path / "results/figure5-tiny.zip", "2s3z/seca", "map=2s3z", "seeds=2")
    out = Path("runs/figure5/tiny/2s3z/coma")
    trained(out, "map=2s3z", "algo=coma", "seeds=2")
    (out / "checkpoints" / "4096").mkdir(parents=True)
    options = {"maps": "2s3z", "runs": "seca,coma,lica", "seeds": "2", "wandb.mode": "disabled"}
    done, interrupted, new = experiment.plan("figure5", "tiny", options)
    assert [job.run.name for job in (done, interrupted, new)] == ["seca", "coma", "lica"]
    assert done.words == []
    assert done.state == (
        "done, but with total_steps=4000000 (now 100000), eval.interval=100000 (now 10000), "
        "log.interval=20000 (now 10000)"
    )
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
    stored(tmp_path / "results/figure5-tiny.zip", "2s3z/seca", "map=2s3z", "seeds=2")
    trained(tmp_path / "runs/figure5/tiny/3s_vs_5z/seca", "map=3s_vs_5z", "seeds=2")
    (tmp_path / "runs/figure5/tiny/3s_vs_5z/seca/checkpoints/4096").mkdir(parents=True)
    assert experiment.main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_word_that_a_stored_learner_never_reads_is_none_of_its_business(experiment, tmp_path):
    words = ("map=2s3z", "total_steps=100_000", "eval.interval=10_000", "log.interval=10_000", "q.lr=1e-3")
    stored(tmp_path / "results/figure5-tiny.zip", "2s3z/seca", *words)
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
    assert "[3/8, 0 min] 2s3z lica: training" in capsys.readouterr().out


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
        out.mkdir(parents=True, exist_ok=True)
        for name in left:
            (out / name).write_text(name)
        return 0

    monkeypatch.setattr(experiment, "call", call)
    (job,) = experiment.plan("figure5", "small", {"maps": "2s3z", "runs": "coma"})
    assert experiment.train(job) == 4 and not job.archive.exists()
    assert "results could not be kept" in capsys.readouterr().err
    left += ("config.yaml", "metrics.jsonl")
    assert experiment.train(job) == 0
    with zipfile.ZipFile(job.archive) as archive:
        assert sorted(archive.namelist()) == ["2s3z/coma/config.yaml", "2s3z/coma/metrics.jsonl"]


def test_an_archive_holds_the_last_of_each_run(experiment, tmp_path):
    import store

    archive = tmp_path / "figure5-tiny.zip"
    for name, text in (("3m/a", "old"), ("3m/ab", "other"), ("3m/a", "new")):
        place = tmp_path / "run" / text
        trained(place, "map=3m")
        (place / "metrics.jsonl").write_text(text)
        (place / "curves.png").touch()  # not kept: it can be drawn again
        store.add(archive, name, place)
    (tmp_path / "figure5-tiny" / "3m" / "ab").mkdir(parents=True)
    (tmp_path / "figure5-tiny" / "3m" / "ab" / "battle.gif").touch()
    with store.opened(tmp_path, "figure5", "tiny") as place:
        files = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
        texts = {path.parent.name: path.read_text() for path in place.rglob("metrics.jsonl")}
        config, _ = compose.load(place / "3m" / "a")
    kept = {f"3m/{name}/{file}" for name in ("a", "ab") for file in ("config.yaml", "metrics.jsonl")}
    assert files == kept | {"3m/ab/battle.gif"} and config.map == "3m"
    assert texts == {"a": "new", "ab": "other"} and not place.exists()
    before = archive.read_bytes()
    store.add(archive, "3m/a", tmp_path / "run" / "new")
    assert archive.read_bytes() == before  # the same runs, the same archive
    with pytest.raises(FileNotFoundError):
        store.add(archive, "3m/a", tmp_path / "nothing")
    assert archive.read_bytes() == before and not list(tmp_path.glob("*.tmp"))
    store.remove(archive, ["3m/a"])
    with store.opened(tmp_path, "figure5", "tiny") as place:
        assert not store.done(place / "3m/a") and store.done(place / "3m/ab")


def test_many_processes_store_their_runs_in_one_archive(experiment, tmp_path):
    trained(tmp_path / "run", "map=3m")
    code = "import pathlib, store, sys; store.add(pathlib.Path('all.zip'), sys.argv[1], pathlib.Path('run'))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(EXPERIMENTS), os.environ["PYTHONPATH"]])}
    started = [
        subprocess.Popen([sys.executable, "-c", code, f"3m/{i}"], cwd=tmp_path, env=environment)
        for i in range(6)
    ]
    assert [process.wait(60) for process in started] == [0] * 6
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(archive.namelist()) == 12 and archive.testzip() is None


def test_runs_can_be_removed_to_be_trained_anew(experiment, tmp_path, capsys):
    archive = tmp_path / "results/figure5-tiny.zip"
    stored(archive, "2s3z/lica", "map=2s3z", "algo=lica")
    stored(archive, "2s3z/seca", "map=2s3z")
    trained(Path("runs/figure5/tiny/2s3z/lica"), "map=2s3z", "algo=lica")
    words = ["figure5", "scale=tiny", "maps=2s3z", "runs=lica"]
    assert experiment.main([*words, "remove=yes"]) == 2
    assert experiment.main([*words, "remove=true", "seeds=3"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert experiment.main([*words, "remove=true"]) == 0
    assert capsys.readouterr().out == "removed: 2s3z lica\n"
    seca, lica = experiment.plan("figure5", "tiny", {"maps": "2s3z", "runs": "seca,lica"})
    assert seca.state.startswith("done") and lica.state == "training"
    assert experiment.main([*words, "remove=true"]) == 0 and not capsys.readouterr().out


def test_a_damaged_archive_is_one_line(experiment, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "figure5-tiny.zip").write_text("not a zip")
    assert experiment.main(["figure5", "scale=tiny"]) == 2
    error = capsys.readouterr().err
    assert "figure5-tiny.zip is damaged" in error and error.count("\n") == 1


def test_a_run_that_is_configured_otherwise_today_is_drawn_and_named(
    experiment, tmp_path, monkeypatch, capsys
):
    import draw

    monkeypatch.setattr(draw, "RESULTS", tmp_path)
    monkeypatch.setattr(draw, "SCALES", ("tiny",))
    usual = ("map=MMM2", "total_steps=100_000", "eval.interval=10_000", "log.interval=10_000")
    for name, words in (
        ("seca", (*usual, "seed=7", "wandb.mode=disabled")),
        ("seca-fixed", (*usual, "credit.order=fixed", "actor.lr=1e-4", "q.lr=1e-4", "gamma=0.9")),
    ):
        place = tmp_path / "runs" / name
        trained(place, *words)
        lines = [
            {"step": step, "seed": 0, "wall_s": 1.0, "test/win_rate": 0.5, "test/return": 1, "test/length": 9}
            for step in (0, 1)
        ]
        (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        draw.store.add(tmp_path / "figure4-tiny.zip", f"MMM2/{name}", place)
    assert draw.main([]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "figure4-tiny: MMM2 seca was trained with seed=7 (now 0)",
        "figure4-tiny: MMM2 seca-fixed was trained with gamma=0.9 (now 0.99), actor.lr=0.0001 (now 0.003)",
    ]
    assert said.out.splitlines() == [str(tmp_path / "figure4-tiny.png")]
    table = (tmp_path / "figure4-tiny.md").read_text()
    assert "| MMM2 | seca-fixed | gamma=0.9 (now 0.99), actor.lr=0.0001 (now 0.003) |" in table
    config = tmp_path / "runs" / "seca" / "config.yaml"
    config.write_text(config.read_text().replace("algo: seca", "algo: gone"))
    draw.store.add(tmp_path / "figure4-tiny.zip", "MMM2/seca", config.parent)
    assert draw.main([]) == 0
    assert (
        "MMM2 seca was trained with a configuration that is not understood today" in capsys.readouterr().err
    )


def test_runs_that_differ_alike_are_one_line(experiment):
    import draw

    rows = [["3m", name, "seed=7 (now 0)"] for name in "abcdefg"]
    assert draw.lines_of([*rows[:2], ["2s3z", "a", "gamma=0.9 (now 0.99)"]]) == [
        "3m a, 3m b were trained with seed=7 (now 0)",
        "2s3z a was trained with gamma=0.9 (now 0.99)",
    ]
    assert draw.lines_of(rows) == ["3m a, 3m b, 3m c, 4 more were trained with seed=7 (now 0)"]


def test_every_figure_can_be_planned(experiment):
    for figure, scale in (("figure2", "small"), ("figure4", "paper"), ("figure5", "full"), ("maps", "small")):
        assert all(job.words for job in experiment.plan(figure, scale, {}))


def test_slow_learners_have_a_budget_of_their_own_at_small_scale_alone(experiment):
    import budgets
    import figures

    assert any(budgets.SMALL_SLOW_ON.values())
    for panel in figures.FIGURES["figure5"]:
        for run in panel.runs:
            slow = run.name in budgets.SMALL_SLOW_ON.get(run.map, ())
            assert ("total_steps=300_000" in budgets.command(run, "small")) == slow
            assert "total_steps=10000000" in budgets.command(run, "full")
    for run in figures.each_once(figures.FIGURES["figure4"]).values():
        assert {"seeds=10", "total_steps=300_000"} <= set(budgets.command(run, "small"))
        assert "seeds=10" not in budgets.command(run, "tiny")


def test_learners_are_called_slow_where_they_were_measured_so(experiment):
    import budgets

    document = json.loads((EXPERIMENTS / "results/benchmark/figure5.json").read_text())
    rates = {(row["map"], row["algo"]): row["steps_per_s"] for row in document["rows"]}
    assert rates
    for (map_name, algo), rate in rates.items():
        assert (algo in budgets.SMALL_SLOW_ON.get(map_name, ())) == (rate < budgets.SMALL_SLOW), (
            map_name,
            algo,
        )


def test_runs_that_share_a_place_are_the_same_run(experiment):
    import figures

    for panels in figures.FIGURES.values():
        first = figures.each_once(panels)
        for run in (run for panel in panels for run in panel.runs):
            words = ((f"map={own.map}", *own.words) for own in (run, first[run.map, run.name]))
            ours, theirs = (compose.from_words(own) for own in words)
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
