"""W&B and TensorBoard: exact where they work, harmless where they do not."""

import json
import os
import struct
import subprocess
import sys

import pytest
import stub
from test_log import EVERY, SMALL, Recorder, line

from seca_jax import train
from seca_jax.config.compose import compose
from seca_jax.runtime import tensorboard
from seca_jax.runtime import wandb as board_of

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
RUN = {"map": "2s3z", "name": "mine"}


def place(environ=None, **settings):
    """Where a run named ``mine`` goes under those variables and ``wandb`` keys."""
    keys = {f"wandb.{key}": value for key, value in settings.items()}
    return board_of.place(compose({**RUN, **keys}), "here", environ or {})


class Run:
    """A W&B run that keeps what it is told."""

    def __init__(self, directory, step=0, fails="", **options):
        self.options, self.step, self.fails, self.logged, self.ended = options, step, fails, [], None
        self.id, self.dir = options.get("id"), f"{directory}/wandb/offline-run-now-{options.get('id')}/files"

    def log(self, numbers, step):
        if self.fails == "log":
            raise RuntimeError("the service died\nwith details")
        assert step >= self.step
        self.step = step
        self.logged.append(numbers)

    def finish(self, exit_code):
        if self.fails == "finish":
            raise RuntimeError("the service died\nwith details")
        self.ended = exit_code


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The W&B runs that are started, none of them a real one; ``started.step`` is where new ones begin."""
    import wandb

    class Started(list):
        step = 0

    runs = Started()

    def init(**options):
        runs.append(Run(tmp_path, runs.step, **options))
        return runs[-1]

    monkeypatch.setattr(wandb, "init", init)
    for name in set(os.environ) - set(CLEAN):
        monkeypatch.delenv(name)
    return runs


def board(there, seeds=(4, 5), terminal=None):
    return board_of.Wandb(
        there, run_id="i", seeds=seeds, config={"gamma": 0.9}, terminal=terminal or Recorder()
    )


def test_a_run_is_named_by_what_it_is():
    there = place()
    assert (there.name, there.group, there.project) == ("2s3z-seca-mine", "mine", "seca_jax")
    assert (there.tags, there.job_type) == (("2s3z", "seca"), "train")
    assert (there.mode, there.entity, str(there.directory)) == ("offline", None, "here")


def test_keys_win_over_wandbs_variables_and_these_over_defaults():
    environ = {
        "WANDB_MODE": "online", "WANDB_PROJECT": "p", "WANDB_ENTITY": "e", "WANDB_RUN_GROUP": "g",
        "WANDB_NAME": "n", "WANDB_DIR": "d", "WANDB_TAGS": "a, seca", "WANDB_JOB_TYPE": "j",
    }  # fmt: skip
    there = place(environ)
    assert (there.mode, there.project, there.entity, there.group) == ("online", "p", "e", "g")
    assert (there.name, str(there.directory), there.job_type) == ("n", "d", "j")
    assert there.tags == ("2s3z", "seca", "a")
    keys = {"project": "P", "entity": "E", "group": "G", "name": "N", "directory": "D", "tags": "b"}
    there = place(environ, mode="disabled", **keys)
    assert (there.mode, there.project, there.entity, there.group) == ("disabled", "P", "E", "G")
    assert (there.name, str(there.directory), there.tags) == ("N", "D", ("2s3z", "seca", "b"))
    assert [place({"WANDB_MODE": word}).mode for word in ("dryrun", "run", "")] == [
        "offline", "online", "offline",
    ]  # fmt: skip


def test_every_seed_has_a_run_with_its_lines_at_their_steps(started):
    wandb = board(place(group="g"))
    wandb.log([line(20, 4), line(21, 5)])
    wandb.close(3)
    assert [run.options["name"] for run in started] == ["2s3z-seca-mine-seed4", "2s3z-seca-mine-seed5"]
    assert [run.logged for run in started] == [[line(20, 4)], [line(21, 5)]]
    assert [run.ended for run in started] == [3, 3]
    assert {run.options["group"] for run in started} == {"g"}
    assert [run.options["id"] for run in started] == ["i-4", "i-5"]
    assert json.dumps(started[0].options["config"]) == '{"gamma": 0.9, "seed": 4}'


def test_a_sweep_gets_one_run_with_the_medians_over_seeds(started, monkeypatch):
    monkeypatch.setattr(board_of, "has_key", lambda: True)
    agent = {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "trial-1"}
    wandb = board(place(agent), seeds=(4, 5, 6))
    wandb.log([line(20, seed, a=float(seed)) for seed in (4, 5, 6)])
    wandb.log([line(40, 4, a=1.0), line(44, 5, a=2.0)])
    (run,) = started
    assert run.options["mode"] == "online" and run.options["id"] is None and run.options["group"] is None
    assert run.options["name"] == "2s3z-seca-mine"
    assert run.logged[0]["a"] == 5.0 and run.logged[0]["seed6/a"] == 6.0
    assert run.logged[1]["a"] == 1.5 and run.logged[1]["step"] == 40 and "seed" not in run.logged[1]
    # A single seed needs no medians
    wandb = board(place(agent | {"WANDB_RUN_ID": "trial-2", "WANDB_MODE": "offline"}), seeds=(4,))
    wandb.log([line(20, 4, a=1.0)])
    assert started[-1].logged == [{"step": 20, "wall_s": 2.0, "a": 1.0}]
    # The sweep's run is taken: a second training would write into the first one's curves
    terminal = Recorder()
    board(place(agent), terminal=terminal)
    assert len(started) == 2
    assert terminal.warnings == [
        "W&B stopped (RuntimeError: a sweep's run takes one training, leave out --multirun); "
        "training goes on without it"
    ]


def test_a_resumed_run_sends_what_wandb_lacks_and_sets_earlier_records_aside(started, tmp_path):
    earlier = [tmp_path / "wandb" / f"offline-run-then-i-{seed}" for seed in (4, 5)]
    for path in [*earlier, tmp_path / "wandb" / "offline-run-then-other-4"]:
        path.mkdir(parents=True)
    kept = [line(step, seed) for step in (0, 10, 20) for seed in (4, 5)]
    wandb = board(place())
    wandb.resume(kept)
    wandb.log([line(30, 4), line(30, 5)])
    assert started[0].logged == [line(step, 4) for step in (0, 10, 20, 30)]
    assert started[1].logged == [line(step, 5) for step in (0, 10, 20, 30)]
    assert sorted(path.name for path in (tmp_path / "wandb").iterdir()) == [
        "offline-run-then-other-4", "superseded",
    ]  # fmt: skip
    assert len(list((tmp_path / "wandb" / "superseded").iterdir())) == 2
    # Online, W&B goes on where its server is
    started.step = 11
    wandb = board(place())
    wandb.resume(kept)
    assert started[-1].logged == [line(20, 5)]


@pytest.mark.parametrize("moment", ["init", "log", "finish"])
def test_a_broken_wandb_does_not_stop_training(stubbed, tmp_path, monkeypatch, capsys, metrics, moment):
    import wandb

    def init(**options):
        if moment == "init":
            raise RuntimeError("the service died\nwith details")
        return Run(tmp_path, fails=moment)

    monkeypatch.setattr(wandb, "init", init)
    run = tmp_path / "run"
    assert train.main([*SMALL, *EVERY, "wandb.mode=offline", f"out={run}"]) == 0
    assert max(entry["step"] for entry in metrics(run)) == 400
    expected = "warning: W&B stopped (RuntimeError: the service died); training goes on without it"
    assert set(capsys.readouterr().err.splitlines()) == {expected}


def test_wandb_online_without_a_key_or_a_network_goes_on_offline(monkeypatch):
    import wandb

    modes = []

    def init(mode, **_):
        modes.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("cannot connect")

    monkeypatch.setattr(wandb, "init", init)
    for key, expected in (("x" * 40, ["online", "offline", "offline"]), (None, ["offline", "offline"])):
        monkeypatch.setattr(board_of, "has_key", lambda key=key: key is not None)
        modes.clear()
        terminal = Recorder()
        board(place(mode="online"), terminal=terminal)
        assert modes == expected
        assert len(terminal.warnings) == 1 and terminal.warnings[0].endswith("logging offline instead")


def history(path):
    """Steps of the lines in an offline record of W&B: messages, in parts, in blocks as LevelDB's."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, message, steps = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a part's head
            at += 32768 - at % 32768
            continue
        size, part = struct.unpack_from("<HB", data, at + 4)
        message = (b"" if part in (1, 2) else message) + data[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):
            record = Record.FromString(message)
            if record.WhichOneof("record_type") == "history":
                steps.append(record.history.step.num)
    return steps


