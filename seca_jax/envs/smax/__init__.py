"""SMAX battles, batched: the core's rules, units, observations and scenarios."""
