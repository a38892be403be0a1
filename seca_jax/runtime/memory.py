"""How much memory a run will take on each device, told before anything is compiled or allocated.

The state is what its shapes say. What an update needs besides (its batch of experience, gradients, what is
computed on the way) is read off the traced program: from one operation to the next, which arrays are still
to be used. That is how XLA assigns memory, too, but for what it leaves out: operations on single elements
are fused into those that read them, so their results never exist, and loops update what they carry in place.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from seca_jax.config.check import ConfigError
from seca_jax.config.compose import compose
from seca_jax.config.keys import get
from seca_jax.config.learners import idle
from seca_jax.config.schema import Config
from seca_jax.runtime.devices import Device, is_key

# XLA's arrays have gaps, and it leaves some operations out of its fusions: of six programs on a CPU it
# reserved for an update 0.97 (the paper's critic) to 1.5 times what is counted, mostly 1.3
GAPS = 1.25
# Operations whose results exist in memory, and whose operands must: all others are fused
WHOLE = ("dot_general", "conv", "sort", "top_k", "approx_top_k", "fft", "custom_call", "ffi_call")
REDUCING = ("reduce", "arg", "cum")  # their results exist; what they read may be computed as they read it
LOOPS = ("scan", "while", "cond")
CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call", "checkpoint",
         "remat2", "shard_map")  # fmt: skip
SAME = ("reshape", "squeeze", "expand_dims", "copy", "copy_p", "optimization_barrier", "random_wrap",
        "random_unwrap")  # the operand's memory under another name  # fmt: skip
IN_PLACE = ("dynamic_update_slice", "scatter")  # written into the first operand

# What memory goes to, in words, and which keys make it less
NETWORKS, REPLAY, WAITING = "networks and optimisers", "replay", "windows that wait"
ENVIRONMENTS, CHECKPOINT = "environments", "a checkpoint as it is written"
UPDATE, EVALUATION = "an update's batch and gradients", "evaluation"
WIDTHS = (
    *("actor.hidden", "critic.hypernet_hidden", "critic.value_hidden", "critic.mixing", "critic.pairs"),
    *("q.hypernet", "q.mixing", "q.heads", "q.depth"),
)
LESS = {
    NETWORKS: (*WIDTHS, "seeds"),
    REPLAY: ("q.memory", "q.episodes"),
    WAITING: ("lookahead", "num_envs", "window", "seeds"),
    ENVIRONMENTS: ("num_envs", "seeds"),
    UPDATE: ("num_envs", "window", "q.batch", "lookahead", "shapley.samples", *WIDTHS, "seeds"),
    EVALUATION: ("eval.episodes", "actor.hidden", "seeds"),
}
NAMED = 3  # of them, where none stands out


class Prediction(NamedTuple):
    """Bytes on each device."""

    networks: int  # parameters, target parameters and the optimisers' moments
    replay: int
    waiting: int  # windows that have not been learned from, under lookahead
    rest: int  # of the state: environments, counters
    update: int  # what an update needs besides the state
    evaluation: int  # what evaluation needs besides the state

    @property
    def state(self) -> int:
        """What is there from start to end, and what a checkpoint holds."""
        return self.networks + self.replay + self.waiting + self.rest

    @property
    def training(self) -> int:
        """The most at once while training: an update's and the state's."""
        return self.state + self.update


def predict(functions: Any) -> Prediction:
    """What training takes on each device, of the :class:`~seca_jax.runtime.program.Functions` of a run."""
    along, sharing = functions.mesh.shape
    arguments = functions.arguments
    state = arguments[1]
    names = ("params", "target", "replay", "waiting")
    parts = {name: size(getattr(state, name, None)) // along for name in names}
    optimisers = [name for name in getattr(state, "__dict__", ()) if name == "opt" or name.endswith("_opt")]
    networks = parts["params"] + parts["target"]
    networks += sum(size(getattr(state, name)) for name in optimisers) // along
    rest = size(arguments[:3]) // along - networks - parts["replay"] - parts["waiting"]
    update = int(GAPS * peak(functions.chunk.trace(*arguments).jaxpr.jaxpr))
    if sharing > 1:  # each has its share of the environments, and gradients of its own
        update = update // sharing + parts["params"]
    tested = functions.test.trace(functions.by_seed, state.params, state.updates)
    evaluation = int(GAPS * peak(tested.jaxpr.jaxpr))
    return Prediction(networks, parts["replay"], parts["waiting"], rest, update, evaluation)


def size(tree: Any) -> int:
    """Bytes of a tree of arrays or ShapeDtypeStructs, typed PRNG keys as their raw data."""

    def one(x: Any) -> int:
        plain = jax.eval_shape(jax.random.key_data, x) if is_key(x) else x
        return int(np.prod(plain.shape)) * plain.dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


def available(devices: list[Device]) -> int | None:
    """Bytes that each of the devices of this process may take; None: nobody says.

    Cores of a CPU have one memory: what is free of it, evenly.
    """
    own = [device for device in devices if device.process_index == jax.process_index()]
    if own[0].platform != "cpu":
        limits = [(device.memory_stats() or {}).get("bytes_limit") for device in own]
        return min((limit for limit in limits if limit), default=None)
    free = free_memory()
    return None if free is None else free // len(own)


def free_memory() -> int | None:
    """Bytes of main memory that this process may still take; None: the system does not tell."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass
    try:  # a container's own limit
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("max", "current"))
        cache = [
            int(line.split()[1])
            for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        ]
        found.append(int(limit) - int(used) + sum(cache))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def told(config: Config, functions: Any) -> str:
    """A line for the start of a run: how much it will take.

    Raises:
        ConfigError: more than there is; it says what takes it and what would take less.
    """
    found, devices = predict(functions), functions.mesh
    cpu = devices.flat[0].platform == "cpu"
    parts = {
        NETWORKS: found.networks,
        REPLAY: found.replay,
        WAITING: found.waiting,
        ENVIRONMENTS: found.rest,
    }
    if found.update >= found.evaluation:  # they take turns
        parts[UPDATE] = found.update
    else:
        parts[EVALUATION] = found.evaluation
    if cpu and config.out:  # an accelerator's is in main memory
        parts[CHECKPOINT] = found.state
    total = sum(parts.values())
    where = "on each device" if devices.size > 1 else "in all"
    shown = ", ".join(f"{name} {mebi(part)}" for name, part in parts.items() if part >= total / 100)
    line = f"memory: about {mebi(total)} {where} ({shown})"
    limit = available(list(devices.flat))
    if limit is None or total <= limit:
        return line
    # A CPU's have one memory
    each, more = (" for each", "") if cpu and devices.size > 1 else ("", "" if cpu else ", or more devices")
    raise ConfigError(f"{line}, and there are {mebi(limit)}{each}; {advice(config, parts)}{more}")


