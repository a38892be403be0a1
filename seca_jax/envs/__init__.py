"""Environments by name. Importing this module costs nothing: no JAX work, no jaxmarl."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seca_jax.config.schema import Config
    from seca_jax.envs.base import Environment

SMAX_MAPS = (
    "3m",
    "2s3z",
    "25m",
    "3s5z",
    "8m",
    "5m_vs_6m",
    "10m_vs_11m",
    "27m_vs_30m",
    "3s5z_vs_3s6z",
    "3s_vs_5z",
    "6h_vs_8z",
    "smacv2_5_units",
    "smacv2_10_units",
    "smacv2_20_units",
    "1c3s5z",
    "2c_vs_64zg",
    "MMM2",
)
OURS_ONLY = SMAX_MAPS[-3:]  # Colossi and Medivacs: upstream has neither
PARTICLE_TASKS = ("predator_prey", "cooperative_navigation")
PROBES = ("matrix", "one_step", "delayed", "leader")


def names() -> list[str]:
    """Every name that ``map=`` accepts."""
    return [*SMAX_MAPS, *PARTICLE_TASKS, *PROBES]


def make(config: "Config") -> "Environment":
    """The environment that the configuration names.

    Raises:
        ValueError: no such map.
    """
    if config.map in PROBES:
        from seca_jax.envs import probes

        return probes.make(config.map)
    if config.map in PARTICLE_TASKS:
        from seca_jax.envs import particle

        return particle.make(config.map)
    if config.map not in SMAX_MAPS:
        raise ValueError(f"unknown map {config.map!r}; there are {', '.join(names())}")
    options = dict(
        observation=config.env.observation,
        state=config.env.state,
        opponent=config.env.opponent,
        reward_scale=config.env.reward_scale,
        time_limit=config.env.time_limit,
    )
    if config.env.backend == "upstream":
        if config.map in OURS_ONLY:
            raise ValueError(f"env.backend=upstream: jaxmarl has no {config.map}; use env.backend=core")
        from seca_jax.envs import upstream as backend
    else:
        from seca_jax.envs.smax import core as backend
    return backend.make(config.map, **options)
