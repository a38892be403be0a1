"""What a run takes on each device, and what more devices give: python experiments/devices.py

    python experiments/devices.py what=memory
    python experiments/devices.py what=meshes map=3m
    python experiments/devices.py what=program map=2s3z

memory: for some configurations the bytes that a run says it will take, what XLA reserves for the compiled
program, and what is resident of it at the peak of two updates: the state, and by how much the process grows.
meshes: training's steps a second on 1, 2, 4 and 8 devices, seeds spread over them and a single seed's
environments shared by them. A CPU's devices are virtual: more of them than cores tell what dividing a run
costs, not what it gains. All meshes of a learner are timed in one process and take turns.
program: what an accelerator would launch in an update of one seed: loops, their rounds one after the other,
and kernels, those of a program that is made as for an accelerator (every batch in one piece) and compiled for
a CPU, whose fusions differ: an estimate.

Each takes minutes, meshes a quarter of an hour. Rows go to experiments/results/devices/<what>.{json,md}, in
the place of those that are there. Other keys are a training run's, but for what the rows differ in: algo,
seeds, mesh; under program and memory also preset, and under memory map and num_envs. Options:
"""

import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import measured

from seca_jax.config import commands, compose
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key
from seca_jax.config.words import options as checked_options
from seca_jax.config.words import parse

RESULTS = Path(__file__).parent / "results" / "devices"
MEMORY = (
    "map=3m",
    "map=3m preset=accelerator",
    "map=2s3z",
    "map=2s3z algo=qmix",
    "map=2s3z num_envs=256 seeds=2",
    "map=2s3z preset=paper seeds=1",
    "map=MMM2 seeds=2",
)
SPREAD, SHARED = ("1x1", "2x1", "4x1", "8x1"), ("1x1", "1x2", "1x4", "1x8")
LEARNERS = ("seca", "qmix")
KINDS = ("memory", "meshes", "program")
ROW = "row"  # the word by which a process of its own is asked for one configuration's
PRESETS = ("default", "accelerator")
# Keys that the rows differ in
OWN = {
    "memory": ("map", "algo", "num_envs", "seeds", "preset", "mesh"),
    "meshes": ("algo", "seeds", "mesh"),
    "program": ("preset", "seeds", "mesh"),
}
NOBODYS = ("out", "name", "resume", "total_steps")  # nothing is trained to its end
# Of a compiled program's instructions, those that launch nothing
NAMES_ONLY = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all")
REPEATS = 5  # of what is resident: it differs by a tenth from one to the next
SEEDS = 8  # where they are spread: no device is idle
# Pages above this many bytes go back to the system once freed, so that growth is what is in use
OWN_PAGES = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    what: str = key("memory", "memory, meshes or program", choices=KINDS)


def status(name: str) -> int:
    """Bytes of an entry of this process's /proc/self/status, VmRSS or VmHWM."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) * 1024


def memory_row(words: list[str]) -> dict[str, Any]:
    """One configuration's row, in a process of its own."""
    import gc

    import jax
    import numpy as np

    from seca_jax.runtime import memory, session, throughput

    config = compose.from_words(words)
    devices = session.prepare(config)[0]
    program = session.program_of(config, devices)
    predicted = memory.predict(program.functions)
    held = program.init()
    chunk, _, reserved = throughput.compiled(program.functions.chunk, program.rates, *held, np.int32(1))
    # Once before it counts: threads and their stacks are there, and what made the state is not any more
    held = jax.block_until_ready(chunk(program.rates, *held, np.int32(1)))
    growths = []
    for _ in range(REPEATS):
        gc.collect()
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        held = jax.block_until_ready(chunk(program.rates, *held, np.int32(2)))
        growths.append(status("VmHWM") - before)
    return {
        "words": " ".join(words),
        "devices": len(devices),
        "predicted": predicted.training,
        "reserved": reserved,
        "resident": memory.size(held) + int(statistics.median(growths)),
    }


