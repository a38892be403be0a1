"""W&B's server hangs, breaks, or is not there: training goes on, ends, and its numbers are kept offline."""

import contextlib
import http.server
import os
import subprocess
import sys
import threading
import time

import pytest
import stub
from test_log import EVERY, SMALL

pytestmark = pytest.mark.slow

CODE = """
import sys, stub
from seca_jax import algos, envs, train
from seca_jax.runtime import wandb
from seca_jax.show import curves
envs.make, algos.make = stub.make_env, stub.make_algorithm
curves.curves = lambda *_: None
wandb.PATIENCE_S = 4.0
sys.exit(train.main())
"""


@contextlib.contextmanager
def server(behaviour):
    """The address of a server that accepts everything and answers with 500, or never."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            if behaviour == "hangs":
                over.wait(300)
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    here = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.daemon_threads = True
    threading.Thread(target=here.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{here.server_address[1]}"
    if behaviour == "is not there":
        here.server_close()
    yield address
    over.set()
    here.shutdown()
    here.server_close()


@pytest.mark.parametrize("behaviour", ["hangs", "breaks", "is not there"])
def test_training_goes_on_without_the_server(tmp_path, metrics, behaviour):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    here = os.path.dirname(stub.__file__)
    run = tmp_path / "run"
    with server(behaviour) as address:
        environment = clean | {
            "HOME": str(tmp_path),
            "WANDB_BASE_URL": address,
            "WANDB_API_KEY": "a" * 40,
            "PYTHONPATH": os.pathsep.join([here, os.environ["PYTHONPATH"]]),
        }
        words = [*SMALL, *EVERY, "wandb.mode=online", f"out={run}"]
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words], env=environment, capture_output=True, text=True, timeout=120
        )
        assert time.monotonic() - begun < 60
    assert done.returncode == 0
    assert done.stderr.startswith("warning: W&B cannot be reached (CommError: ")
    assert done.stderr.endswith("); logging offline instead\n") and done.stderr.count("\n") == 1
    assert "wandb:" not in done.stdout
    assert metrics(run)[-1]["step"] == 400
    assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 2
    told = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert b"a" * 40 not in told  # the key stays where it was
