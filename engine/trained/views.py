"""How often an image is seen before its class is said: test-time augmentation (TTA)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.data.augment import shift_reflected


@dataclass(frozen=True)
class View:
    """One look at an image, and its share of the probabilities: a power of two, so that none is rounded."""

    share: float
    mirrored: bool = False
    shift: int = 0
    """Pixels by which the image is moved, down and to the right; its edges are reflected."""

    def of(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return images, float32 [N, C, H, W], as they are seen."""
        seen = images[..., ::-1] if self.mirrored else images
        if self.shift:
            moved = np.empty_like(images)
            shift_reflected(seen, self.shift, self.shift, out=moved)
            return moved
        return np.ascontiguousarray(seen)


VIEWS: Final[dict[str, tuple[View, ...]]] = {
    "mirror": (View(1 / 2), View(1 / 2, mirrored=True)),
    "mirror+shift": tuple(
        View(share, mirrored, shift)
        for mirrored in (False, True)
        for share, shift in ((1 / 4, 0), (1 / 8, -1), (1 / 8, 1))
    ),
}
"""By name: from both sides; and from both sides as it is and, with half the weight, moved by a pixel along
the diagonal either way (Jordan 2024, arXiv:2404.00498, section 3.5)."""

SEEN: Final = {
    "": "",
    "mirror": "each seen twice, once left to right",
    "mirror+shift": "each seen from both sides, as it is and moved by a pixel either way",
}
"""In words, for a table."""
