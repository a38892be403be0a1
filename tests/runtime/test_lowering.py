"""Programs for accelerators, made without one: what they consist of."""

import re

import jax
import pytest

from seca_jax import algos, envs
from seca_jax.config import compose
from seca_jax.config.schema import steps_per_update

LOOPS = 20  # that a whole update runs; each round of a loop is a few kernels to launch


def loops(jaxpr):
    """(loops, rounds of them) that a program runs one after the other; of alternatives the one with the most.

    A loop inside another is counted once, and its rounds in every round of the other; a loop whose length is
    not written down has one.
    """
    count = rounds = 0
    for eqn in jaxpr.eqns:
        inner = [
            loops(x)
            for x in jax.tree.leaves(eqn.params)
            for x in [getattr(x, "jaxpr", x)]
            if hasattr(x, "eqns")
        ]
        together = max if eqn.primitive.name == "cond" else sum
        within, turns = (together(numbers) for numbers in zip(*inner)) if inner else (0, 0)
        loop = eqn.primitive.name in ("scan", "while")
        length = eqn.params.get("length", 1) if loop else 1
        count, rounds = count + loop + within, rounds + length * (loop + turns)
    return count, rounds


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("algo=seca", 0),
        ("algo=qmix q.episodes=64", 0),
        ("algo=seca preset=accelerator", 1),  # the present policies' view of a batch that older ones played
    ],
)
def test_an_update_lowers_for_gpu_and_tpu_without_foreign_calls(words, more, monkeypatch):
    """Neither LAPACK nor a kernel of somebody's own: XLA compiles all of it."""
    config = compose.from_words(["map=3m", *words.split()])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # batches are then worked on in one piece
    learner = algos.make(config, envs.make(config))
    state = jax.eval_shape(
        jax.vmap(learner.init), jax.eval_shape(lambda: jax.random.split(jax.random.key(0)))
    )
    traced = jax.jit(jax.vmap(learner.train_step)).trace(state)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert set(re.findall(r"custom_call @(\w+)", text)) == set()
    run, rounds = loops(traced.jaxpr.jaxpr)
    print(f"{words}: {run} loops, {rounds} rounds an update")
    assert 0 < run <= LOOPS + more


def test_many_environments_take_few_rounds_a_step():
    """What an accelerator does one after the other, for an environment step of preset=accelerator's."""

    def rounds(preset):
        config = compose.from_words(["map=3m", f"preset={preset}"])
        learner = algos.make(config, envs.make(config))
        state = jax.eval_shape(learner.init, jax.eval_shape(lambda: jax.random.key(0)))
        return loops(jax.make_jaxpr(learner.train_step)(state).jaxpr)[1] / steps_per_update(config)

    assert rounds("accelerator") < rounds("default") / 4


@pytest.mark.parametrize("matmul", ["default", "bfloat16", "float32"])
def test_all_products_of_an_update_are_as_precise_as_asked(matmul):
    config = compose.from_words(["map=3m", f"matmul={matmul}"])
    learner = algos.make(config, envs.make(config))
    state = jax.eval_shape(learner.init, jax.eval_shape(lambda: jax.random.key(0)))
    traced = jax.jit(learner.train_step).trace(state)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    marks = {"bfloat16": "lhs_precision_type = bf16", "float32": "precision = [HIGHEST, HIGHEST]"}
    assert len(products) > 20
    for name, mark in marks.items():
        assert all((mark in line) == (name == matmul) for line in products)
