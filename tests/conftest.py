"""Fixtures shared by all tests."""

import ctypes
import gc
import json
import logging
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Compiled programs outlive the test session, and subprocesses find them too
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Programs of tests run for milliseconds after seconds of compilation, in which thorough optimisation is lost
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's newer emitters take three times as long as the former ones to compile a train step
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
# Every compiler thread's own heap keeps what it once had; workers and subprocesses are started with one
os.environ.setdefault("MALLOC_ARENA_MAX", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Without an empty part, which would stand for the working directory
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def pytest_collection_modifyitems(items):
    """Slow tests take what they take."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(autouse=True, scope="module")
def forget():
    """Drops a module's compiled programs after it: kept, they add up to gigabytes over a session."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc keeps freed memory otherwise
            trim(0)


@pytest.fixture
def stubbed(monkeypatch):
    """The training command line with a game and a learner that compile in no time, and no drawing."""
    import stub

    from seca_jax import algos, envs
    from seca_jax.show import curves

    monkeypatch.setattr(envs, "make", stub.make_env)
    monkeypatch.setattr(algos, "make", stub.make_algorithm)
    monkeypatch.setattr(curves, "curves", lambda run_dir, lines, title: None)


@pytest.fixture
def compilations():
    """Counts XLA compilations so far; jit's own cache size also counts equal programs twice."""
    import jax

    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage().startswith("Finished XLA compilation"))
    log = logging.getLogger("jax")
    log.addHandler(handler)
    with jax.log_compiles():
        yield lambda: sum(seen)
    log.removeHandler(handler)


@pytest.fixture
def metrics():
    """Reads metrics.jsonl strictly: every line must be JSON without NaN."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    def read(run_dir, timing=True):
        lines = (Path(run_dir) / "metrics.jsonl").read_text().splitlines()
        lines = [json.loads(line, parse_constant=refuse) for line in lines]
        if timing:
            return lines
        return [{k: v for k, v in line.items() if k not in ("wall_s", "perf/steps_per_s")} for line in lines]

    return read


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs the training command in an empty directory and returns its one line of complaint."""
    from seca_jax import train

    def run(*words):
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        assert train.main(list(words)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return captured.err.removeprefix("error: ").rstrip("\n")

    return run
