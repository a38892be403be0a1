"""A run's directory that somebody else has made: nothing in it is executed, nothing written elsewhere."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import stub
import yaml
from test_log import SMALL

from seca_jax import export, report, runs, train
from seca_jax.config import compose
from seca_jax.config.check import ConfigError
from seca_jax.runtime import checkpoint, session

EXPERIMENTS = Path(__file__).resolve().parent.parent.parent / "experiments"
WORDS = [*SMALL, "log.interval=100", "eval.interval=200", "checkpoint.interval=200", "total_steps=400"]


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def run(stubbed, tmp_path):
    assert train.main([*WORDS, "wandb.mode=disabled", f"out={tmp_path / 'run'}"]) == 0
    return tmp_path / "run"


@pytest.fixture
def mark(tmp_path):
    """What an attack would leave behind."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists()


def read(run):
    """The checkpoint, as resuming, evaluating and exporting read it."""
    config, _ = compose.load(run)
    program = session.program_of(config, session.prepare(config)[0])
    return checkpoint.restore(run, program.abstract, lambda _: None)


def test_a_pickle_in_the_place_of_any_file_of_a_checkpoint_is_not_unpickled(run, mark):
    bomb = pickle.dumps(Bomb(mark))
    for path in sorted((run / "checkpoints" / "400").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(bomb)
            assert read(run)[0] in (200, 400)
            path.write_bytes(content)
    assert read(run)[0] == 400


@pytest.mark.parametrize("name", ["os.mkdir", "antigravity.Handler", "seca_jax.door.script"])
def test_names_in_a_checkpoint_are_not_imported(run, name):
    home = run / "checkpoints" / "400"
    path = home / "_CHECKPOINT_METADATA"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"item_handlers": {"default": name}}))
    assert read(run)[0] == 400
    path = home / "default" / "_METADATA"
    path.write_text(path.read_text().replace("np.ndarray", name))
    assert read(run)[0] == 200
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.mkdir", "python/name:os.system", "python/module:antigravity"]
)
def test_tags_in_config_yaml_make_nothing(run, mark, capsys, tag):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("algo: seca", f"algo: !!{tag} ['{mark}']"))
    for command in (train.main([f"resume={run}"]), report.main([f"run={run}"])):
        assert command == 2
    assert all(f"{path} is damaged" in line for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("key", ["algo", "map"])
@pytest.mark.parametrize("name", ["os", "../../os", "seca_jax.door", "__main__"])
def test_names_in_config_yaml_are_of_what_is_installed(run, key, name):
    path = run / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: name}))
    with pytest.raises(ConfigError, match=r"not installed here|is damaged"):
        compose.load(run)


@pytest.mark.parametrize("number", ["²", "٣", "-1", "1e3", "..", "400 "])
def test_only_numbers_are_steps(run, number):
    if number != "..":
        (run / "checkpoints" / number).mkdir()
    assert runs.checkpoint_steps(run) == [200, 400]


@pytest.mark.parametrize(
    "name",
    ["checkpoints", "metrics.jsonl", "curves.tmp.png", "config.yaml.tmp", ".lock", "tensorboard", "wandb"]
    + ["checkpoints/400", "checkpoints/600", "checkpoints/400/default", "export", "report.html"],
)
def test_a_link_that_leads_out_of_the_directory_is_refused(run, tmp_path, capsys, name):
    path, elsewhere = run / name, tmp_path / "elsewhere"
    file = "." in name
    elsewhere.write_text("precious") if file else elsewhere.mkdir()
    if path.exists():
        path.rename(tmp_path / "away")
    path.symlink_to(elsewhere)
    capsys.readouterr()
    assert train.main([f"resume={run}", "total_steps=600"]) == 2
    assert capsys.readouterr().err == (
        f"error: {path}: leads out of the run's directory, to {elsewhere}; "
        "put what it leads to in its place, or remove it\n"
    )
    # These find some links when they read, others when they are about to write
    assert report.main([f"run={run}"]) == 2 and export.main([f"run={run}"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
    assert elsewhere.read_text() == "precious" if file else not list(elsewhere.iterdir())


def test_links_within_the_directory_and_a_directory_that_is_one_are_fine(run, tmp_path):
    (run / "latest").symlink_to("checkpoints/400")
    (tmp_path / "link").symlink_to(run)
    assert train.main([f"resume={tmp_path / 'link'}", "total_steps=600"]) == 0


def test_the_out_of_another_machine_is_not_written_to(run, tmp_path):
    path, elsewhere = run / "config.yaml", tmp_path / "elsewhere"
    path.write_text(path.read_text().replace(f"out: {run}", f"out: {elsewhere}"))
    assert compose.load(run)[0].out == str(elsewhere)
    assert train.main([f"resume={run}", "total_steps=600"]) == 0
    assert not elsewhere.exists() and runs.checkpoint_steps(run)[-1] == 600


def test_a_report_shows_what_it_is_told_and_does_not_run_it(run):
    script = "<script>alert(1)</script>"
    path = run / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    stored["name"] = stored["wandb"]["tags"] = script
    stored["provenance"] |= dict.fromkeys(("command", "device", "git_commit", "processor", "started"), script)
    stored["provenance"]["versions"] = {script: script}
    path.write_text(yaml.safe_dump(stored))
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 400, "seed": 0, "wall_s": 1.0, f"train/{script}": 1.0}) + "\n")
    assert report.main([f"run={run}"]) == 0
    page = (run / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_an_archive_writes_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import store

    with zipfile.ZipFile(tmp_path / "f-tiny.zip", "w") as made:
        made.writestr("../outside", "x")
        made.writestr(str(tmp_path / "absolute"), "x")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        made.writestr(link, str(tmp_path))
        made.writestr("link/through", "x")
    before = sorted(tmp_path.iterdir())
    try:
        with store.opened(tmp_path, "f", "tiny") as place:
            assert not any(path.is_symlink() for path in place.rglob("*"))
    except OSError:
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_an_audits_parts_hold_no_objects(tmp_path, mark):
    import numpy as np

    from seca_jax import audit

    parts = audit.Parts(tmp_path / "parts", {})
    content = io.BytesIO()
    np.savez(content, x=np.array([Bomb(mark)], object))
    parts._path(0).write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="allow_pickle"):
        parts.read()


def test_a_run_keeps_no_secrets(tmp_path):
    """What the environment says about accounts is in no file of the run."""
    run, secret = tmp_path / "run", "b" * 40
    names = ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "https_proxy")
    environment = (
        os.environ | dict.fromkeys(names, f"http://user:{secret}@127.0.0.1:9") | {"WANDB_API_KEY": secret}
    )
    words = [sys.executable, stub.__file__, *WORDS, "wandb.mode=offline", f"out={run}"]
    subprocess.run(words, check=True, capture_output=True, env=environment, timeout=120)
    found = [path for path in run.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert found == []
