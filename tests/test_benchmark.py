"""The benchmark's arithmetic with a clock of our own, and the CLI end to end on a probe game."""

import json

import pytest

from seca_jax import algos, benchmark
from seca_jax.runtime import throughput
from seca_jax.runtime.throughput import Row, Timed


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a program does."""
    now = [0.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    return now


def test_rates_are_medians_of_repeats_that_take_turns(clock):
    calls = []

    def program(name, seconds, steps):
        def advance(n):
            calls.append((name, n))
            # The third repeat of either meets a busy machine.
            clock[0] += n * seconds * (10 if calls.count((name, n)) == 3 else 1)
            return n * steps

        return Timed(advance, 0.0, 0)

    fast, slow = throughput.rates([program("fast", 0.01, 32), program("slow", 0.5, 64)], 5, 1.0)
    assert fast == pytest.approx(3200) and slow == pytest.approx(128)
    timed = calls[-10:]
    assert [name for name, _ in timed] == ["fast", "slow"] * 5
    assert timed[0][1] >= 90 and timed[1][1] == 2  # about a second each


def row(what, rate, backend="core", **changes):
    return Row(what, backend, "2s3z", None, 32, 5, rate, 1.0, 2**20)._replace(**changes)


def test_shares_are_differences_of_times_per_step():
    rows = [row("env", 100_000), row("env", 10_000, "upstream"), row("rollout", 50_000), row("train", 10_000)]
    (line,) = benchmark.shares(rows)
    assert "costs 100.0 us" in line
    assert "environment 10.0 us (10%)" in line
    assert "acting and recording 10.0 us (10%)" in line
    assert "learning 80.0 us (80%)" in line


def test_the_table_compares_like_with_like():
    rows = [row("env", 80_000), row("env", 10_000, "upstream"), row("env", 90_000, num_envs=256)]
    table = benchmark.table(rows)
    ratios = list(table.columns[8].cells)
    assert ratios == ["8.0", "", ""]


def test_the_command_measures_all_three_programs(tmp_path, capsys):
    target = tmp_path / "rows.json"
    words = "map=delayed num_envs=4 seeds=2 window=4 actor.hidden=8 critic.mixing=8 credit.order=fixed"
    words += " seconds=0.01 device=cpu"
    assert benchmark.main([*words.split(), f"json={target}"]) == 0
    document = json.loads(target.read_text())
    assert list(document) == ["device", "versions", "rows"]
    assert document["versions"]["jax"] and document["versions"]["jaxmarl"]
    assert [r["what"] for r in document["rows"]] == ["env", "rollout", "train"]
    for r in document["rows"]:
        assert list(r) == list(Row._fields)
        assert r["map"] == "delayed" and r["num_envs"] == 4 and r["seeds"] == 2
        assert r["steps_per_s"] > 0 and r["compile_s"] > 0 and r["peak_bytes"] > 0
    assert "one training step costs" in capsys.readouterr().out


def test_environments_alone_come_in_the_sizes_asked_for():
    _, configs = benchmark.plan(["what=env", "map=3m,2s3z", "num_envs=32,256"])
    assert [(c.map, c.num_envs, c.seeds) for c in configs] == [
        ("3m", 32, 1),
        ("3m", 256, 1),
        ("2s3z", 32, 1),
        ("2s3z", 256, 1),
    ]
    _, configs = benchmark.plan(["what=env"])
    assert {c.num_envs for c in configs} == {32, 256, 2048} and {"2s3z", "3s5z_vs_3s6z"} <= {
        c.map for c in configs
    }
    _, configs = benchmark.plan(["map=2s3z"])
    assert len(configs) == 1


def test_learners_come_in_a_list_or_all_at_once():
    _, configs = benchmark.plan(["algo=qmix,seca", "map=2s3z"])
    assert [(c.algo, c.num_envs) for c in configs] == [("qmix", 32), ("seca", 64)]
    _, configs = benchmark.plan(["algo=all"])
    assert [c.algo for c in configs] == algos.names()


def test_environments_alone_are_measured_once_for_all_learners_in_them(monkeypatch):
    asked = []

    def measure(config, whats, devices, **options):
        asked.append((config.algo, config.num_envs, whats))
        return []

    monkeypatch.setattr(throughput, "measure", measure)
    assert benchmark.main("map=leader algo=vdn,qmix,seca device=cpu seeds=1".split()) == 0
    assert asked == [
        ("vdn", 32, ["env", "rollout", "train"]),
        ("qmix", 32, ["rollout", "train"]),
        ("seca", 64, ["env", "rollout", "train"]),  # as many environments as its default says
    ]


def test_shares_do_not_mix_learners():
    rows = [row("env", 100_000)]
    for algo, rate in (("vdn", 50_000), ("qmix", 25_000)):
        rows += [row("rollout", rate, algo=algo), row("train", 10_000, algo=algo)]
    one, two = benchmark.shares(rows)
    assert "vdn" in one and "recording 10.0 us" in one and "learning 80.0 us" in one
    assert "qmix" in two and "recording 30.0 us" in two and "learning 60.0 us" in two


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["what=everything"], "one of env, rollout, train, all"),
        (["map=2s3zz"], "did you mean 2s3z"),
        (["algo=qmix,qmx"], "algo=qmx: unknown"),
        (["algo=seca,qmix", "rollout=stream"], "qmix replays whole episodes"),
        (["num_envs=0"], "at least 1"),
        (["num_env=3"], "did you mean num_envs"),
        (["repeats=3"], "at least 5"),
        (["resume=runs/3m/seca/a"], "keeps no run and continues none"),
        (["json=/nowhere/rows.json"], "cannot be written"),
        (["what=env", "map=1c3s5z", "env.backend=upstream"], "jaxmarl has no 1c3s5z"),
        (["map=matrix", "algo=vdn", "rollout=stream"], "vdn replays whole episodes"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, words, message):
    assert benchmark.main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
