"""The report page is whole, loads nothing, escapes what it is told, and says what the run's files say."""

import json
import os
import re
import shutil
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seca_jax import report
from seca_jax.config import compose
from seca_jax.config.check import ConfigError
from seca_jax.config.schema import Config, CreditConfig, EvalConfig, QConfig
from seca_jax.show import charts, verdict
from seca_jax.show.page import compare, settings, svg
from seca_jax.show.page import run as run_page

EVIL = "</title><script>alert('1')</script> & \"quoted\""
VOID = {"meta", "img", "br", "hr", "input", "link", "source"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Checks that what is opened is closed; collects tags, what would be loaded, and the text."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.tags, self.loads, self.links, self.ids, self.text = [], [], [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "action", "background", "xlink:href"):
                self.loads.append(value)
            if name == "href":
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
            assert not name.startswith("on")

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data


def whole(html):
    """The page, having checked that it is well formed and loads nothing."""
    page = Page(html)
    assert html.startswith("<!doctype html>") and page.tags[0] == "html"
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert all(re.match(r"data:image/(png|gif);base64,", value) for value in page.loads)
    assert all(value.startswith("#") and value[1:] in page.ids for value in page.links)
    assert len(set(page.ids)) == len(page.ids)
    assert "url(" not in html and "@import" not in html and not re.search(r"https?:|file:", html)
    return page


def stored(
    path, *, lines=True, evaluated=False, pictured=False, command="python -m seca_jax.train", **changes
):
    """A run's directory as training and evaluation leave it."""
    path.mkdir(parents=True)
    config = Config(map="3s_vs_5z", seeds=2, total_steps=200, **changes)
    origin = {"versions": {"jax": "0.10.2"}, "device": "2 x cpu", "git_commit": "abc", "command": command}
    compose.save(path, config, origin)
    if lines:
        found = [
            {
                "step": step,
                "seed": seed,
                "wall_s": 60.0 + step,
                "test/win_rate": (step / 400 + 0.25) * (seed + step > 0),
                "test/return": 1.0,
                "test/length": 30.0,
                "train/critic_loss": 10.0 ** (step / 50),
                "perf/steps_per_s": 1000.0,
            }
            for step in (0, 100, 200)
            for seed in (0, 1)
        ]
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
    if evaluated:
        seeds = [
            {"seed": seed, "win_rate": wins / 128, "ci95": verdict.win_rate(wins, 128), "return": 1.5}
            for seed, wins in ((0, 96), (1, 112))
        ]
        document = {"map": "3s_vs_5z", "algo": "seca", "episodes": 128, "seeds": seeds}
        (path / "evaluation.json").write_text(json.dumps({**document, "median_win_rate": 104 / 128}))
    if pictured:
        Image.new("RGB", (1440, 700), "white").save(path / "credit_order.png")
        frames = [Image.new("RGB", (992, 684), colour) for colour in ("white", "black")]
        frames[0].save(path / "battle.gif", save_all=True, append_images=frames[1:])
    return path


def test_a_page_about_a_run(tmp_path, capsys):
    run = stored(tmp_path / "run", evaluated=True, pictured=True)
    assert report.main([f"run={run}"]) == 0
    page = whole((run / "report.html").read_text())
    assert len(page.loads) == 2 and page.tags.count("figure") == 4 + 2  # charts, pictures
    for words in ("0.81", "0.750", "0.668 to 0.817", "0.875", "128 whole greedy episodes", "total_steps"):
        assert words in page.text
    for words in ("2 x cpu", "abc", "python -m seca_jax.train", "jax0.10.2", "credit.order", "lambda of TD"):
        assert words in page.text
    assert "Unfinished" not in page.text
    assert str(run / "report.html") in capsys.readouterr().out
    assert not list(run.glob("*.tmp"))


def test_what_was_evaluated_before_the_newest_checkpoint_is_left_out(tmp_path):
    run = stored(tmp_path / "run", evaluated=True, pictured=True)
    assert run_page.read(run).evaluation and len(run_page.read(run).pictures) == 2
    later = (run / "evaluation.json").stat().st_mtime + 60
    (run / "checkpoints" / "200").mkdir(parents=True)
    os.utime(run / "checkpoints" / "200", (later, later))
    read = run_page.read(run)
    assert read.evaluation is None and not read.pictures
    assert "evaluate run=" in whole(report.page([read])).text


def test_the_step_of_an_evaluation_says_what_it_is_about(tmp_path):
    run = stored(tmp_path / "run", evaluated=True)
    path = run / "evaluation.json"
    (run / "checkpoints" / "200").mkdir(parents=True)
    for step, stamp, found in ((200, 0, True), (100, 60, False)):  # a copy's time says nothing
        path.write_text(json.dumps({**json.loads(path.read_text()), "step": step}))
        when = (run / "checkpoints" / "200").stat().st_mtime - 30 + stamp
        os.utime(path, (when, when))
        assert (run_page.read(run).evaluation is not None) is found


def test_the_drawn_battle_is_told_in_words(tmp_path):
    run = stored(tmp_path / "run", evaluated=True)
    order = [
        {"first": 0, "last": 6, "agents": ["1 stalker", "0 stalker"]},
        {"first": 7, "last": 7, "agents": ["0 stalker", "1 stalker"]},
    ]
    battle = {"seed": 1, "steps": 8, "return": 2.0, "ending": "won", "credit_order": "ig-1", "order": order}
    path = run / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "battle": battle}))
    page = whole(report.page([run_page.read(run)]))
    assert "One greedy episode of seed 1: won after 8 steps, return 2." in page.text
    assert "0 to 61 stalker > 0 stalker" in page.text and "70 stalker > 1 stalker" in page.text
    none = {**battle, "credit_order": "", "order": []}
    path.write_text(json.dumps({**json.loads(path.read_text()), "battle": none}))
    page = whole(report.page([run_page.read(run)]))
    assert "won after 8 steps" in page.text and "assessed first" not in page.text


