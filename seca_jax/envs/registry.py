"""What ``map=`` accepts, and who makes it. No JAX here, nor in the SMAX maps that this reads."""

from typing import TYPE_CHECKING

from seca_jax import extensions
from seca_jax.envs.smax import custom
from seca_jax.envs.smax.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from seca_jax.config.schema import Config

TASKS = {
    "predator_prey": "particle",
    "cooperative_navigation": "particle",
    "matrix": "probes",
    "one_step": "probes",
    "crowd_8": "probes",
    "crowd_32": "probes",
    "roles_8": "probes",
    "roles_32": "probes",
    "delayed": "probes",
    "leader": "probes",
}
"""Module of ``seca_jax.envs`` by name of an environment that is no SMAX map; its ``make(name)`` makes it."""


def own() -> tuple[str, ...]:
    """The names that this package has itself: SMAX maps, then other tasks."""
    return *SCENARIOS, *TASKS


def names() -> list[str]:
    """Every name that ``map=`` accepts: this package's, then what others bring, maps before environments."""
    return [*own(), *extensions.names("map"), *extensions.names("env")]


def scenario(config: "Config") -> Scenario | None:
    """The SMAX battle that the configuration names; None where its map is another environment.

    Raises:
        ConfigError: ``env.scenario`` is no map, or a package's map cannot be loaded.
    """
    if config.env.scenario:
        return custom.parse(config.env.scenario, config.map, "env.scenario")
    if config.map in extensions.names("map"):
        return extensions.load("map", config.map)
    return SCENARIOS.get(config.map)
