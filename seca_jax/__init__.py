"""seca_jax: cooperative multi-agent RL with sequential credit assignment, end to end in JAX."""

__version__ = "0.2.0"
