"""Win rates against environments of known difficulty, the CLI end to end, and replayed battles."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from seca_jax import algos, evaluate, report, runs, train
from seca_jax.config import compose
from seca_jax.config.schema import Config, CreditConfig
from seca_jax.config.words import repeated
from seca_jax.envs.base import Environment
from seca_jax.envs.smax import core
from seca_jax.show import film
from seca_jax.show.verdict import win_rate
from seca_jax.types import Assessment, Carry, Learner, Outcome, View


def coin_toss():
    """One agent; an episode lasts two steps and is won with the probability that the agent names."""

    def outcome(luck, time, action):
        last = time == 1
        won = last & (luck < action[:, 0] / 10)
        return Outcome(reward=5.0 * won, terminated=last, truncated=jnp.zeros_like(last), won=won)

    return Environment(
        name="coin",
        num_agents=1,
        num_actions=11,
        obs_size=1,
        state_size=1,
        max_steps=3,
        reward_scale=5.0,
        reset=lambda key, n: (jax.random.uniform(key, (n,)), jnp.zeros(n, jnp.int32)),
        step=lambda key, s, action: ((s[0], s[1] + 1), outcome(*s, action)),
        view=lambda s: View(s[0][:, None, None], jnp.ones((len(s[0]), 1, 11), bool), s[0][:, None]),
        restart=None,
        select=None,
    )


def namer():
    """An algorithm whose parameter is the action that it always takes, and only when greedy."""

    def act(params, carry, obs, avail, key, greedy):
        assert greedy
        return jnp.full(obs.shape[:2], params, jnp.int32), carry

    def carry(n):
        return Carry(jnp.zeros((n, 1, 1)), jnp.zeros((n, 1), jnp.int32))

    return Learner(init=None, train_step=None, act=act, initial_carry=carry)


def test_win_rates_of_every_seed_over_the_number_asked_for():
    episodes = evaluate.CHUNK + 44
    results = evaluate.win_rates(coin_toss(), namer(), jnp.array([0, 3, 10]), 1, episodes)
    assert results["won"].shape == (3, episodes)
    np.testing.assert_array_equal(results["length"], 2)
    np.testing.assert_allclose(results["return"], results["won"])  # in the environment's own unit
    rate = results["won"].mean(axis=1)
    assert rate[0] == 0 and rate[2] == 1
    assert abs(rate[1] - 0.3) < 4 * np.sqrt(0.3 * 0.7 / episodes)
    # Another chunk is other episodes.
    assert not np.array_equal(results["won"][1, :44], results["won"][1, evaluate.CHUNK :])


def test_the_document_has_the_promised_fields():
    results = {
        "won": np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool),
        "return": np.array([[2.0, 2, 0, 0], [2, 2, 2, 0]]),
        "length": np.array([[20, 30, 10, 20], [10, 10, 10, 30]]),
    }
    document = evaluate.summary(Config(map="3m", seed=7), 320_000, 99, results, played_on="3m", sampled=False)
    assert document == {
        "map": "3m",
        "trained_on": "3m",
        "algo": "seca",
        "policy": "greedy",
        "step": 320_000,
        "episodes": 4,
        "episode_seed": 99,
        "seeds": [
            {"seed": 7, "win_rate": 0.5, "ci95": list(win_rate(2, 4)), "return": 1.0, "length": 20.0},
            {"seed": 8, "win_rate": 0.75, "ci95": list(win_rate(3, 4)), "return": 1.5, "length": 15.0},
        ],
        "median_win_rate": 0.625,
    }
    median = list(evaluate.table(document).columns[2].cells)[-1]
    assert median == "0.500 to 0.750"  # over the two seeds
    chosen = evaluate.options(["run=x"])
    assert evaluate.pick(chosen, Config(seed=7), document) == 1
    assert evaluate.pick(evaluate.options(["run=x", "seed=7"]), Config(seed=7), document) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds on a probe game, a handful of updates long."""
    run = tmp_path_factory.mktemp("runs") / "probe"
    words = (
        "map=leader seeds=2 total_steps=64 num_envs=4 window=4 actor.hidden=8 critic.mixing=8 eval.episodes=4"
    )
    words += " log.interval=32 eval.interval=64 wandb.mode=disabled log.progress=false device=cpu"
    assert train.main([*words.split(), f"out={run}"]) == 0
    return run


