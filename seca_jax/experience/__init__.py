"""What environments and policies make together: rollouts, replay, returns."""
