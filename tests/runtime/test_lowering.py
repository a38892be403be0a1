"""Programs for accelerators, made without one: what they consist of."""

import re

import jax
import pytest

from seca_jax import algos, envs
from seca_jax.config import compose

LOOPS = 20  # of a whole update; each round of a loop is a few kernels to launch


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
        loops = text.count("stablehlo.while")
        print(f"{algo}: {loops} loops on {platform}")
        assert 0 < loops <= LOOPS
