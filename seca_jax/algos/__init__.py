"""Learners by name. Importing this module costs nothing; a learner is imported when it is made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable

from seca_jax import extensions
from seca_jax.config import learners
from seca_jax.config.errors import ConfigError

if TYPE_CHECKING:
    from seca_jax.config.schema import Config
    from seca_jax.envs.base import Environment
    from seca_jax.types import Learner


PRECISIONS = {"float32": "float32", "bfloat16": "BF16_BF16_F32"}  # as JAX calls them, by the key matmul


def names() -> list[str]:
    """Every learner that ``algo=`` accepts: of ``config/conf/algo/``, and of other packages."""
    return list(learners.names())


def make(config: "Config", env: "Environment") -> "Learner":
    """The learner that the configuration names, on ``env``, its products as precise as ``matmul`` says.

    Raises:
        ValueError: no such learner; or a package's cannot be loaded or is none.
    """
    if config.algo not in learners.names():
        raise ValueError(f"unknown algo {config.algo!r}; there are {', '.join(learners.names())}")
    if config.algo in extensions.names("learner"):
        learner = _brought(config, env)
    else:
        learner = import_module(f"seca_jax.algos.{config.algo}").make(config, env)
    return learner if config.matmul == "default" else _precise(learner, PRECISIONS[config.matmul])


def _precise(learner: "Learner", precision: str) -> "Learner":
    """The learner whose functions are traced with that precision of matrix products."""
    import jax

    def traced(function: Callable) -> Callable:
        def run(*args: Any) -> Any:
            with jax.default_matmul_precision(precision):
                return function(*args)

        return run

    assess = None if learner.assess is None else traced(learner.assess)
    return learner._replace(train_step=traced(learner.train_step), act=traced(learner.act), assess=assess)


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
