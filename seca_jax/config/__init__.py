"""A run's keys: declared, composed from presets and words, checked, frozen."""
