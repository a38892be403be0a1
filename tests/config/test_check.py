"""Every line of bad input: one line on standard error, status 2, nothing written."""

import pytest

from seca_jax import algos, envs
from seca_jax.config.check import ConfigError, check
from seca_jax.config.compose import from_words
from seca_jax.config.keys import replace
from seca_jax.config.schema import Config
from seca_jax.credit import names

MAPS = ", ".join(envs.names())
ALGOS = ", ".join(algos.names())


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("fooo=1", "unknown key fooo; --help lists all keys"),
        ("total_step=1", "unknown key total_step (did you mean total_steps?); --help lists all keys"),
        ("actor.lrr=1", "unknown key actor.lrr (did you mean actor.lr?); --help lists all keys"),
        ("crdit.order=prob", "unknown key crdit.order (did you mean credit.order?); --help lists all keys"),
        (  # not actor.minibatches, which looks like it only by the group
            "actor.learning_rate=1",
            "unknown key actor.learning_rate; actor has actor.hidden, actor.kind, actor.shared, actor.start, "
            "actor.lr, actor.max_grad_norm, actor.entropy, actor.entropy_final, actor.normalise, "
            "actor.epochs, actor.minibatches, actor.clip",
        ),
        (
            "log.every=1",
            "unknown key log.every; log has log.interval, log.progress, log.tensorboard",
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
        ("--map=3m", "--map=3m: write map=3m; --help lists all keys"),
        ("--num-envs=8", "--num-envs=8: write num_envs=8; --help lists all keys"),
        ("--lr-decay", "--lr-decay: write lr_decay=true; --help lists all keys"),
        ("map:3m", "map:3m: write map=3m; --help lists all keys"),
        ("seeds", "seeds: write seeds=...; --help lists all keys"),
        ("resume=", "resume=: empty (an unset shell variable?); give a path, or leave the key out"),
        ("resume= ", "resume=: empty (an unset shell variable?); give a path, or leave the key out"),
        ("out=", "out=: empty (an unset shell variable?); give a path, or leave the key out"),
        ("map=", "map=: empty (an unset shell variable?); give a value, or leave the key out"),
        ("seeds=", "seeds=: empty (an unset shell variable?); give a value, or leave the key out"),
        ("--version", "--version: expected key=value; --help lists all keys"),
        ("help", "help: expected key=value (did you mean --help?); --help lists all keys"),
        ("", "an empty word (an unset shell variable?); expected key=value"),
        (
            "learning_rate=1",
            "unknown key learning_rate (did you mean lr_decay or actor.lr or critic.lr or q.lr?); "
            "--help lists all keys",
        ),
        ("gamma=0,99", "gamma=0,99: expected a number (write 0.99)"),
        ("total_steps=1,000,000", "total_steps=1,000,000: expected a whole number (write 1_000_000)"),
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
        ("algo=PQN-VDN", f"algo=PQN-VDN: unknown (did you mean pqn_vdn?); one of {ALGOS}"),
        ("map=mmm2", f"map=mmm2: unknown (did you mean MMM2?); one of {MAPS}"),
        ("map=3n", f"map=3n: unknown (did you mean 3m?); one of {MAPS}"),
        ("algo=secca", f"algo=secca: unknown (did you mean seca?); one of {', '.join(algos.names())}"),
        ("preset=papers", "preset=papers: unknown; one of accelerator, default, paper"),
        ("preset=Paper", "preset=Paper: unknown (did you mean paper?); one of accelerator, default, paper"),
        ("algo=SeCA", f"algo=SeCA: unknown (did you mean seca?); one of {', '.join(algos.names())}"),
        (
            "num_envs=1",
            "actor.minibatches=4 and critic.minibatches=4 must divide num_envs=1, as actor.minibatches=1 "
            "critic.minibatches=1 would",
        ),
        ("lookahead=65", "lookahead=65: must lie between 0 and 64"),
        ("rollout=streams", "rollout=streams: unknown; one of stream, episode"),
        ("device=cuda", "device=cuda: unknown; one of auto, cpu, gpu, tpu"),
        ("seeds=0", "seeds=0: must be at least 1"),
        ("num_envs=-1", "num_envs=-1: must be at least 1"),
        ("window=0", "window=0: must lie between 1 and 4096"),
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


def test_a_run_that_would_never_learn_is_refused(refused):
    assert refused("preset=accelerator", "total_steps=8192") == (
        "total_steps=8192: 2 updates of num_envs*window=4096 steps, and lookahead=2 "
        "(preset=accelerator's) leaves the first 2 nothing to learn from; give more than 8192, or less of "
        "lookahead"
    )


@pytest.mark.parametrize("order", ["ig", "ig-", "ig-0", "ig--3", "ig-x", "reversed"])
def test_bad_orders_are_refused(refused, order):
    assert refused(f"credit.order={order}") == f"credit.order={order}: must be {names.ALLOWED}"


@pytest.mark.parametrize(
    "order", ["ig-episode", "ig-1", "ig-10", "ig-20", "ig-7", "prob", "entropy", "random", "fixed"]
)
def test_good_orders_are_not(order):
    from_words([f"credit.order={order}"])


def test_a_run_needs_one_update(refused):
    complaint = refused("num_envs=32", "window=32", "total_steps=1000")
    assert (
        complaint
        == "total_steps=1000: less than one update, num_envs*window=1024 steps; give more, or fewer num_envs"
    )


def test_whole_episodes_need_one_episode_of_each_environment(refused):
    complaint = refused("rollout=episode", "num_envs=32", "total_steps=31")
    assert complaint == "total_steps=31: less than one update, num_envs=32 whole episodes"


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_minibatches_must_divide_the_environments(refused, part):
    other = {"actor": "critic", "critic": "actor"}[part]
    complaint = refused("num_envs=32", f"{other}.minibatches=1", f"{part}.minibatches=5")
    assert complaint == f"{part}.minibatches=5 must divide num_envs=32, as {part}.minibatches=4 would"


def test_unread_keys_have_no_say():
    """Minibatches are not the Q-learners', nor is the order anybody's but SeCA's."""
    from_words(["algo=qmix", "num_envs=3", "credit.order=none", "critic.hypernet_hidden=none"])


def test_check_names_the_key_of_a_wrong_type():
    with pytest.raises(ConfigError, match="seeds=2.0: expected a whole number"):
        check(replace(Config(), "seeds", 2.0))
