"""Training on CPU clusters: graph, memory, step, trainer and the commands."""
