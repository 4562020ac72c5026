"""One rank's share of a training run: memory, parameters, and the step."""
