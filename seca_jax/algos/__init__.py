"""Learners by name. Importing this module costs nothing; a learner is imported when it is made."""

from importlib import import_module
from typing import TYPE_CHECKING

from seca_jax.config import learners

if TYPE_CHECKING:
    from seca_jax.config.schema import Config
    from seca_jax.envs.base import Environment
    from seca_jax.types import Learner


def names() -> list[str]:
    """Every learner that ``algo=`` accepts: those with a file in ``config/conf/algo/``."""
    return list(learners.names())


def make(config: "Config", env: "Environment") -> "Learner":
    """The learner that the configuration names, on ``env``.

    Raises:
        ValueError: no such learner.
    """
    if config.algo not in learners.names():
        raise ValueError(f"unknown algo {config.algo!r}; there are {', '.join(learners.names())}")
    return import_module(f"seca_jax.algos.{config.algo}").make(config, env)