def advice(config: Config, parts: dict[str, int]) -> str:
    """What to change where memory does not suffice: of the keys that what takes most of it depends on, those
    that are above the learner's defaults; the first few, where none is."""
    most = max(LESS, key=lambda name: parts.get(name, 0))  # a checkpoint is as large as these make it
    usual = compose({"algo": config.algo})
    unread = ["window"] if config.rollout == "episode" else []
    if most == UPDATE and not idle("q.batch", config):  # what is played is learned from by and by
        unread.append("num_envs")
    keys = [name for name in LESS[most] if name not in unread and not idle(name, config)]
    keys = [name for name in keys if get(config, name) not in (0, 1)]
    raised = [name for name in keys if amount(get(config, name)) > amount(get(usual, name))]
    raised.sort(key=lambda name: -amount(get(config, name)) / max(amount(get(usual, name)), 1))
    named = raised or keys[:NAMED] or list(LESS[most][:1])
    return f"give less of {' or '.join(f'{name}={get(config, name)}' for name in named)}"


def amount(value: int | str) -> float:
    """A key's value as a number; a word, ``critic.hypernet_hidden=paper``, stands for a thousand or so."""
    return float(value) if str(value).isdecimal() else 1000.0


def mebi(count: int) -> str:
    """Bytes in words, ``1,234 MiB``."""
    return f"{count / 2**20:,.1f} MiB" if count < 100 * 2**20 else f"{count / 2**20:,.0f} MiB"


# --- what a traced program holds at once ----------------------------------------------------------------


class Step(NamedTuple):
    """One operation, calls of functions dissolved."""

    name: str
    inner: tuple[Any, ...]  # the jaxprs that a loop or a branch runs
    carried: slice  # which operands of a loop it hands on, and returns first
    operands: list[Any]  # variables; None: a constant of the program
    results: list[Any]