def memory_rows(words: list[str]) -> list[dict[str, Any]]:
    """Every configuration of MEMORY, one after the other."""
    rows = []
    for own in MEMORY:
        command = [sys.executable, __file__, ROW, *own.split(), *words]
        done = subprocess.run(command, env=os.environ | OWN_PAGES, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise ConfigError(f"{own}: the process that measures it failed")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{own}: {rows[-1]['predicted'] / 2**20:.1f} MiB predicted a device", flush=True)
    return rows


def memory_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The rows as a table's cells, MiB."""
    cells = [
        ["keys", "devices", "predicted, a device", "reserved, a device", "off by"]
        + ["predicted, in all", "resident, in all", "off by"]
    ]
    for row in rows:
        cells.append([f"`{row['words']}`", str(row["devices"])])
        for times, other in ((1, "reserved"), (row["devices"], "resident")):
            predicted = row["predicted"] * times
            mib = [f"{x / 2**20:.1f}" for x in (predicted, row[other])]
            cells[-1] += [*mib, f"{100 * (predicted / row[other] - 1):+.1f} %"]
    return cells


def mesh_rows(words: list[str]) -> list[dict[str, Any]]:
    """Every mesh of every learner."""
    from seca_jax.config.schema import mesh_of
    from seca_jax.runtime import devices, session, throughput

    devices.configure("cpu", SEEDS)
    rows = []
    for algo in LEARNERS:
        for seeds, meshes in ((SEEDS, SPREAD), (1, SHARED)):
            own = [*words, f"algo={algo}", f"seeds={seeds}"]
            configs = [compose.from_words([*own, f"mesh={mesh}"]) for mesh in meshes]
            timed = [throughput.training(config, session.devices_of(config)) for config in configs]
            rates = throughput.rates(timed, repeats=5, seconds=2.0)
            for config, one, rate in zip(configs, timed, rates, strict=True):
                along, sharing = mesh_of(config) or (1, 1)
                rows.append(
                    {"map": config.map, "algo": algo, "seeds": seeds, "along": along, "sharing": sharing}
                    | {"steps_per_s": rate, "bytes": one.peak_bytes, "ratio": rate / rates[0]}
                )
                print(f"{algo}, {seeds} seeds, {along}x{sharing}: {rate:,.0f} steps/s", flush=True)
    return rows


def mesh_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The rows as a table's cells."""
    cells = [["map", "learner", "seeds", "mesh", "devices", "steps/s", "times one device's", "MiB a device"]]
    for row in rows:
        mesh = f"{row['along']}x{row['sharing']}"
        cells.append(
            [row["map"], row["algo"], str(row["seeds"]), mesh, str(row["along"] * row["sharing"])]
            + [f"{row['steps_per_s']:,.0f}", f"{row['ratio']:.2f}", f"{row['bytes'] / 2**20:.1f}"]
        )
    return cells


class Launches(NamedTuple):
    """What a program does one after the other."""

    loops: int  # written in it
    rounds: int  # that they make together
    kernels: int


class Compiled:
    """A compiled program's text, to be counted.

    Attributes:
        parts: the instructions of every computation, ``(opcode, the rest of the line)``.
        entry: where it begins.
    """

    def __init__(self, text: str) -> None:
        """Reads the text of XLA's optimised HLO."""
        self.parts: dict[str, list[tuple[str, str]]] = {}
        self.entry = name = ""
        for line in text.splitlines():
            if begins := re.match(r"(ENTRY )?%?([\w.-]+) .*\{$", line):
                name = begins[2]
                self.entry = name if begins[1] else self.entry
                self.parts[name] = []
            # A type, which may be a tuple of types with layouts, then the opcode
            elif found := re.match(r"\s+(?:ROOT )?%?[\w.-]+ = (?:\(.*?\)|\S+) ([a-z][a-z-]*)\((.*)$", line):
                self.parts[name].append((found[1], found[2]))

    def launches(self, name: str) -> Launches:
        """What a computation launches; a loop of unknown length, of updates, is counted for one."""
        loops = rounds = kernels = 0
        for opcode, rest in self.parts[name]:
            times, inner = 1, []
            if opcode == "while":
                length = re.search(r'"known_trip_count":\{"n":"(\d+)"', rest)
                times = int(length[1]) if length else 1
                inner = re.findall(r"body=%?([\w.-]+)", rest)
                loops, rounds = loops + 1, rounds + times
            elif opcode == "call":
                inner = re.findall(r"to_apply=%?([\w.-]+)", rest)
            elif opcode == "conditional":  # the longest branch
                listed = re.search(r"branch_computations=\{([^}]*)\}", rest)
                named = (
                    listed[1] if listed else " ".join(re.findall(r"(?:true|false)_computation=(\S+)", rest))
                )
                inner = [max(re.findall(r"[\w.-]+", named), key=lambda one: self.launches(one).kernels)]
            else:
                kernels += opcode not in NAMES_ONLY
            for one in map(self.launches, inner):
                loops, rounds, kernels = (
                    loops + one.loops,
                    rounds + times * one.rounds,
                    kernels + times * one.kernels,
                )
        return Launches(loops, rounds, kernels)


def program_rows(words: list[str]) -> list[dict[str, Any]]:
    """Every preset's update."""
    import jax

    from seca_jax.config.schema import steps_per_update
    from seca_jax.runtime import devices, session

    devices.configure("cpu")
    jax.default_backend = lambda: "gpu"  # batches are then worked on in one piece
    rows = []
    for preset in PRESETS:
        config = compose.from_words([*words, f"preset={preset}", "seeds=1"])
        steps = steps_per_update(config)
        if steps is None:
            raise ConfigError(f"algo={config.algo}: how many steps an update has depends on its episodes")
        functions: Any = session.functions_of(config, session.devices_of(config))
        compiled = Compiled(functions.chunk.lower(*functions.arguments).compile().as_text())
        found = compiled.launches(compiled.entry)
        rows.append(
            {"map": config.map, "algo": config.algo, "preset": preset, "steps": steps} | found._asdict()
        )
        print(f"{preset}: {found.kernels / steps:.2f} kernels a step", flush=True)
    return rows


def program_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The rows as a table's cells."""
    cells = [["map", "learner", "preset", "steps an update", "loops", "rounds", "kernels", "kernels a step"]]
    for row in rows:
        counts = [f"{row[name]:,}" for name in ("steps", "loops", "rounds", "kernels")]
        cells.append(
            [row["map"], row["algo"], row["preset"], *counts, f"{row['kernels'] / row['steps']:.2f}"]
        )
    return cells


def report(words: list[str]) -> None:
    """Measure what the words ask for and write it; raises ConfigError, OSError."""
    if words[:1] == [ROW]:
        print(json.dumps(memory_row(words[1:])))
        return
    own = [word for word in words if word.startswith("what=")]
    rest = [word for word in words if word not in own]
    options: Options = checked_options(own, Options)
    given = parse(rest)
    if taken := [name for name in (*OWN[options.what], *NOBODYS) if name in given]:
        raise ConfigError(
            f"{taken[0]}={given[taken[0]]}: what={options.what} has its own, or none; leave the key out"
        )
    compose.from_words(rest)  # what is wrong is better known at once
    rows, cells = {
        "memory": (memory_rows, memory_cells),
        "meshes": (mesh_rows, mesh_cells),
        "program": (program_rows, program_cells),
    }[options.what]
    found = rows(rest)
    from seca_jax.runtime.session import prepare

    used = prepare(compose.from_words([*rest, "seeds=1"]))[0]
    document = measured.origin("experiments/devices.py", words, used) | {"rows": found}
    measured.save(RESULTS / f"{options.what}.json", document, cells(found))


def main(words: list[str]) -> int:
    """The command line; exit status 0 done, 2 bad input."""
    return commands.call(report, words, lambda: commands.usage((__doc__ or "").strip(), Options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
