"""Environments by name. Importing this module costs nothing: no JAX work, no jaxmarl."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seca_jax.envs.registry import TASKS, names
from seca_jax.envs.smax.scenarios import SCENARIOS, Rules

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
        ValueError: no such map, or not with that simulator.
    """
    if config.map in TASKS:
        return import_module(f"seca_jax.envs.{TASKS[config.map]}").make(config.map)
    if config.map not in SCENARIOS:
        raise ValueError(f"unknown map {config.map!r}; there are {', '.join(names())}")
    if config.env.backend == "upstream":
        if not SCENARIOS[config.map].upstream:
            raise ValueError(f"env.backend=upstream: jaxmarl has no {config.map}; use env.backend=core")
        from seca_jax.envs import upstream as backend
    else:
        from seca_jax.envs.smax import core as backend
    return backend.make(
        config.map,
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
