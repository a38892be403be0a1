"""Learners by name. Importing this module costs nothing; a learner is imported when it is made."""

from importlib import import_module
from typing import TYPE_CHECKING

from seca_jax import extensions
from seca_jax.config import learners
from seca_jax.config.errors import ConfigError

if TYPE_CHECKING:
    from seca_jax.config.schema import Config
    from seca_jax.envs.base import Environment
    from seca_jax.types import Learner


def names() -> list[str]:
    """Every learner that ``algo=`` accepts: of ``config/conf/algo/``, and of other packages."""
    return list(learners.names())


def make(config: "Config", env: "Environment") -> "Learner":
    """The learner that the configuration names, on ``env``.

    Raises:
        ValueError: no such learner; or a package's cannot be loaded or is none.
    """
    if config.algo not in learners.names():
        raise ValueError(f"unknown algo {config.algo!r}; there are {', '.join(learners.names())}")
    if config.algo in extensions.names("learner"):
        return _brought(config, env)
    return import_module(f"seca_jax.algos.{config.algo}").make(config, env)


def _brought(config: "Config", env: "Environment") -> "Learner":
    """The learner that another package brings."""
    from seca_jax.types import Learner

    learner = extensions.load("learner", config.algo).make(config, env)
    if not isinstance(learner, Learner):
        where = extensions.origin("learner", config.algo)
        raise ConfigError(
            f"algo={config.algo}: {where} made no seca_jax.types.Learner but {type(learner).__name__}"
        )
    return learner
