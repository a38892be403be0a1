"""The schema: frozen, and of plain values."""

from dataclasses import fields, is_dataclass

import pytest

from seca_jax.config.schema import Config


def test_config_is_frozen_and_plain():
    def plain(cls):
        return all(
            plain(f.type) if is_dataclass(f.type) else f.type in (int, float, bool, str) for f in fields(cls)
        )

    assert plain(Config)
    with pytest.raises(AttributeError):
        Config().seed = 3
