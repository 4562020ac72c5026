"""How far a network scales: balance equations, clusters, and a step in simulation."""
