"""How many samples go through a network at once, where nobody says it."""

from math import prod

from engine.graph import Graph

LEAST, MOST = 32, 256
_BYTES = 1 << 27
"""What a batch may take: more costs memory, and no longer gains speed."""
_FLOAT = 4


def filling_batch(network: Graph) -> int:
    """Return a batch that fills the kernels: a power of two, as kernels are compiled for others anew.

    What a batch costs beside its samples (a thread that is woken, a call of each layer) weighs on small
    networks only, whose values take little memory.
    """
    values = _FLOAT * sum(map(prod, network.shapes.values()))
    batch = LEAST
    while batch < MOST and 2 * batch * values <= _BYTES:
        batch *= 2
    return batch
