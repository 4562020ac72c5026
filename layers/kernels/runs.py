"""The cut of a leaf with many pixels into runs of rows, so that a chain of its sum is not too long.

The rounding error of a chain grows with its length. The rows of a leaf, those of one sample after the other,
are cut into a power of two of runs, which are summed one by one and added as the lower levels of the tree
over leaves. Their number follows from the shape of a leaf alone.
"""

from layers.kernels.jit import inline

LONGEST = 1 << 15
"""Most pixels of a run, as long as there are rows to cut."""


def runs_of_leaf(samples: int, rows: int, columns: int) -> int:
    """Return the runs of a leaf of so many samples; the image is that of the convolution's own result."""
    runs = 1
    while samples * rows * columns > runs * LONGEST and 2 * runs <= samples * rows:
        runs *= 2
    return runs


@inline
def rows_of_run(run, runs, per_leaf, rows):
    """Return the first row and the row behind the last of a run, counted over all samples.

    Parameters
    ----------
    run : int64
        Counted over all leaves.
    runs, per_leaf, rows : int64
        Runs and samples of a leaf, rows of a sample.
    """
    leaf, place = divmod(run, runs)
    total = per_leaf * rows
    return leaf * total + place * total // runs, leaf * total + (place + 1) * total // runs
