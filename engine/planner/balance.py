"""How many bytes a rank sends and receives for a layer in a step, data parallel or split.

Das et al. 2016, arXiv:1602.06709, section on hybrid parallelism: fully connected layers, N ranks in G groups,
a minibatch of MB.
"""

FLOAT = 4


def between_groups(inputs: int, outputs: int, ranks: int, groups: int, *, overlap: float = 0.0) -> float:
    """Return the bytes of weights and gradients: 4 * ifm * ofm * (2 - overlap) * G / N; 0 for one group.

    Parameters
    ----------
    overlap
        How far sending and receiving overlap, from 0 to 1.
    """
    return 0.0 if groups == 1 else FLOAT * inputs * outputs * (2 - overlap) * groups / ranks


def inside_group(inputs: int, batch: int, ranks: int, groups: int) -> float:
    """Return the bytes of activations and their gradients: 2 * 4 * ifm * MB / G; 0 for groups of one."""
    return 0.0 if groups == ranks else 2 * FLOAT * inputs * batch / groups


def exchanged(inputs: int, outputs: int, batch: int, ranks: int, groups: int) -> float:
    """Return the bytes of a layer in so many groups; as many groups as ranks is data parallel."""
    return between_groups(inputs, outputs, ranks, groups) + inside_group(inputs, batch, ranks, groups)


def best_groups(outputs: int, batch: int, ranks: int) -> float:
    """Return the G for which the sum of the two is least: sqrt(N * MB / ofm), without overlap."""
    return float((ranks * batch / outputs) ** 0.5)
