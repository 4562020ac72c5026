"""From a start to a finished run: checks, the training loop, checkpoints, the run's folder."""
