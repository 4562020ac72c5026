"""What a reference computes from."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Plain float64 arrays [N, C, H, W] or [N, F] to run a layer on, and what random numbers depend on."""

    inputs: tuple[Array, ...]
    parameters: dict[str, Array]
    """In standard layout."""
    dys: tuple[Array, ...]
    """Gradient of each output."""
    samples: NDArray[np.int64]
    """Index in the data set of each sample."""
    seed: int = 0
    step: int = 0
    key: int = 0
    """See `layers.layer.Buffers`."""

    def part(self, first: int, last: int) -> "Problem":
        """Return the problem with samples `first` to `last` only."""
        return replace(
            self,
            inputs=tuple(x[first:last] for x in self.inputs),
            dys=tuple(dy[first:last] for dy in self.dys),
            samples=self.samples[first:last],
        )
