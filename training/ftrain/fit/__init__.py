"""Training: configuration, loop, checkpoints and run folder."""
