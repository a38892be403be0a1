"""docs/extending.md, done as it says: the files, the metadata, every command."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "extending.md"
# What is trained is as small as can be; the words of the document come first, so that these win
TRAIN = [
    "seeds=2", "num_envs=4", "window=6", "actor.hidden=8", "critic.mixing=8", "critic.hypernet_hidden=8",
    "actor.epochs=1", "actor.minibatches=1", "critic.minibatches=1", "q.batch=4", "q.episodes=8",
    "q.updates=1",
    "eval.episodes=2", "total_steps=96", "log.interval=48", "eval.interval=96", "wandb.mode=disabled",
    "log.progress=false",
]  # fmt: skip
EXTRA = {
    "train": TRAIN,
    "evaluate": ["episodes=4", "gif=none", "plot=none"],
    "audit": ["states=4", "branches=4", "plot=none"],
    "report": [],
}
DRIVER = """
import importlib, json, sys
for command, *words in json.loads(sys.argv[1]):
    print("$", command, *words, flush=True)
    status = importlib.import_module(f"seca_jax.{command}").main(words)
    if status:
        sys.exit(f"{command} {words} ended with {status}")
exec(sys.argv[2])
"""
NOTEBOOK = """
from seca_jax.config import compose
from seca_jax.config.words import given
configs = [{"map": "duel_here", "credit.order": "boldest_here"}, {"map": maps.DUEL._replace(name="other")}]
print(result.status, result.params.actor.keys(), [compose.compose(given(own)).map for own in configs])
"""


def blocks(kind):
    """The document's code blocks of a kind, by what their first line names."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return {text.partition("\n")[0].removeprefix("# "): text for own, text in found if own == kind}


def commands():
    """[command, words...] of the document's command lines."""
    (lines,) = blocks("bash").values()
    return [line.removeprefix("python -m seca_jax.").split() for line in lines.splitlines()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A directory with the document's package, installed as pip would: its files and its metadata."""
    place = tmp_path_factory.mktemp("own")
    for name, text in [*blocks("python").items(), *blocks("yaml").items()]:
        if name.endswith((".py", ".yaml")):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)
    (place / "my_marl" / "__init__.py").touch()
    project = tomllib.loads(blocks("toml")["pyproject.toml"])["project"]
    info = place / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return place


def run(place, *words, package=True):
    """A Python process in ``place``, which sees the package there or does not."""
    path = os.environ["PYTHONPATH"].split(os.pathsep)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *path] if package else path)}
    words = [sys.executable, *(["-P"] if not package else []), *words]
    return subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=500)


def perform(place, chosen, notebook=""):
    """The ``chosen`` commands of the document, in one process, then a notebook; what it printed."""
    given = []
    for command, *words in chosen:
        small = [] if any(word.startswith("resume=") for word in words) else EXTRA[command]
        words = ["total_steps=192" if "total_steps" in word else word for word in words]
        given.append([command, *words, *small])
    done = run(place, "-c", DRIVER, json.dumps(given), notebook)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "cannot be loaded" not in done.stderr
    return done.stdout.splitlines()


def quick(command):
    """Whether a command compiles little: the others wait for the slow tests."""
    return "audit" not in command and any("meeting" in word for word in command)


@pytest.fixture(scope="module")
def met(installed):
    """The run of the document's environment and learner: trained, evaluated, resumed, reported."""
    perform(installed, [command for command in commands() if quick(command)])
    return installed / "runs" / "meeting"


def test_the_document_trains_evaluates_resumes_and_reports(met):
    lines = [json.loads(line) for line in (met / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {0, 48, 96, 144, 192}
    assert json.loads((met / "evaluation.json").read_text())["map"] == "meeting"
    versions = yaml.safe_load((met / "config.yaml").read_text())["provenance"]["versions"]
    assert versions["my_marl"] == "0.1"
    assert "surprise" in (met / "report.html").read_text()


def test_what_is_not_installed_is_named(installed, met):
    for words in (["seca_jax.evaluate", "run=runs/meeting"], ["seca_jax.train", "resume=runs/meeting"]):
        refused = run(installed, "-m", *words, package=False)
        assert refused.returncode == 2
        expected = "map=meeting: not installed here; install the package that registers it"
        assert refused.stderr == f"error: runs/meeting/config.yaml: {expected}\n"
    assert run(installed, "-m", "seca_jax.report", "runs/meeting", package=False).returncode == 0


@pytest.mark.slow
def test_the_document_does_all_the_rest(installed, met):
    small = ", ".join(f'"{name}": "{value}"' for name, value in (word.split("=") for word in TRAIN))
    notebook = blocks("python")["in a notebook"].replace("train(map", f"train({{{small}}}, map")
    notebook = notebook.replace("total_steps=200_000", "total_steps=96") + NOTEBOOK
    said = perform(installed, [command for command in commands() if not quick(command)], notebook)
    assert said[-1] == "done dict_keys(['params']) ['duel_here', 'other']"
    rows = json.loads((met / "audit.json").read_text())["rows"]
    assert rows and all(row["gradient_cosine"] is not None for row in rows)
    assert (
        json.loads((installed / "runs" / "duel" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 96
    )
    # What a file says of a map, the run keeps
    (installed / "ambush.yaml").unlink()
    words = ["episodes=2", "gif=none", "plot=none", "json=none"]
    again = run(installed, "-m", "seca_jax.evaluate", "run=runs/ambush", *words, package=False)
    assert again.returncode == 0 and "vdn on ambush" in again.stdout, again.stderr


def test_help_has_what_the_package_brings(installed):
    text = run(installed, "-m", "seca_jax.train", "--help").stdout
    told = {
        line.partition(":")[0]: line for line in text.splitlines() if line.startswith(("map: ", "algo: "))
    }
    assert told["map"].endswith("leader, duel, meeting") and "surprise" in told["algo"]
    assert "entropy, fixed or random; of other packages boldest;" in text
    assert re.search(r"actor\.epochs=4 .*surprise", text)
    own = run(installed, "-m", "seca_jax.train", "--help", "algo=surprise").stdout
    assert "actor.epochs=4" in own and "q.lr=" not in own and "q.lr=" in text
