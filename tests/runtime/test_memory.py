"""What a run will take, told before it is compiled: against sums by hand, and against what XLA reserves."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seca_jax.runtime import memory

SIDE = 64
MATRIX = SIDE * SIDE * 4  # bytes
x = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)


def held(function, *arguments):
    return memory.peak(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_products_exist_and_what_is_done_to_their_elements_does_not():
    assert held(lambda x: (x @ x) @ x, x) == 2 * MATRIX  # the first, while the second comes to be
    assert held(lambda x: x @ x @ x @ x, x) == 2 * MATRIX  # not three: the first has been read
    assert held(lambda x: jnp.sum(jnp.tanh(x) + 1.0), x) == 4  # a number
    assert held(lambda x: jnp.tanh(x) @ x, x) == 2 * MATRIX  # a product reads its operands from memory


def test_a_loop_changes_what_it_carries_in_place():
    def loop(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y @ x), x)

    # The product inside, what becomes of it, and the next count of rounds
    assert held(loop, x) == 2 * MATRIX + 4

    def kept(x):
        return jax.lax.scan(lambda y, _: (y + 1.0, y @ x), x, None, length=5)[1]

    # Five products, one more on the way, and the next y
    assert held(kept, x) == 7 * MATRIX


def test_a_branch_needs_as_much_as_its_larger_side():
    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: (x @ x) @ (x @ x), lambda x: x, x)

    assert held(branch, x) == 4 * MATRIX + 4  # two products and theirs; the result; the condition


def test_functions_are_read_as_if_they_were_written_out():
    @jax.jit
    def square(x):
        return x @ x

    assert held(lambda x: jnp.sum(square(x)), x) == MATRIX + 4


def test_sizes_are_those_of_raw_numbers():
    tree = {"key": jax.random.key(0), "many": jax.ShapeDtypeStruct((3, 5), jnp.int8), "none": None}
    assert memory.size(tree) == 8 + 15


def test_a_run_says_what_it_takes_and_is_refused_where_it_cannot_fit(stubbed, refused, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    complaint = refused("map=3m", "num_envs=16", "wandb.mode=disabled")
    assert complaint.startswith("memory: about 0.0 MiB ")
    assert ", and there are 0.0 MiB; give less of " in complaint and "seeds=5" in complaint


def test_advice_names_what_the_learner_reads():
    from seca_jax.config import compose

    def advice(part, *words):
        return memory.advice(compose.from_words(["map=3m", *words]), {part: 2, memory.CHECKPOINT: 3})

    assert advice(memory.REPLAY, "algo=qmix") == "give less of q.memory=1024 or q.episodes=5000"
    assert "num_envs" not in advice(memory.UPDATE, "algo=qmix")  # learns from what it replays
    assert "hypernet" not in advice(memory.NETWORKS)
    assert "critic.hypernet_hidden=32" in advice(memory.NETWORKS, "critic.kind=joint")
    assert advice(memory.UPDATE).startswith("give less of num_envs=64 or window=64")
    assert "window" not in advice(memory.UPDATE, "rollout=episode")
    assert "seeds" not in advice(memory.ENVIRONMENTS, "seeds=1")  # fewer there cannot be


def test_advice_names_what_has_been_raised_if_anything_has():
    from seca_jax.config import compose

    words = ["map=3m", "lookahead=3", "actor.hidden=640", "seeds=1", "q.hypernet=128"]
    assert memory.advice(compose.from_words(words), {memory.UPDATE: 2}) == (
        "give less of actor.hidden=640 or lookahead=3"
    )


def test_whatever_takes_most_at_once_is_told():
    """Windows that wait by themselves; evaluation where it takes more than an update; a copy to be saved."""
    from seca_jax.config import compose
    from seca_jax.runtime import session

    def told(**changes):
        words = [f"{name}={value}" for name, value in ({"map": "3m", "seeds": 1} | changes).items()]
        config = compose.from_words(words)
        return memory.told(config, session.functions_of(config, session.devices_of(config)))

    assert "evaluation" not in told() and memory.WAITING not in told() and memory.CHECKPOINT not in told()
    assert memory.WAITING in told(lookahead=2) and memory.CHECKPOINT in told(lookahead=2, out="runs/x")
    with pytest.raises(memory.ConfigError, match="evaluation .* less of eval.episodes=1"):
        told(**{"eval.episodes": 10**8})


def test_free_memory_is_told():
    free = memory.free_memory()
    assert free is None or free > 2**20


MEASURE = """
    import sys
    import jax, numpy as np
    from seca_jax.config import compose
    from seca_jax.runtime import memory, session

    config = compose.from_words(sys.argv[1:])
    functions = session.functions_of(config, session.prepare(config)[0])
    compiled = functions.chunk.lower(*functions.arguments).compile().memory_analysis()
    kept = compiled.argument_size_in_bytes + compiled.output_size_in_bytes - compiled.alias_size_in_bytes
    print(memory.predict(functions).training / (kept + compiled.temp_size_in_bytes))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "map=3m",
        "map=2s3z",
        "map=2s3z algo=qmix",
        "map=2s3z preset=paper seeds=1",
        "map=MMM2 seeds=2",
        "map=2s3z num_envs=256 seeds=2",
    ],
)
def test_the_prediction_is_what_xla_reserves(words, monkeypatch):
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS", raising=False)
    monkeypatch.delenv("XLA_FLAGS")
    code = "\n".join(line.removeprefix("    ") for line in MEASURE.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert np.isclose(float(done.stdout), 1.0, atol=0.2)
