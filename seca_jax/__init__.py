"""seca_jax: cooperative multi-agent RL with sequential credit assignment, end to end in JAX.

    import seca_jax

    result = seca_jax.train(map="2s3z", seeds=5, total_steps=1_000_000)

What :mod:`seca_jax.api` has is here, too, and the registration of :mod:`seca_jax.extensions`. Importing this
package loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seca_jax.api import ConfigError, Result, Run, evaluate, export, load_run, make_env, train
    from seca_jax.envs.smax.scenarios import Scenario
    from seca_jax.extensions import register_env, register_learner, register_map, register_order

__version__ = "0.2.0"
__all__ = [
    "ConfigError",
    "Result",
    "Run",
    "Scenario",
    "evaluate",
    "export",
    "load_run",
    "make_env",
    "register_env",
    "register_learner",
    "register_map",
    "register_order",
    "train",
]


def __getattr__(name: str) -> Any:
    # train, evaluate and export are modules too, which may be called: see seca_jax.door
    if name in ("train", "evaluate", "export"):
        return import_module(f"seca_jax.{name}")
    if name in __all__:
        home = "extensions" if name.startswith("register_") else "api"
        home = "envs.smax.scenarios" if name == "Scenario" else home
        return getattr(import_module(f"seca_jax.{home}"), name)
    raise AttributeError(f"module 'seca_jax' has no attribute {name!r}")
