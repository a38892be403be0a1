"""experiments/devices.py: what it reads off a compiled program, and its tables."""

import sys

import jax
import jax.numpy as jnp
from documents import ROOT

sys.path.insert(0, str(ROOT / "experiments"))
try:
    import devices
finally:
    sys.path.remove(str(ROOT / "experiments"))


def launches(function, *arguments):
    compiled = devices.Compiled(jax.jit(function).lower(*arguments).compile().as_text())
    return compiled.launches(compiled.entry)


def test_rounds_of_loops_inside_loops_are_multiplied():
    def inner(x, _):
        return jnp.sin(x @ x), None

    def outer(x, _):
        return jax.lax.scan(inner, x, None, length=3)[0] + 1.0, None

    x = jnp.ones((8, 8))
    once, more = (
        launches(lambda x: inner(x, None)[0], x),
        launches(lambda x: jax.lax.scan(outer, x, None, length=5)[0], x),
    )
    assert (once.loops, once.rounds) == (0, 0) and once.kernels >= 1
    assert (more.loops, more.rounds) == (2, 5 + 5 * 3)
    assert more.kernels >= 5 * 3 * once.kernels


def test_of_branches_the_longest_counts():
    def function(x, flag):
        return jax.lax.cond(flag, lambda x: jnp.sort(x @ x, axis=0) @ x, lambda x: x, x)

    assert launches(function, jnp.ones((8, 8)), True).kernels >= 3


def test_tables_say_by_how_much_a_prediction_is_off():
    row = {"words": "map=3m", "devices": 2, "predicted": 2**20, "reserved": 2**21, "resident": 2**21}
    _, cells = devices.memory_cells([row])
    assert cells == ["`map=3m`", "2", "1.0", "2.0", "-50.0 %", "2.0", "2.0", "+0.0 %"]


def test_what_the_rows_differ_in_cannot_be_given(capsys):
    for words, complaint in (
        (["what=meshes", "algo=mappo"], "algo=mappo: what=meshes has its own, or none; leave the key out"),
        (["what=program", "algo=mapo"], "algo=mapo: unknown (did you mean mappo?)"),
        (["what=row"], "what=row: unknown; one of memory, meshes, program"),
    ):
        assert devices.main(words) == 2
        assert complaint in capsys.readouterr().err