def steps_of(jaxpr: Any) -> tuple[list[Step], list[Any]]:
    """A jaxpr's operations in order, with the functions that it calls written out; and its results."""
    steps: list[Step] = []

    def go(jaxpr: Any, known: dict[Any, Any]) -> list[Any]:
        def read(v: Any) -> Any:
            return None if isinstance(v, core.Literal) else known.get(v, v)

        for eqn in jaxpr.eqns:
            name, operands = eqn.primitive.name, [read(v) for v in eqn.invars]
            inner = tuple(_jaxprs(eqn.params))
            if name in CALLS and inner:
                called = inner[0]
                results = go(called, dict(zip(called.invars, operands[-len(called.invars) :])))
                known.update(zip(eqn.outvars, results))
                continue
            carried = slice(0, 0)
            if name == "while":
                carried = slice(eqn.params["cond_nconsts"] + eqn.params["body_nconsts"], None)
            elif name == "scan":
                start = eqn.params["num_consts"]
                carried = slice(start, start + eqn.params["num_carry"])
            steps.append(Step(name, inner if name in LOOPS else (), carried, operands, list(eqn.outvars)))
        return [read(v) for v in jaxpr.outvars]

    return steps, go(jaxpr, {})


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else [value]:
            if hasattr(one, "jaxpr"):
                yield one.jaxpr
            elif hasattr(one, "eqns"):
                yield one


def peak(jaxpr: Any) -> int:
    """Most bytes that a traced program holds at once, besides what it is given."""
    steps, results = steps_of(jaxpr)
    given = {*jaxpr.invars, *jaxpr.constvars}
    whole, base, cheap = _whole(steps, given)
    whole |= {v for v in map(base, results) if v is not None and v not in given}

    # A variable that is not whole is computed where it is read, from these that are
    sources: dict[Any, frozenset] = {}
    last: dict[Any, int] = {}
    for i, step in enumerate(steps):
        read = frozenset[Any]().union(*(_sources(base(v), given, whole, sources) for v in step.operands))
        computed = [v for v in step.results if v in whole]
        sources.update((v, read) for v in step.results if v not in whole)
        if computed or cheap(step):
            last.update((v, i) for v in read)
        last.update((v, i) for v in computed if v not in last)
    last.update((v, len(steps)) for v in map(base, results) if v in whole)

    ends: dict[int, list[Any]] = {}
    for v, i in last.items():
        ends.setdefault(i, []).append(v)
    held, most = 0, 0
    for i, step in enumerate(steps):
        held += sum(_bytes(v) for v in step.results if v in whole)
        most = max(most, held + max(map(peak, step.inner), default=0))
        held -= sum(_bytes(v) for v in ends.get(i, ()))
    return most


def _whole(steps: list[Step], given: set) -> tuple[set, Callable[[Any], Any], Callable[[Step], bool]]:
    """Variables that exist in memory by themselves; whose memory a variable has; what reads memory."""
    same: dict[Any, Any] = {}
    constant = {v for s in steps if s.name in ("broadcast_in_dim", "iota") for v in s.results}
    whole: set[Any] = set()

    def base(v: Any) -> Any:
        while v in same:
            v = same[v]
        return v

    def reads(step: Step) -> bool:
        return step.name.startswith((*WHOLE, *REDUCING, *LOOPS))

    for step in steps:
        if step.name in SAME or step.name.startswith(IN_PLACE):
            if step.operands[0] is not None:
                same[step.results[0]] = step.operands[0]
            continue
        if not reads(step):
            continue
        if not step.name.startswith(REDUCING):
            operands = {base(v) for v in step.operands if v is not None}
            whole |= operands - given - (constant if step.name == "dot_general" else set())
        handed_on = step.operands[step.carried]
        same |= {v: operand for v, operand in zip(step.results, handed_on) if operand is not None}
        whole.update(step.results[len(handed_on) :])
    return whole, base, reads


def _sources(v: Any, given: set, whole: set, sources: dict[Any, frozenset]) -> frozenset:
    if v is None or v in given:
        return frozenset()
    return frozenset([v]) if v in whole else sources.get(v, frozenset())


def _bytes(v: Any) -> int:
    return size(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype)) if hasattr(v.aval, "shape") else 0
