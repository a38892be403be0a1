"""What ``map=`` accepts, and the module that makes it. No JAX here, nor in the SMAX maps that this reads."""

from seca_jax.envs.smax.scenarios import SCENARIOS

TASKS = {
    "predator_prey": "particle",
    "cooperative_navigation": "particle",
    "matrix": "probes",
    "one_step": "probes",
    "delayed": "probes",
    "leader": "probes",
}
"""Module of ``seca_jax.envs`` by name of an environment that is no SMAX map; its ``make(name)`` makes it."""


def names() -> list[str]:
    """Every name that ``map=`` accepts: SMAX maps, then other tasks."""
    return [*SCENARIOS, *TASKS]
