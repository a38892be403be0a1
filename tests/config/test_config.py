"""Composition, help, and every line of bad input: one line on standard error, status 2, nothing written."""

import errno
import os
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path

import jax
import pytest

from seca_jax import algos, envs, train
from seca_jax.config import compose, learners
from seca_jax.config.check import ConfigError, check
from seca_jax.config.schema import Config, get, keys, replace

MAPS = ", ".join(envs.names())


def config_of(*words):
    config = compose.compose(compose.parse(words))
    check(config)
    return config


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty directory and returns its one line of complaint."""

    def run(*words):
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        assert train.main(list(words)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return captured.err.removeprefix("error: ").rstrip("\n")

    return run


def test_defaults_are_the_schemas():
    assert config_of() == Config()


@pytest.mark.parametrize("algo", sorted(path.stem for path in (compose.CONF / "algo").glob("*.yaml")))
@pytest.mark.parametrize("preset", compose.presets())
def test_every_yaml_composes(algo, preset):
    config = config_of(f"algo={algo}", f"preset={preset}")
    assert config.algo == algo and config.preset == preset


def test_every_algorithm_has_its_yaml():
    assert sorted(algos.names()) == sorted(path.stem for path in (compose.CONF / "algo").glob("*.yaml"))


@pytest.mark.parametrize("algo", algos.names())
@pytest.mark.parametrize("preset", compose.presets())
def test_every_yaml_holds_keys_and_values_of_the_schema(algo, preset):
    for _, settings in compose.layers(algo, preset):
        for name, value in settings.items():
            check(replace(Config(num_envs=64), name, value))


def test_a_wrong_yaml_is_named(monkeypatch):
    monkeypatch.setattr(learners, "learner", lambda algo: {"reads": [], "settings": {"actor": {"lrr": "1"}}})
    with pytest.raises(ConfigError, match=r"^algo/seca.yaml: unknown key actor.lrr \(did you mean actor.lr"):
        compose.compose({})


def test_paper_preset_holds_the_authors_settings():
    config = config_of("preset=paper")
    expected = {
        "num_envs": 32, "rollout": "episode", "total_steps": 64_000_000, "gamma": 0.99, "lam": 0.8,
        "actor.hidden": 64, "actor.lr": 0.0025, "actor.max_grad_norm": 10.0, "actor.entropy": 0.005,
        "actor.epochs": 1, "actor.minibatches": 1, "critic.lr": 0.0005, "critic.max_grad_norm": 10.0,
        "critic.mixing": 64, "critic.hypernet_hidden": "paper", "critic.target_interval": 200,
        "critic.updates": 1, "credit.order": "ig-episode", "credit.points": 5,
        "eval.interval": 320_000, "eval.episodes": 32,
    }  # fmt: skip
    assert {name: get(config, name) for name in expected} == expected


def test_the_command_line_wins_over_the_preset():
    config = config_of("preset=paper", "critic.hypernet_hidden=32", "num_envs=8", "num_envs=16")
    assert config.critic.hypernet_hidden == "32" and config.num_envs == 16
    assert config.critic.target_interval == 200


def test_values_take_their_keys_type():
    values = compose.parse(
        [
            "total_steps=4e6",
            "num_envs=1_024",
            "gamma=1",
            "log.progress=False",
            "name=007",
            "out=/a b/c=(d),e",
            "wandb.group=",
        ]
    )
    assert values == {
        "total_steps": 4_000_000, "num_envs": 1024, "gamma": 1.0, "log.progress": False, "name": "007",
        "out": "/a b/c=(d),e", "wandb.group": "",
    }  # fmt: skip
    assert type(values["gamma"]) is float and type(values["total_steps"]) is int


def test_sweeps_expand_to_every_combination():
    jobs = compose.expand(
        ["seed=0,5", "map=3m,2s3z", "actor.lr=1e-3", "num_envs=range(4,9,4)", "out=/a b/(c)"]
    )
    assert len(jobs) == 8 and len({tuple(job) for job in jobs}) == 8
    assert all(job[2] == "actor.lr=1e-3" and job[4] == "out=/a b/(c)" for job in jobs)
    assert {job[0] for job in jobs} == {"seed=0", "seed=5"}
    assert {job[3] for job in jobs} == {"num_envs=4", "num_envs=8"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("1, 2", ["1", "2"]),
        ("choice(a,b,c)", ["a", "b", "c"]),
        ("choice(a)", ["a"]),
        ("range(3)", ["0", "1", "2"]),
        ("range(1,3)", ["1", "2"]),
        ("range(5,0,-2)", ["5", "3", "1"]),
        ("range(0,0.3,0.1)", ["0", "0.1", "0.2"]),
        ("'a,b'", ["'a,b'"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("f(a,b)", ["f(a,b)"]),
        ("(a,b", ["(a,b"]),
        ("a:b,c", ["a:b", "c"]),
        ("", [""]),
    ],
)
def test_what_several_values_look_like(text, values):
    assert compose.expand([f"name={text}"]) == [[f"name={value}"] for value in values]


@pytest.mark.parametrize("text", ["1,", ",1", "1,,2", "range()", "range(a)", "range(1,2,0)", "range(3,1)"])
def test_sweeps_that_say_nothing(refused, text):
    assert refused("--multirun", f"seed={text}").startswith(f"seed={text}: ")


def test_a_key_given_twice_in_a_sweep_counts_once():
    assert compose.expand(["seed=1,2", "map=3m", "seed=3"]) == [["seed=3", "map=3m"]]


def test_config_is_frozen_and_plain():
    def plain(cls):
        return all(
            plain(f.type) if is_dataclass(f.type) else f.type in (int, float, bool, str) for f in fields(cls)
        )

    assert plain(Config)
    with pytest.raises(AttributeError):
        Config().seed = 3


def test_config_yaml_survives_the_round_trip(tmp_path):
    config = config_of("preset=paper", "actor.lr=1e-5", "critic.hypernet_hidden=128", "name=12")
    compose.save(tmp_path, config, {"versions": {}})
    assert compose.load(tmp_path) == (config, {"versions": {}})


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("fooo=1", "unknown key fooo; --help lists all keys"),
        ("total_step=1", "unknown key total_step (did you mean total_steps?); --help lists all keys"),
        ("actor.lrr=1", "unknown key actor.lrr (did you mean actor.lr?); --help lists all keys"),
        ("crdit.order=prob", "unknown key crdit.order (did you mean credit.order?); --help lists all keys"),
        (  # not actor.minibatches, which looks like it only by the group
            "actor.learning_rate=1",
            "unknown key actor.learning_rate; actor has actor.hidden, actor.lr, actor.max_grad_norm, "
            "actor.entropy, actor.entropy_final, actor.normalise, actor.epochs, actor.minibatches, "
            "actor.clip",
        ),
        (
            "log.every=1",
            "unknown key log.every; log has log.interval, log.progress",
        ),
        ("lr=1", "unknown key lr (did you mean actor.lr or critic.lr or q.lr?); --help lists all keys"),
        ("+new=1", "unknown key +new; --help lists all keys"),
        ("hydra.run.dir=x", "unknown key hydra.run.dir; --help lists all keys"),
        ("eval=3", "eval=3: eval is a group of keys: eval.interval, eval.episodes"),
        ("3m", "3m: expected key=value, as in map=3m; --help lists all keys"),
        ("3n", "3n: expected key=value; --help lists all keys"),
        ("coma", "coma: expected key=value, as in algo=coma; --help lists all keys"),
        ("paper", "paper: expected key=value, as in preset=paper; --help lists all keys"),
        ("--helf", "--helf: expected key=value (did you mean --help?); --help lists all keys"),
        ("--multi-run", "--multi-run: expected key=value (did you mean --multirun?); --help lists all keys"),
        ("--sede", "--sede: expected key=value (did you mean seed?); --help lists all keys"),
        ("--map=3m", "--map=3m: expected map=3m (no dashes, no spaces); --help lists all keys"),
        ("--num-envs=8", "--num-envs=8: expected num_envs=8 (no dashes, no spaces); --help lists all keys"),
        ("--lr-decay", "--lr-decay: expected lr_decay=true (no dashes, no spaces); --help lists all keys"),
        ("map:3m", "map:3m: expected map=3m (no dashes, no spaces); --help lists all keys"),
        ("seeds", "seeds: expected seeds=... (no dashes, no spaces); --help lists all keys"),
        ("resume=", "resume=: empty (an unset shell variable?); give a path, or leave the key out"),
        ("resume= ", "resume=: empty (an unset shell variable?); give a path, or leave the key out"),
        ("out=", "out=: empty (an unset shell variable?); give a path, or leave the key out"),
        ("map=", "map=: empty (an unset shell variable?); give a value, or leave the key out"),
        ("seeds=", "seeds=: empty (an unset shell variable?); give a value, or leave the key out"),
        ("total_steps=1M", "total_steps=1M: expected a whole number (write 1e6)"),
        ("total_steps=100k", "total_steps=100k: expected a whole number (write 100e3)"),
        ("seeds=many", "seeds=many: expected a whole number"),
        ("seeds=1.5", "seeds=1.5: expected a whole number"),
        ("seeds=inf", "seeds=inf: expected a whole number"),
        ("seed=0,5", "seed=0,5: expected a whole number; several values need --multirun"),
        ("actor.lr=fast", "actor.lr=fast: expected a number"),
        ("actor.lr=nan", "actor.lr=nan: expected a number"),
        ("log.progress=3", "log.progress=3: expected true or false"),
        ("=3", "=3: expected key=value; --help lists all keys"),
        ("map=mmm2", f"map=mmm2: unknown (did you mean MMM2?); one of {MAPS}"),
        ("map=3n", f"map=3n: unknown (did you mean 3m?); one of {MAPS}"),
        ("algo=secca", f"algo=secca: unknown (did you mean seca?); one of {', '.join(algos.names())}"),
        ("preset=papers", "preset=papers: unknown; one of default, paper"),
        ("preset=Paper", "preset=Paper: unknown (did you mean paper?); one of default, paper"),
        ("algo=SeCA", f"algo=SeCA: unknown (did you mean seca?); one of {', '.join(algos.names())}"),
        (
            "num_envs=1",
            "actor.minibatches=4 and critic.minibatches=4 must divide num_envs=1, as actor.minibatches=1 "
            "critic.minibatches=1 would",
        ),
        ("rollout=streams", "rollout=streams: unknown; one of stream, episode"),
        ("device=cuda", "device=cuda: unknown; one of auto, cpu, gpu, tpu"),
        ("seeds=0", "seeds=0: must be at least 1"),
        ("num_envs=-1", "num_envs=-1: must be at least 1"),
        ("window=0", "window=0: must be at least 1"),
        ("eval.episodes=0", "eval.episodes=0: must be at least 1"),
        ("log.interval=0", "log.interval=0: must be at least 1"),
        ("checkpoint.keep=0", "checkpoint.keep=0: must be at least 1"),
        ("critic.target_interval=0", "critic.target_interval=0: must be at least 1"),
        ("actor.hidden=0", "actor.hidden=0: must be at least 1"),
        ("credit.points=0", "credit.points=0: must be at least 1"),
        ("actor.lr=0", "actor.lr=0.0: must be greater than 0"),
        ("env.reward_scale=-1", "env.reward_scale=-1.0: must be greater than 0"),
        ("gamma=1.01", "gamma=1.01: must lie between 0 and 1"),
        ("lam=-0.1", "lam=-0.1: must lie between 0 and 1"),
        ("credit.residual=2", "credit.residual=2.0: must lie between 0 and 1"),
        ("actor.entropy=-1", "actor.entropy=-1.0: must be at least 0"),
        ("total_steps=0", "total_steps=0: must be at least 1"),
        ("total_steps=3e9", "total_steps=3000000000: must stay below 2147483648, the counter's range"),
        ("seed=2147483646", "seed=2147483646: the last of 5 seeds must stay below 2147483648"),
        ("critic.hypernet_hidden=0", "critic.hypernet_hidden=0: must be a whole number above 0, or paper"),
        ("critic.hypernet_hidden=w", "critic.hypernet_hidden=w: must be a whole number above 0, or paper"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(refused, word, complaint):
    assert refused(word) == complaint


@pytest.mark.parametrize("order", ["ig", "ig-", "ig-0", "ig--3", "ig-x", "random"])
def test_bad_orders_are_refused(refused, order):
    allowed = "must be ig-episode, ig-<steps> (ig-1, ig-10, ...), prob, entropy or fixed"
    assert refused(f"credit.order={order}") == f"credit.order={order}: {allowed}"


@pytest.mark.parametrize(
    "order", ["ig-episode", "ig-1", "ig-10", "ig-20", "ig-7", "prob", "entropy", "fixed"]
)
def test_good_orders_are_not(order):
    config_of(f"credit.order={order}")


def test_a_run_needs_one_update(refused):
    complaint = refused("num_envs=32", "window=32", "total_steps=1000")
    assert complaint == "total_steps=1000: less than one update, num_envs*window=1024 steps"


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_minibatches_must_divide_the_environments(refused, part):
    complaint = refused("num_envs=32", "actor.minibatches=1", "critic.minibatches=1", f"{part}.minibatches=5")
    assert complaint == f"{part}.minibatches=5 must divide num_envs=32, as {part}.minibatches=4 would"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("map", "=", "3m"), "map = 3m"),
        (("map", "=3m"), "map =3m"),
        (("map=", "3m"), "map= 3m"),
        (("--map", "3m"), "--map 3m"),
        (("--map", "=", "3m"), "--map = 3m"),
        (("map", "3m"), "map 3m"),
        (("map:", "3m"), "map: 3m"),
    ],
)
def test_a_value_apart_from_its_key(refused, words, said):
    asked = f"{said}: expected map=3m (no dashes, no spaces); --help lists all keys"
    assert refused("seeds=1", *words, "seed=3") == refused("seeds=1", *words) == asked


def test_unread_keys_have_no_say():
    """Minibatches are not the Q-learners', nor is the order anybody's but SeCA's."""
    config_of("algo=qmix", "num_envs=3", "credit.order=none", "critic.hypernet_hidden=none")


