"""Filters that whiten patches of images: outputs without correlation, and of about the same variance.

They spare a first convolution from learning this. Eigenvectors have other bits on other machines: so networks
take filters from a file, and do not compute them.
"""

from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray

CIFAR10_EPSILON = 5e-4
"""That of `cifar10_filters`."""


def whitening_filters(images: ArrayLike, size: int, *, epsilon: float) -> NDArray[np.float32]:
    """Return filters of `size` x `size` pixels, float32 [2 * C * size * size, C, size, size].

    The first half are the eigenvectors of the patches' second moments, that of the largest eigenvalue first,
    each over the root of its eigenvalue; the second half are the same with the other sign, so that what an
    activation cuts off is not lost.

    Parameters
    ----------
    images : [N, C, H, W]
        Normalised as the network will see them; all patches of them count.
    epsilon
        Is added to the eigenvalues, which else would blow up what hardly varies.
    """
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(images, np.float64), (size, size), (2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, windows.shape[1] * size * size)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / np.sqrt(values + epsilon)).T[::-1].reshape(-1, windows.shape[1], size, size)
    return np.concatenate([filters, -filters]).astype(np.float32)


def cifar10_filters() -> NDArray[np.float32]:
    """Return 24 filters of 2x2 pixels for CIFAR-10: of its first 5,000 images, as `cifar10:` reads them."""
    text = files("engine.models").joinpath("cifar10_whitening.txt").read_text("utf-8")
    half = np.array(text.split(), np.float32).reshape(-1, 3, 2, 2)
    return np.concatenate([half, -half])
