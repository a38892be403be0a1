"""Learners by name. Importing this module costs nothing; a learner is imported when it is made."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seca_jax.config.schema import Config
    from seca_jax.envs.base import Environment
    from seca_jax.types import Learner

ALGOS = {
    "seca": "seca_jax.algos.seca",
    "coma": "seca_jax.algos.coma",
    "coma_newarchi": "seca_jax.algos.coma_newarchi",
    "lica": "seca_jax.algos.lica",
    "qmix": "seca_jax.algos.qmix",
    "vdn": "seca_jax.algos.vdn",
    "qtran": "seca_jax.algos.qtran",
}


def names() -> list[str]:
    """Every learner that ``algo=`` accepts."""
    return list(ALGOS)


def make(config: "Config", env: "Environment") -> "Learner":
    """The learner that the configuration names, on ``env``.

    Raises:
        ValueError: no such learner.
    """
    if config.algo not in ALGOS:
        raise ValueError(f"unknown algo {config.algo!r}; there are {', '.join(ALGOS)}")
    return import_module(ALGOS[config.algo]).make(config, env)
