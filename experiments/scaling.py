"""What a training step costs against agents and environments: python experiments/scaling.py

    python experiments/scaling.py maps=3m,2s3z num_envs=64 json=scaling.json

For every map and number of environments one seed's train step: arithmetic by count (two operations for each
multiply-add of a matrix product, along every loop; what XLA leaves out or computes again is not seen), memory
that the compiled program reserves, and measured time; beside them, in the same run, the rate of large matrix
products and of products of the networks' widths. Rows in experiments/results/scaling.{json,md} unless json=
says otherwise. Other keys are a training run's. Options:
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measured
import numpy as np

from seca_jax.config import commands, compose
from seca_jax.config.keys import key
from seca_jax.config.words import options as checked_options

RESULTS = Path(__file__).parent / "results"
REPEATS = 5


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    maps: str = key("3m,2s3z,3s5z,MMM2,27m_vs_30m", "maps, separated by commas")
    num_envs: str = key("64", "numbers of environments, separated by commas")
    json: str = key("", "file for the rows; a .md lies beside it")


def products(jaxpr: Any) -> int:
    """Floating-point operations of a jaxpr's matrix products, loops of known length counted through."""
    total = 0
    for equation in jaxpr.eqns:
        params = equation.params
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += (
                2 * int(np.prod(equation.outvars[0].aval.shape)) * int(np.prod([left[i] for i in contracted]))
            )
            continue
        if equation.primitive.name == "cond":  # the costliest branch
            total += max(products(branch.jaxpr) for branch in params["branches"])
            continue
        for value in params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += products(inner) * (params["length"] if equation.primitive.name == "scan" else 1)
    return total


def rate(shape: tuple[int, int, int], seconds: float = 0.5) -> float:
    """Operations a second of a matrix product [m, k] x [k, n] by all cores."""
    import jax
    import jax.numpy as jnp

    m, k, n = shape
    multiply = jax.jit(lambda a, b: a @ b)
    a, b = jnp.ones((m, k)), jnp.ones((k, n))
    multiply(a, b).block_until_ready()
    rates, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        multiply(a, b).block_until_ready()
        rates.append(2 * m * k * n / (time.perf_counter() - began))
    return float(np.median(rates))


def measure(words: list[str]) -> dict[str, Any]:
    """One train step's row."""
    import jax

    from seca_jax.runtime import session

    config = compose.from_words(words)
    _, env, learner = session.prepare(config)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    steps = config.num_envs * config.window
    operations = products(jax.make_jaxpr(learner.train_step)(state).jaxpr) / steps
    step = jax.jit(learner.train_step, donate_argnums=0).lower(state).compile()
    memory: Any = step.memory_analysis()
    current: Any = step(jax.jit(learner.init)(jax.random.key(0)))[0]
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        current = jax.block_until_ready(step(current)[0])
        times.append(time.perf_counter() - began)
    return {
        "map": config.map,
        "agents": env.num_agents,
        "num_envs": config.num_envs,
        "mega_operations": operations / 1e6,
        "bytes": int(memory.temp_size_in_bytes + memory.argument_size_in_bytes),
        "microseconds": float(np.median(times)) / steps * 1e6,
    }


def cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The rows as a table's, the first naming the columns."""
    names = ["map", "agents", "environments", "M operations a step", "us a step", "G operations/s", "MiB"]
    table = [names]
    for row in rows:
        reached = row["mega_operations"] / row["microseconds"]
        numbers = [f"{row['mega_operations']:.1f}", f"{row['microseconds']:.0f}", f"{1e3 * reached:.0f}"]
        where = [row["map"], str(row["agents"]), str(row["num_envs"])]
        table.append([*where, *numbers, f"{row['bytes'] / 2**20:.0f}"])
    return table


def report(words: list[str]) -> None:
    """Measure what the words ask for and write it; raises ConfigError, OSError."""
    own = {"maps", "num_envs", "json"}
    options: Options = checked_options([w for w in words if w.partition("=")[0] in own], Options)
    rest = [word for word in words if word.partition("=")[0] not in own]
    from seca_jax.runtime.session import prepare

    used = prepare(compose.from_words([*rest, f"map={options.maps.split(',')[0]}", "seeds=1"]))[0]
    shapes = {"1024 x 1024 x 1024": (1024, 1024, 1024), "320 x 64 x 192": (320, 64, 192)}
    document = measured.origin("experiments/scaling.py", words, used)
    document |= {"products": {name: rate(shape) for name, shape in shapes.items()}, "rows": []}
    for map_name in options.maps.split(","):
        for number in options.num_envs.split(","):
            row = measure([*rest, f"map={map_name}", f"num_envs={number}", "seeds=1"])
            document["rows"].append(row)
            print(
                f"{map_name}, {number}: {row['mega_operations']:.1f} M operations, "
                f"{row['microseconds']:.0f} us a step",
                flush=True,
            )
    speeds = ", ".join(f"{name}: {value / 1e9:.0f}" for name, value in document["products"].items())
    path = Path(options.json) if options.json else RESULTS / "scaling.json"
    measured.save(path, document, cells(document["rows"]), f"G operations/s of matrix products, {speeds}")


def main(words: list[str]) -> int:
    """The command line; exit status 0 done, 2 bad input."""
    return commands.call(report, words, lambda: commands.usage((__doc__ or "").strip(), Options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
