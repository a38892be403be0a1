"""experiments/peer.py: JaxMARL's script is run as it is, and what it gave is drawn as it was measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from seca_jax.config.check import ConfigError

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SCRIPT = """
import distrax, hydra
import jax
@hydra.main(version_base=None)
def main(config): ...
def update(metric, train_states, update_steps):
    jax.experimental.io_callback(callback, None, metric)
    return distrax.Categorical(logits=metric)
"""


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import peer

    return peer


@pytest.fixture
def drawing(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import peer_figure

    return peer_figure


def test_the_script_is_run_with_its_logging_taken_over(peer, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    names = peer.script(path, lambda *seen: None)
    drawn = names["update"].__globals__["distrax"].Categorical(np.log([[0.25, 0.75]]))
    assert names["taken"] and callable(names["main"])
    np.testing.assert_allclose(drawn.log_prob(np.array([1])), np.log([0.75]), rtol=1e-6)
    np.testing.assert_allclose(drawn.entropy(), [-(0.25 * np.log(0.25) + 0.75 * np.log(0.75))], rtol=1e-6)


def test_another_script_is_refused(peer, tmp_path):
    path = tmp_path / "script.py"
    with pytest.raises(ConfigError, match="checkout: no "):
        peer.script(path, print)
    path.write_text("callback = None\n")
    with pytest.raises(ConfigError, match="not the script that is known here"):
        peer.script(path, print)


def document(**more):
    point = {"step": 16384, "wall_s": 30.0, "greedy": 0.25, "sampled": None}
    runs = [
        {"seed": seed, "points": [point, {**point, "step": 32768, "wall_s": 60.0 + seed, "greedy": greedy}]}
        for seed, greedy in enumerate((0.5, 0.75, 1.0))
    ]
    origin = {"command": "python", "commit": "c", "device": "d", "versions": {"jax": "1"}, "script": "s"}
    return {**origin, "map": "2s3z", "compile_s": 30.0, "runs": runs, **more}


def test_curves_are_over_steps_and_over_minutes_with_compilation(drawing):
    (steps, band), (minutes, same) = drawing.curves_of(document()).values()
    np.testing.assert_array_equal(steps, [16384, 32768])
    np.testing.assert_allclose(minutes, [1.0, 91 / 60])
    np.testing.assert_array_equal(band[1], [0.25, 0.75])
    np.testing.assert_array_equal(band, same)


def test_what_is_stored_is_drawn_beside_our_own(drawing, tmp_path):
    look = {"seca": 0, "coma": 2, "mappo": 7}
    drawing.redraw(tmp_path, {}, look)  # nothing is stored
    assert not list(tmp_path.iterdir())
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "2s3z.json").write_text(json.dumps(document()))
    drawing.redraw(tmp_path, {}, look)
    assert (tmp_path / "peer.png").stat().st_size > 10_000
    assert (
        "| 2s3z | JaxMARL's MAPPO | 3 | 33k | 0.750 | 0.500 to 1.000 | one seed | 1.5 |"
        in (tmp_path / "peer.md").read_text()
    )
