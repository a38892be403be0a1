"""Environments by name. Importing this module costs nothing: no JAX work, no jaxmarl."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seca_jax import extensions
from seca_jax.envs.registry import TASKS, names, scenario
from seca_jax.envs.smax.scenarios import Rules

if TYPE_CHECKING:
    from seca_jax.config.schema import Config
    from seca_jax.envs.base import Environment
    from seca_jax.envs.jaxmarl import HeuristicEnemySMAX

__all__ = ["jaxmarl_api", "make", "names"]


def jaxmarl_api(map_name: str, **options: Any) -> "HeuristicEnemySMAX":
    """A SMAX map with jaxmarl's own interface, for scripts that were written for jaxmarl.

    Args:
        map_name: any SMAX map, those that jaxmarl lacks too.
        **options: of :class:`~seca_jax.envs.jaxmarl.HeuristicEnemySMAX`.

    Raises:
        ValueError: no such map, or an option's value that the core does not have.
    """
    from seca_jax.envs import jaxmarl
    from seca_jax.envs.smax.core import scenario_named

    return jaxmarl.HeuristicEnemySMAX(scenario=scenario_named(map_name), **options)


def make(config: "Config") -> "Environment":
    """The environment that the configuration names.

    Raises:
        ValueError: no such map, or not with that simulator; or a package's cannot be loaded or is none.
    """
    battle = scenario(config)
    if battle is None:
        if config.map in TASKS:
            return import_module(f"seca_jax.envs.{TASKS[config.map]}").make(config.map)
        if config.map in extensions.names("env"):
            return _brought(config)
        raise ValueError(f"unknown map {config.map!r}; there are {', '.join(names())}")
    if config.env.backend == "upstream":
        if not battle.upstream:
            raise ValueError(f"env.backend=upstream: jaxmarl has no {config.map}; use env.backend=core")
        from seca_jax.envs import upstream as backend
    else:
        from seca_jax.envs.smax import core as backend
    return backend.make(
        battle,
        observation=config.env.observation,
        state=config.env.state,
        opponent=config.env.opponent,
        reward_scale=config.env.reward_scale,
        time_limit=config.env.time_limit,
        rules=Rules(
            see_enemy_actions=config.env.see_enemy_actions,
            walls_cause_death=config.env.walls_cause_death,
            enemy_shoots=config.env.enemy_shoots,
            won_battle_bonus=config.env.won_battle_bonus,
            world_steps=config.env.world_steps,
            sight_range=config.env.sight_range,
            random_start=config.env.random_start,
        ),
    )


def _brought(config: "Config") -> "Environment":
    """The environment that another package brings."""
    from seca_jax.config.errors import ConfigError
    from seca_jax.envs import base

    env = extensions.load("env", config.map)(config)
    try:
        base.check(env)
    except ValueError as error:
        raise ConfigError(f"map={config.map}: {extensions.origin('env', config.map)}: {error}") from None
    return env