def test_an_offline_record_holds_a_resumed_run_whole_without_account_or_network(tmp_path):
    run = tmp_path / "run"
    environment = CLEAN | {
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([os.path.dirname(stub.__file__), os.environ["PYTHONPATH"]]),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    code = "import json, sys, stub\nfrom seca_jax import algos, envs, train\n"
    code += "from seca_jax.show import curves\n"
    code += "envs.make, algos.make = stub.make_env, stub.make_algorithm\n"
    code += "curves.curves = lambda *_: None\n"
    code += "sys.exit(max(train.main(words) for words in json.loads(sys.argv[1])))"
    first = [*SMALL, *EVERY, "actor.entropy_final=-1", f"out={run}"]
    words = json.dumps([first, [f"resume={run}", "total_steps=600"]])
    done = subprocess.run(
        [sys.executable, "-c", code, words], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith("wandb")]
    stored = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name[-7:] for path in stored] == ["0.wandb", "1.wandb"]
    assert [history(path) for path in stored] == [[0, 100, 200, 300, 400, 500, 600]] * 2
    assert len(list((run / "wandb" / "superseded").glob("offline-run-*"))) == 2


def events(directory):
    """(name, step) -> value of the numbers in a directory of event files: framed messages, see TFRecord."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in directory.iterdir():
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
            data = data[16 + size :]
    return found


def scalars(lines, seed):
    """What event files should hold of the lines of a seed, in single precision."""
    return {
        (name, line["step"]): pytest.approx(value, rel=1e-6)
        for line in lines
        for name, value in line.items()
        if line["seed"] == seed and name not in ("seed", "step")
    }


def test_the_event_files_say_what_metrics_jsonl_says(stubbed, tmp_path, metrics):
    run, words = tmp_path / "run", [*SMALL, *EVERY, "wandb.mode=disabled", "log.tensorboard=true"]
    assert train.main([*words, f"out={run}"]) == 0
    assert events(run / "tensorboard" / "seed1") == scalars(metrics(run), 1)
    # Resumed, a run has one history, not two
    assert train.main([f"resume={run}", "total_steps=600"]) == 0
    assert events(run / "tensorboard" / "seed0") == scalars(metrics(run), 0)
    assert max(step for _, step in scalars(metrics(run), 0)) == 600


def test_without_its_library_tensorboard_is_refused_before_anything_is_written(
    stubbed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    words = [*SMALL, *EVERY, "log.tensorboard=true", f"out={tmp_path / 'run'}"]
    assert train.main(words) == 2
    assert capsys.readouterr().err == (
        "error: log.tensorboard=true: tensorboardX is not installed; pip install 'seca_jax[tensorboard]'\n"
    )
    assert not (tmp_path / "run").exists()


def test_broken_event_files_do_not_stop_training(stubbed, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.write_event", broken)
    words = [*SMALL, *EVERY, "wandb.mode=disabled", "log.tensorboard=true", f"out={tmp_path / 'run'}"]
    assert train.main(words) == 0
    assert capsys.readouterr().err == (
        "warning: TensorBoard stopped (OSError: No space left on device); training goes on without it\n"
    )
