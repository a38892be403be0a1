"""What the training command refuses before a run begins, what it warns of, and its help."""

import errno
import os
import subprocess
import sys
import time

import jax
import pytest

from seca_jax import algos, envs, train
from seca_jax.config import compose
from seca_jax.config.schema import keys


def test_a_sweep_is_checked_whole_before_its_first_run(refused):
    assert refused("--multirun", "seeds=1,0") == "seeds=0: must be at least 1"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("map=3m,MMM2", "env.backend=upstream"), "env.backend=upstream: jaxmarl has no MMM2"),
        (("map=3m,MMM2", "env.random_start=types"), "env.random_start=types: MMM2 has a start of its own"),
        (("map=matrix", "algo=seca,vdn", "rollout=stream"), "rollout=stream: vdn replays whole episodes"),
    ],
)
def test_a_sweep_knows_what_does_not_go_together_before_its_first_run(refused, words, complaint):
    assert refused("--multirun", *words).startswith(complaint)


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_missing_accelerator_is_refused(refused, device):
    if any(d.platform == device for d in jax.devices()):
        pytest.skip(f"there is a {device} here")
    extra = {"gpu": "cuda13", "tpu": "tpu"}[device]
    complaint = refused(f"device={device}", "map=matrix")
    asked = f" under JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}" if os.environ.get("JAX_PLATFORMS") else ""
    right = f"install seca_jax[{extra}], or use device=auto"
    assert complaint == f"device={device}: JAX finds none here{asked}; {right}"


def test_a_directory_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    assert (
        refused(f"out={out}")
        == f"out={out}: cannot write in {tmp_path / 'file'}; give a directory you may write to"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_refused(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot write in" in refused(f"out={tmp_path / 'locked' / 'run'}")


def test_a_directory_that_cannot_be_made_is_refused(stubbed, refused):
    # The kernel's file system refuses directories even to root
    assert refused("out=/proc/seca/run", "map=matrix").startswith("out=/proc/seca/run: cannot be created")


def test_a_full_disk_at_the_start_leaves_nothing(stubbed, refused, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    complaint = refused("out=new/run", "map=matrix")
    assert complaint == "out=new/run: cannot be created (No space left on device)"


def test_a_directory_in_use_is_refused(refused, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    assert refused("out=used") == "out=used: is not empty; give a new directory"
    (tmp_path / "used" / "config.yaml").write_text("")
    assert (
        refused("out=used") == "out=used: holds a run already; resume=used continues it, or give another out="
    )


def test_help_lists_every_key_quickly():
    start = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "seca_jax.train", "--help"], capture_output=True, text=True
    )
    took = time.monotonic() - start
    assert shown.returncode == 0
    for name, field in keys():
        default = str(field.default).lower() if field.type is bool else field.default
        assert f"  {name}={default} " in shown.stdout
        assert field.metadata["doc"] in shown.stdout
    for name in [*envs.names(), *algos.names(), *compose.presets()]:
        assert name in shown.stdout
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert imported.isdisjoint({"jax", "jaxlib", "jaxmarl", "wandb", "orbax", "matplotlib"})
    assert took < 1.5 * max(1.0, os.getloadavg()[0])


def test_bad_input_does_not_wait_for_jax():
    code = "import sys; from seca_jax import train; s = train.main(sys.argv[1:]); "
    code += "sys.exit(s if 'jax' not in sys.modules else 99)"
    for word in ("map=nowhere", "resume=nowhere", "seeds=0", "nothing=1"):
        assert subprocess.run([sys.executable, "-c", code, word], capture_output=True).returncode == 2


def test_a_key_that_changes_nothing_is_worth_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(train, "train", lambda config, argv: 0)
    assert train.main(["algo=vdn", "credit.order=fixed", "q.lr=1e-3", "out=nowhere"]) == 0
    assert capsys.readouterr().err == "warning: credit.order changes nothing under algo=vdn\n"
    assert train.main(["critic.kind=joint", "critic.pairs=4", "critic.mixing=8", "out=nowhere"]) == 0
    assert capsys.readouterr().err == "warning: critic.pairs changes nothing under critic.kind=joint\n"
    assert train.main(["algo=vdn", "preset=accelerator", "out=nowhere"]) == 0
    assert capsys.readouterr().err == "warning: preset=accelerator changes nothing under algo=vdn\n"
    assert train.main(["algo=mappo", "preset=accelerator", "out=nowhere"]) == 0
    assert capsys.readouterr().err == ""


def test_help_shows_the_defaults_of_the_learner_asked_about(capsys):
    assert train.main(["--help", "algo=qmix"]) == 0
    assert "  rollout=episode " in capsys.readouterr().out
    assert train.main(["--help", "algo=qmx"]) == 2
    assert "did you mean qmix" in capsys.readouterr().err