def test_a_sweep_is_checked_whole_before_its_first_run(refused):
    assert refused("--multirun", "seeds=1,0") == "seeds=0: must be at least 1"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("map=3m,MMM2", "env.backend=upstream"), "env.backend=upstream: jaxmarl has no MMM2"),
        (("map=matrix", "algo=seca,vdn", "rollout=stream"), "rollout=stream: vdn replays whole episodes"),
    ],
)
def test_a_sweep_knows_what_does_not_go_together_before_its_first_run(refused, words, complaint):
    assert refused("--multirun", *words).startswith(complaint)


def test_whole_episodes_need_one_episode_of_each_environment(refused):
    complaint = refused("rollout=episode", "num_envs=32", "total_steps=31")
    assert complaint == "total_steps=31: less than one update, num_envs=32 whole episodes"


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_missing_accelerator_is_refused(refused, device):
    if any(d.platform == device for d in jax.devices()):
        pytest.skip(f"there is a {device} here")
    extra = {"gpu": "cuda13", "tpu": "tpu"}[device]
    complaint = refused(f"device={device}", "map=matrix")
    assert complaint == f"device={device}: JAX finds none here; install seca_jax[{extra}], or use device=auto"


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
    def full(self, text):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    complaint = refused("out=new/run", "map=matrix")
    assert complaint == "out=new/run: cannot be created (No space left on device)"