def test_a_damaged_line_of_metrics_is_named(tmp_path):
    run = stored(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:3], lines[3][:20], *lines[4:]]) + "\n")
    page = whole(report.page([run_page.read(run)]))
    assert "metrics.jsonl is damaged: line 4 is left out" in page.text


def test_text_is_escaped(tmp_path):
    run = stored(tmp_path / "run", name=EVIL, command=EVIL)
    other = stored(tmp_path / "<b>other</b>", name=EVIL, preset=EVIL)
    runs = [run_page.read(run), run_page.read(other)]
    for html in (report.page(runs[:1], EVIL), report.page(runs, EVIL), report.page(runs)):
        page = whole(html)
        assert "b" not in page.tags[: page.tags.index("ul")]
        assert EVIL in page.text
    chart = svg.chart(EVIL, [charts.Curve(EVIL, np.arange(2), np.ones((3, 2)))] * 2)
    assert "script" not in Page(chart.svg).tags


def test_an_unevaluated_run_shows_its_last_evaluation(tmp_path):
    run = stored(tmp_path / "run", eval=EvalConfig(episodes=32))
    # Whole-episode rollouts: seeds are evaluated at steps of their own, only the start is common
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["step"] += 7 * line["seed"] * (line["step"] > 0)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = run_page.read(run)
    assert run_page.last_evaluation(read, "test/win_rate") == {0: 0.75, 1: 0.75}
    assert "last evaluation of training" in whole(report.page([read])).text


def test_old_and_unfinished_runs(tmp_path):
    run = stored(tmp_path / "run")
    text = (run / "config.yaml").read_text()
    text = re.sub(r"credit:\n(  .*\n)+", "", text).replace("total_steps: 200", "total_steps: 900")
    (run / "config.yaml").write_text(text)
    page = whole(report.page([run_page.read(run)]))
    assert "Unfinished: 200 of 900 steps" in page.text and "credit.order" not in page.text
    bare = stored(tmp_path / "bare", lines=False)
    assert "No metrics yet" in whole(report.page([run_page.read(bare)])).text


