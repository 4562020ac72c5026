"""A cluster in simulation: the engine's own schedule, on a clock of its own."""
