"""The documents' examples, and how they are done: as a reader would, but small.

As a script, ``python documents.py PAGE`` does a page's examples in the directory that it is called in, one
after the other: named files are written, shell blocks run by bash, Python blocks in one namespace. What is
trained is as small as can be; ``whole`` after the page leaves it as it is. ``python documents.py run WORDS``
is what ``python WORDS`` means in a shell block.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
SHELL = ("bash", "python")  # kinds that are run; the others are files, or text

# Examples that are not done, by the beginning of their text, and why
NOT_DONE = {
    "make train      # creates": "the Makefile's own environment: installs everything from the registry",
    "python -m venv .venv\n": "installs; tests/test_wheel.py does it with what is installed already",
    "python experiments/durability.py": "an hour; tests/runtime/test_durability.py does it small",
    "python experiments/devices.py": "measures for minutes; tests/test_experiment_devices.py does it small",
    "python cluster.py": "wants submitit; tests/runtime/test_slurm.py does it where that is installed",
    "python experiments/run.py": "trains for hours; tests/test_figure_runs.py does it small",
    "python -m seca_jax.benchmark": "measures all for minutes; tests/test_benchmark.py does it small",
}
# Pages that tests of their own do
ELSEWHERE = {
    "extending.md": "tests/test_own_package.py",
    "jaxmarl.md": "tests/envs/test_jaxmarl.py",
    "sweeps.md": "tests/test_sweeps.py",
    "policies.md": "tests/test_export.py",
}

SMALL = {
    "seeds": 2, "num_envs": 4, "window": 6, "total_steps": 96, "actor.hidden": 8, "critic.mixing": 8,
    "critic.hypernet_hidden": "8", "actor.epochs": 1, "actor.minibatches": 1, "critic.minibatches": 1,
    "q.batch": 4, "q.episodes": 8, "q.updates": 1, "eval.episodes": 2, "log.interval": 48,
    "eval.interval": 96, "wandb.mode": "disabled", "log.progress": False,
}  # fmt: skip
LONGER = {"total_steps": 192}
COMMANDS = {
    "train": SMALL,
    "evaluate": {"episodes": 4, "size": 160},
    "audit": {"states": 4, "branches": 4},
    "report": {},
    "benchmark": {"seconds": 0.01},
}


class Block(NamedTuple):
    """A fenced block of a page, or a notebook's cell."""

    page: str
    line: int
    kind: str  # bash, python, yaml, ...
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is, if its first line names one, or the line after #!."""
        found = re.match(r"(?:#!.*\n)?# ([\w./-]+\.\w+)\n", self.text)
        return found and found[1]

    @property
    def not_done(self) -> str | None:
        """Why it is not done; None: it is."""
        return next((why for start, why in NOT_DONE.items() if self.text.startswith(start)), None)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page from top to bottom."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return [
            Block(page.name, i, "python", "".join(cell["source"]))
            for i, cell in enumerate(cells)
            if cell["cell_type"] == "code"
        ]
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page.name, text[: m.start()].count("\n") + 1, m[1], m[2]) for m in found]


def commands(block: Block) -> list[list[str]]:
    """``[command, words...]`` of a shell block's lines that call a command of the package."""
    lines = re.sub(r"\\\n", " ", block.text).splitlines()
    lines = [line.partition(" #")[0].strip() for line in lines]
    return [
        line.removeprefix("python -m seca_jax.").split()
        for line in lines
        if line.startswith("python -m seca_jax.") and "$" not in line and "*" not in line
    ]


def small(command: str, words: list[str]) -> list[str]:
    """A command's words, so that little is done. Of a key that is given twice the last value counts."""
    if "--help" in words:
        return words
    given = COMMANDS[command]
    if any(word.startswith("resume=") for word in words):
        given = LONGER if any(word.startswith("total_steps=") for word in words) else {}
    return [*words, *(f"{name}={str(value).lower()}" for name, value in given.items())]


def run(words: list[str]) -> None:
    """``python`` with these words; never returns."""
    if words[0] == "-m" and words[1].startswith("seca_jax."):
        words = [*words[:2], *small(words[1].removeprefix("seca_jax."), words[2:])]
    os.execv(sys.executable, [sys.executable, *words])


def shrink() -> None:
    """Lets Python's examples do little, too."""
    from seca_jax import api

    whole_train, whole_evaluate = api.train, api.evaluate
    plain = {name: value for name, value in SMALL.items() if "." not in name}
    dotted = {name: value for name, value in SMALL.items() if "." in name}

    def train(settings=None, /, **keywords):
        return whole_train({**(settings or {}), **dotted}, **{**keywords, **plain})

    def evaluate(run, **keywords):
        return whole_evaluate(run, **{**keywords, "episodes": 4})

    api.train, api.evaluate = train, evaluate


def perform(page: Path, whole: bool) -> None:
    """Does a page's examples in the current directory; raises what they raise."""
    scope = {"__name__": "__main__"}
    sys.path.insert(0, "")
    for block in blocks(page):
        if block.not_done:
            continue
        print(f"--- {block.page}:{block.line} {block.kind}", flush=True)
        if block.file:
            Path(block.file).parent.mkdir(exist_ok=True, parents=True)
            Path(block.file).write_text(block.text)
        elif block.kind == "bash":
            subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], check=True)
        elif block.kind == "python":
            if not whole and "shrunk" not in scope:
                shrink()
                scope["shrunk"] = True
            exec(compile(block.text, f"{block.page}:{block.line}", "exec"), scope)


def done(page: Path, place: Path, python: str = sys.executable, whole: bool = False, **env: str) -> str:
    """What a page's examples print, done in ``place`` by that Python; AssertionError where they fail."""
    tools = place / ".tools"
    tools.mkdir()
    called = {"python": f'exec {python} -P {__file__} run "$@"', "sbatch": 'exec bash "${@: -1}"'}
    for name, line in called.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(python).parent), os.environ["PATH"]])
    env = {**os.environ, "MPLBACKEND": "Agg", "PATH": path, **env}
    words = [python, "-P", __file__, str(page), *(["whole"] if whole else [])]
    ended = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=1800)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0 and "Traceback" not in said, said[-6000:]
    return said


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2:])
    perform(Path(sys.argv[1]), "whole" in sys.argv[2:])
