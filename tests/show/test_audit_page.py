"""What a report says of an audit, and the audit's picture."""

import json

import pytest
from PIL import Image

from seca_jax import runs
from seca_jax.show import audit_figure
from seca_jax.show.page import audit

KNOWN = {"rms": 0.06, "truth_rms": 0.25, "slope": 0.1, "correlation": 0.02, "explained": -0.04, "bias": 0.0}


COSINE = {"gradient_cosine": 0.5, "gradient_cosine_ci": [-0.1, 0.9]}


def judged(**about):
    return {**about, **KNOWN, "slope_ci": [-0.44, 0.65], "correlation_ci": None} | COSINE


def document(step=300):
    places = [judged(order=order, place=place) for order in ("prob", "fixed") for place in (1, 2, 3)]
    places[0] |= {"correlation": None}
    return {
        "map": "2s3z",
        "algo": "seca",
        "seed": 0,
        "step": step,
        "states": 256,
        "branches": 512,
        "truth_rms": 0.25,
        "rows": [
            judged(advantage="sequential", order="prob", residual=False),
            judged(advantage="coma", order="", residual=True) | {"slope": None, "slope_ci": None},
        ],
        "by_place": places,
    }


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / runs.AUDIT).write_text(json.dumps(document()))
    audit_figure.draw(tmp_path / runs.AUDIT_FIGURE, document())
    return tmp_path


def test_table_and_words(run_dir):
    found = audit.read(run_dir, 300)
    assert "256 moments of seed 0, 512 continuations" in found.summary and "0.25" in found.summary
    first = ("sequential prob", "0.060", "0.250", "0.10 (-0.44 to 0.65)", "0.02", "0.50 (-0.10 to 0.90)")
    assert found.rows.rows[0] == first
    assert found.rows.rows[1][0] == "coma with the TD residual" and found.rows.rows[1][3] == ""
    assert [picture.title for picture in found.pictures] == [audit.PICTURE]


def test_an_audit_of_an_older_policy_is_left_out(run_dir, tmp_path):
    assert audit.read(run_dir, 400) is None
    assert audit.read(tmp_path / "elsewhere", 300) is None


def test_picture_has_a_line_for_every_order(run_dir):
    with Image.open(run_dir / runs.AUDIT_FIGURE) as image:
        assert image.width > 1000
        colours = {colour for _, colour in image.convert("RGB").getcolors(2**20)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
