"""Programs for accelerators, made without one: what they consist of."""

import re

import jax
import pytest

from seca_jax import algos, envs
from seca_jax.config import compose

LOOPS = 20  # that a whole update runs; each round of a loop is a few kernels to launch


def loops(jaxpr):
    """Loops that a program runs, those inside others counted once; of alternatives the one with the most."""
    count = 0
    for eqn in jaxpr.eqns:
        inner = [
            loops(x)
            for x in jax.tree.leaves(eqn.params)
            for x in [getattr(x, "jaxpr", x)]
            if hasattr(x, "eqns")
        ]
        count += eqn.primitive.name in ("scan", "while")
        count += max(inner) if eqn.primitive.name == "cond" else sum(inner)
    return count


@pytest.mark.parametrize("algo", ["seca", "qmix"])
def test_an_update_lowers_for_gpu_and_tpu_without_foreign_calls(algo, monkeypatch):
    """Neither LAPACK nor a kernel of somebody's own: XLA compiles all of it."""
    config = compose.from_words(["map=3m", f"algo={algo}", "q.episodes=64"])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # batches are then worked on in one piece
    learner = algos.make(config, envs.make(config))
    state = jax.eval_shape(
        jax.vmap(learner.init), jax.eval_shape(lambda: jax.random.split(jax.random.key(0)))
    )
    traced = jax.jit(jax.vmap(learner.train_step)).trace(state)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert set(re.findall(r"custom_call @(\w+)", text)) == set()
    run = loops(traced.jaxpr.jaxpr)
    print(f"{algo}: {run} loops")
    assert 0 < run <= LOOPS


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
