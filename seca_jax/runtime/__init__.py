"""The host's side of a run: compiled programs, devices, checkpoints, logs, signals."""