def test_runs_are_compared(tmp_path):
    runs = [stored(tmp_path / "a", evaluated=True), stored(tmp_path / "b", algo="coma", gamma=0.9)]
    assert report.main([*(f"run={run}" for run in runs), f"out={tmp_path / 'both.html'}", "title=Two"]) == 0
    page = whole((tmp_path / "both.html").read_text())
    assert page.links == ["#run-0", "#run-1"] and "Two" in page.text
    assert "gamma0.990.9" in page.text  # key, and what each has
    assert not any(run.joinpath("report.html").exists() for run in runs)
    assert "95 %" in page.text and "0.750 to 0.875" in page.text  # the median's, over two seeds
    same = [run_page.read(stored(tmp_path / name)) for name in ("c", "d")]
    assert not settings.differences(same, ["c", "d"]).rows
    assert "same configuration" in whole(report.page(same)).text


def test_names_tell_runs_apart_and_say_nothing_twice(tmp_path):
    def names(*runs):
        made = [stored(tmp_path / str(i) / place, **changes) for i, (place, changes) in enumerate(runs)]
        found = compare.labels([run_page.read(run) for run in made])
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        return found

    assert names(("seca", {}), ("coma", {"algo": "coma"})) == ["seca", "coma"]
    assert names(("seca", {}), ("x/seca", {})) == ["seca, 0", "seca, x"]
    assert names(("c", {}), ("d", {})) == ["seca, c", "seca, d"]
    order = {"credit": CreditConfig(order="prob")}
    assert names(("a", {}), ("b", order)) == ["seca, credit.order=ig-episode", "seca, credit.order=prob"]
    three = names(("a", {}), ("b", {"lam": 0.5}), ("coma", {"algo": "coma"}))
    assert three == ["seca, lam=0.95", "seca, lam=0.5", "coma"]
    unread = {"q": QConfig(lr=0.5)}  # by SeCA
    assert names(("a", {}), ("b", unread)) == ["seca, a", "seca, b"]
    far = {"gamma": 0.5, "lam": 0.5, "num_envs": 8}
    assert names(("a", {}), ("b", far)) == ["seca, a", "seca, b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run=<directory> is required"),
        (["run="], "run=: empty (an unset shell variable?); give a path"),
        (["RUN", "BROKEN"], "out=<file.html> is required"),
        (["run=/nowhere"], "no run there"),
        (["run=RUN", "tittle=x"], "did you mean title?"),
        (["run=RUN", "out=RUN/config.yaml"], "ends in .html"),
        (["run=RUN", "out=/nowhere/x.html"], "cannot be written"),
        (["run=RUN", "run=RUN/"], "given twice"),
        (["run=RUN", "run=BROKEN"], "out=<file.html> is required"),
        (["run=BROKEN"], "config.yaml is damaged"),
        (["run=NUMBERS"], "evaluation.json is damaged"),
        (["run=PICTURE"], "battle.gif is damaged"),
        (["run=METRICS"], "metrics.jsonl is damaged"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, words, message):
    places = {name: stored(tmp_path / name) for name in ("RUN", "BROKEN", "NUMBERS", "PICTURE", "METRICS")}
    (places["BROKEN"] / "config.yaml").write_text("map: [3m\nalgo")
    (places["NUMBERS"] / "evaluation.json").write_text('{"seeds": [{}]}')
    (places["PICTURE"] / "battle.gif").write_text("no picture")
    (places["METRICS"] / "metrics.jsonl").write_bytes(b"\xff\xfe")
    words = [re.sub("|".join(places), lambda found: str(places[found[0]]), word) for word in words]
    assert report.main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not list(tmp_path.rglob("*.html")) and not list(tmp_path.rglob("*.html.tmp"))


