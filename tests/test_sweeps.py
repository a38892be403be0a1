"""docs/sweeps.md, done as it says: a sweep's command line, a trial without a network, a study."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import stub
import yaml

from seca_jax import report, train

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "sweeps.md"
SMALL = [
    "num_envs=4",
    "window=5",
    "eval.episodes=4",
    "log.interval=100",
    "eval.interval=200",
    "total_steps=400",
]


def blocks(kind):
    """The document's code blocks of a kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return [text for own, text in found if own == kind]


def test_the_words_that_a_sweeps_agent_passes_are_a_run(monkeypatch):
    """The document's sweep through W&B's own making of a command line."""
    from wandb.sdk.launch.sweeps import utils

    (text,) = blocks("yaml")
    sweep = yaml.safe_load(text)
    chosen = {"actor.lr": 0.0021, "credit.order": "prob", "lr_decay": True}
    assert chosen.keys() == sweep["parameters"].keys()
    trial = {"args": {name: {"value": value} for name, value in chosen.items()}}
    parts = utils.create_sweep_command_args(trial) | {"program": [sweep["program"]]}
    words = []
    for word in utils.create_sweep_command(sweep["command"]):
        words += parts.get(word[2:-1], []) if word.startswith("${") else [word]
    assert words[:2] == ["-m", "seca_jax.train"]
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "trial-7")
    (job,) = train.plan(words[2:])
    config = job.config
    assert (config.actor.lr, config.credit.order, config.lr_decay) == (0.0021, "prob", True)
    assert (config.map, config.seeds, config.out) == ("2s3z", 3, "runs/2s3z/seca/trial-7")
    assert sweep["metric"]["name"] == "test/win_rate"


def test_a_trial_without_a_network_is_one_record_with_the_agents_id(tmp_path):
    line = next(line for text in blocks("bash") for line in text.splitlines() if "WANDB_SWEEP_ID" in line)
    words = shlex.split(line)
    variables = dict(word.split("=", 1) for word in words if word.startswith("WANDB_"))
    words = [word for word in words[words.index("seca_jax.train") + 1 :] if "total_steps" not in word]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, stub.__file__, *words, *SMALL],
        env=environment | variables | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    run = tmp_path / "runs" / "2s3z" / "seca" / "trial-1"
    (record,) = (run / "wandb").glob("offline-run-*/*.wandb")
    assert record.name == "run-trial-1.wandb"
    text = record.read_bytes()
    assert all(name in text for name in (b"test/win_rate", b"seed0/test/win_rate", b"seed2/test/win_rate"))


def test_the_study_finds_its_best_trial_and_prunes(stubbed, tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    class Second(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    (code,) = blocks("python")
    code = code.replace("n_trials=20", "n_trials=3").replace("200_000", "400, **SMALL")
    code = code.replace("create_study(", "create_study(pruner=PRUNER, ")
    names = {
        "SMALL": {"num_envs": 4, "window": 5, "eval": {"interval": 200, "episodes": 8}},
        "PRUNER": Second(),
    }
    exec(code, names)
    trials = names["study"].trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert list(trials[0].intermediate_values) == [0, 200, 400] and list(trials[1].intermediate_values) == [0]
    assert trials[0].value == trials[0].intermediate_values[400]
    assert (tmp_path / "study.db").exists()


def test_the_documents_rates_train_together(stubbed, tmp_path, capsys):
    text = next(text for text in blocks("bash") if "runs/rates" in text)
    words = shlex.split(text.splitlines()[0])[3:]
    words = [*words[:-1], *SMALL, "wandb.mode=disabled", "--together", f"out={tmp_path}"]
    assert train.main(words) == 0
    assert "3 runs of seca on 2s3z side by side, 9 seeds in all" in capsys.readouterr().out
    names = [f"actor.lr={rate}" for rate in ("1e-3", "2e-3", "5e-4")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    places, out = shlex.split(text.splitlines()[1])[3:]
    assert places == "runs/rates/*"  # which the shell expands
    assert report.main([*(str(tmp_path / name) for name in names), f"out={tmp_path / out[4:]}"]) == 0
