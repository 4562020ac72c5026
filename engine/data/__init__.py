"""Data sets, and the loader that gives each rank its share of every minibatch."""