@pytest.fixture(scope="module")
def experiment():
    """experiments/report.py, under a name that leaves seca_jax's own alone."""
    import importlib.util

    place = Path(__file__).parent.parent / "experiments"
    sys.path.insert(0, str(place))
    try:
        spec = importlib.util.spec_from_file_location("experiment_report", place / "report.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(place))
    return module


def archived(archive, name, **changes):
    """A stored run of a figure."""
    place = archive.parent / "made" / archive.stem / name
    stored(place, **changes)
    sys.modules["store"].add(archive, f"MMM2/{name}", place)


def test_a_page_about_a_figure(tmp_path, experiment, capsys):
    archived(tmp_path / "figure4-small.zip", "seca")
    archived(tmp_path / "figure4-small.zip", "coma", algo="coma", gamma=0.9)
    page = whole(experiment.render("figure4", "small", tmp_path))
    assert "python experiments/run.py figure4 scale=small" in page.text
    # SeCA's run stands in two panels, and once among the runs, as the first calls it
    assert page.ids == ["run-0", "run-1"] and page.links.count("#run-0") == 2
    assert "SeCA minus the others" in page.text and "SeCACOMA0.00 (0.00 to 0.00)" in page.text
    with pytest.raises(
        ConfigError, match="figure4 scale=full: no stored runs; there are some with scale=small$"
    ):
        experiment.render("figure4", "full", tmp_path)
    assert "MMM2, SeCA\n" in page.text
    assert "Not trained yet: COMA-newArchi on MMM2" in page.text
    assert "0.75 (0.75 to 0.75)" in page.text and "gamma0.990.9" in page.text
    for words in (
        ["figure9"],
        ["figure5", "scale=paper"],
        ["figure4", "sale=full"],
        [],
        ["figure4", "out=x.md"],
    ):
        assert experiment.main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_scale_of_a_page_is_the_one_with_the_most_runs(tmp_path, experiment, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "RESULTS", tmp_path)
    assert experiment.main(["figure4"]) == 2
    assert "scale=small: no stored runs; python experiments/run.py figure4" in capsys.readouterr().err
    archived(tmp_path / "figure4-tiny.zip", "seca")
    archived(tmp_path / "figure4-tiny.zip", "coma")
    archived(tmp_path / "figure4-full.zip", "seca")
    assert experiment.main(["figure4"]) == 0
    assert "figure4-tiny.html" in capsys.readouterr().out


@pytest.mark.skipif(not CHROMIUM, reason="no chromium to look with")
@pytest.mark.parametrize("width", [390, 1366])
def test_the_page_is_no_wider_than_its_window(tmp_path, width):
    long = "python -m seca_jax.train " + "x" * 300
    runs = [
        stored(tmp_path / "a", evaluated=True, pictured=True, name="n" * 200, command=long),
        stored(tmp_path / "b", algo="coma", gamma=0.9),
    ]
    html = report.page([run_page.read(run) for run in runs]).replace("<details>", "<details open>")
    # A frame of that width: browsers do not make windows as narrow as a phone
    (tmp_path / "frame.html").write_text(
        f'<iframe id="page" style="border:0;width:{width}px;height:800px" srcdoc="{escape(html)}"></iframe>'
        "<script>page.onload = () => { const e = page.contentDocument.documentElement;"
        "const wide = [...e.querySelectorAll('*')].filter(x => x.scrollWidth > x.clientWidth + 1"
        " && ['auto', 'scroll', 'hidden'].includes(getComputedStyle(x).overflowX)).length;"
        "document.title = `${e.scrollWidth}/${e.clientWidth}/${wide}` }</script>"
    )
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    options += " --disable-background-networking --disable-component-update --virtual-time-budget=4000"
    seen = subprocess.run(
        [
            CHROMIUM,
            *options.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,900",
            "--dump-dom",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    scroll, client, wide = map(int, re.search(r"<title>(\d+)/(\d+)/(\d+)</title>", seen).groups())
    assert width - 20 <= client <= width and scroll == client
    assert wide == 0  # nor does anything on it hide a part of itself