def test_a_run_is_evaluated_from_its_directory(trained, tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    assert evaluate.main([str(trained), "episodes=20", f"json={numbers}"]) == 0
    document = json.loads(numbers.read_text())
    assert list(document) == [
        "map",
        "trained_on",
        "algo",
        "policy",
        "step",
        "episodes",
        "episode_seed",
        "seeds",
        "median_win_rate",
        "battle",
    ]
    assert document["battle"]["seed"] in (0, 1) and document["battle"]["steps"] >= 1
    assert document["step"] == 64 and document["episode_seed"] == 12345
    assert [row["seed"] for row in document["seeds"]] == [0, 1] and document["episodes"] == 20
    printed = capsys.readouterr().out
    assert "credit order (ig-episode" in printed and " > " in printed
    assert "no GIF written" in printed
    assert Image.open(trained / "credit_order.png").size[0] > 400
    assert not (trained / "battle.gif").exists() and not (trained / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["episodes=5"], "run=<directory> is required"),
        (["run=/nowhere"], "no run there"),
        (["run=RUN", "episods=5"], "did you mean episodes?"),
        (["run=RUN", "episodes=0"], "at least 1"),
        (["run=RUN", "episodes=many"], "a whole number"),
        (["run=RUN", "seed=2"], "seeds 0 to 1"),
        (["run=RUN", "seed=first"], "or best"),
        (["run=RUN", "json=/nowhere/numbers.json"], "cannot be written"),
        (["run=RUN", "json=/"], "is a directory"),
        (["run=RUN", "gif=/"], "ends in .gif, or none"),
        (["RUN", "gif=a.mp4"], "gif=a.mp4: give a file that ends in .gif, or none"),
        (["RUN", "plot=a.gif"], "ends in .png or .svg or .pdf, or none"),
        (["run="], "run=: empty (an unset shell variable?); give a path"),
        (["RUN", "gif="], "gif=: empty"),
        (["nowhere"], "nowhere: expected key=value"),
        (["run=RUN", "order=ig-0"], "credit.order=ig-0: must be"),
    ],
)
def test_bad_input_is_one_line_and_status_2(trained, capsys, words, message):
    assert evaluate.main([word.replace("RUN", str(trained)) for word in words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_spans_and_words():
    order = np.array([[0, 1], [0, 1], [1, 0], [0, 1]])
    assert [(a, b, o.tolist()) for a, b, o in film.spans(order)] == [
        (0, 1, [0, 1]),
        (2, 2, [1, 0]),
        (3, 3, [0, 1]),
    ]
    rollout = SimpleNamespace(action=np.zeros((4, 1, 2)))
    episode = film.Episode(
        rollout, None, np.array([0, 0, 0, 0, 1.5]), "won", ["x", "y"], np.ones((5, 2), bool)
    )
    told = film.told(episode, Assessment(order, np.zeros((4, 2))), "ig-1")
    assert json.loads(json.dumps(told)) == told and list(told)[:3] == ["steps", "return", "ending"]
    assert (told["steps"], told["return"], told["ending"], told["credit_order"]) == (4, 1.5, "won", "ig-1")
    assert [film.describe(part) for part in told["order"]] == [
        "steps 0 to 1: x > y",
        "step 2: y > x",
        "step 3: x > y",
    ]
    none = film.told(episode, None, "ig-1")
    assert none["order"] == [] and none["credit_order"] == ""


def test_a_battle_is_replayed_and_assessed(tmp_path):
    config = Config(map="3m", credit=CreditConfig(order="ig-10"))
    env = core.make("3m", reward_scale=10.0)
    algorithm = algos.make(config, env)
    params = algorithm.init(jax.random.key(0)).params
    episode = film.play(env, algorithm, params, jax.random.key(1))
    steps = len(episode.rollout.action)
    assert len(episode.frames.x) == len(episode.returns) == steps + 1 <= env.max_steps + 1
    np.testing.assert_allclose(episode.returns[-1], episode.rollout.reward.sum() / 10.0, rtol=1e-5)
    ended = np.asarray(episode.rollout.terminated | episode.rollout.truncated)[:, 0]
    assert ended[-1] and not ended[:-1].any()

    order, contribution = film.assess(algorithm, params, episode.rollout)
    assert order.shape == contribution.shape == (steps, 3)
    for start in range(0, steps, 10):
        stage = slice(start, start + 10)
        expected = np.argsort(-contribution[stage].sum(0), kind="stable")
        if start == steps - 1:  # a last step that is a stage of its own has no segment to be ordered by
            expected = order[start - 1]
        assert (order[stage] == expected).all()

    assert episode.names == ["0 marine", "1 marine", "2 marine"]
    assert episode.alive.shape == (steps + 1, 3) and episode.alive[0].all()
    assessment = Assessment(order, contribution)
    options = {"title": "3m", "size": 320}
    film.draw(tmp_path / "plain.gif", episode, **options)
    film.draw(tmp_path / "credit.gif", episode, assessment=assessment, **options)
    plain, credit = Image.open(tmp_path / "plain.gif"), Image.open(tmp_path / "credit.gif")
    assert plain.size[0] == 320 and credit.size[0] > 450  # the panel beside it
    assert plain.size[1] == credit.size[1] and plain.n_frames == credit.n_frames

    stills = film.stills(episode, order, size=120)
    assert [still.step for still in stills][:: len(stills) - 1] == [0, steps]
    assert all(still.image.size == (120, 120) for still in stills) and episode.ending in stills[-1].caption


def test_a_learner_without_an_order_has_none_to_show(tmp_path, capsys):
    compose.save(tmp_path, Config(algo="coma"), {})
    assert evaluate.main([f"run={tmp_path}", "order=prob"]) == 2
    assert "coma assigns credit in no order" in capsys.readouterr().err


def test_a_directory_alone_is_the_run_even_where_a_sweep_has_named_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    swept = [f"runs/credit.order={name}" for name in ("prob", "fixed")]
    for name in swept:
        (tmp_path / name).mkdir(parents=True)
    assert report.options([*swept, "out=all.html"])[0] == swept
    assert not repeated(swept)
    assert runs.named(["runs/credit.order=prob", "seed=1"]) == ["run=runs/credit.order=prob", "seed=1"]
    assert runs.named(["./runs", "absent", "run=runs"]) == ["run=./runs", "absent", "run=runs"]