def test_a_directory_in_use_is_refused(refused, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    assert refused("out=used") == "out=used: is not empty; give a new directory"
    (tmp_path / "used" / "config.yaml").write_text("")
    assert refused("out=used") == "out=used: holds a run already; resume=used continues it"


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


def test_check_names_the_key_of_a_wrong_type():
    with pytest.raises(ConfigError, match="seeds=2.0: expected a whole number"):
        check(replace(Config(), "seeds", 2.0))


@pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("credit.order", {"seca"}),
        ("credit.residual", {"seca", "coma", "coma_newarchi"}),
        ("q.mixing", {"qmix"}),
        ("q.lr", {"qmix", "vdn", "qtran"}),
        ("critic.mixing", {"seca", "coma_newarchi", "lica"}),
        ("actor.hidden", set(algos.names())),
        ("gamma", set(algos.names())),
    ],
)
def test_who_reads_a_key(name, readers):
    assert {algo for algo in algos.names() if not learners.unread(name, algo)} == readers


@pytest.mark.parametrize("algo", algos.names())
def test_what_a_learner_reads_is_in_the_schema(algo):
    assert set(learners.learner(algo)) <= {"reads", "settings", "presets"}
    for entry in learners.learner(algo)["reads"]:
        assert any(learners.mentions(entry, name) for name, _ in keys()), entry


def test_a_key_that_changes_nothing_is_worth_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(train, "train", lambda config, argv: 0)
    assert train.main(["algo=vdn", "credit.order=fixed", "q.lr=1e-3", "out=nowhere"]) == 0
    assert capsys.readouterr().err == "warning: credit.order changes nothing under algo=vdn\n"


def test_help_shows_the_defaults_of_the_learner_asked_about(capsys):
    assert train.main(["--help", "algo=qmix"]) == 0
    assert "  rollout=episode " in capsys.readouterr().out
    assert train.main(["--help", "algo=qmx"]) == 2
    assert "did you mean qmix" in capsys.readouterr().err
