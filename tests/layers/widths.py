"""``python -m tests.layers.widths [PART]``: digests of what layers compute on this target, as JSON.

numba's settings choose the target; the digests must not follow. Without a part it is all cases.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.kernels import adam, sgd, softmax_cross_entropy, steps, sum_of_squares
from layers.kernels.target import TARGET
from layers.linear import Linear
from tests.layers import harness
from tests.layers.cases import CASES, Case

SUMMED = [
    Case(Conv2d(64, 3, padding=1), ((64, 13, 9),), samples=8),  # Winograd
    Case(Conv2d(64, 3, padding=1), ((48, 25, 34),), samples=8),  # several chunks of tiles
    Case(Conv2d(32, 5, padding=2), ((48, 9, 9),), samples=8),
    Case(Conv2d(128, 3, stride=2, padding=1), ((64, 15, 15),), samples=8),
    Case(Conv2d(32, 7, stride=2, padding=3), ((3, 29, 33),), samples=8),  # first layers
    Case(Conv2d(96, 11, stride=4), ((3, 39, 39),), samples=8),
    Case(DepthwiseConv2d(3, 2, 1), ((40, 29, 33),), samples=8),
    Case(Linear(160), ((600,),), samples=64),
    Case(Linear(96), ((96,),), samples=8),  # leaves of one sample,
    Case(Linear(160), ((600,),), samples=128),  # of middle length,
    Case(Linear(160), ((600,),), samples=320),  # and longer ones
]
"""Cases that are added up in leaves."""


ALL = (*CASES, *SUMMED)
PARTS = {
    **{f"third-{part}": ALL[part::3] for part in range(3)},  # kernels to compile, by three processes at once
    "few": (*CASES[::16], *SUMMED[::4]),
}


def digests(cases: Sequence[Case]) -> dict[str, str]:
    """Return one digest for each case, by its name; those of SUMMED are cut into 8 leaves."""
    found = {str(case): _digest(_computed(case, 8 if case in SUMMED else 1)) for case in cases}
    return {
        **found,
        "softmax": _digest(_softmax()),
        "sgd": _digest(_sgd()),
        "updates": _digest(_updates()),
    }


def _digest(arrays: Iterator[NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _computed(case: Case, leaves: int) -> Iterator[NDArray[np.float32]]:
    done = harness.run(case.layer, harness.problem(case.layer, case.shapes, case.samples), leaves=leaves)
    yield from (value.plain() for value in (*done.y, *done.dx))
    yield from done.gradients.values()


def _softmax() -> Iterator[NDArray[np.generic]]:
    generator = np.random.default_rng(3)
    samples, classes = 300, 37
    logits = np.zeros((samples, 48), np.float32)
    logits[:, :classes] = 8 * generator.standard_normal((samples, classes))
    labels = generator.integers(0, classes, samples).astype(np.int32)
    losses, correct = np.zeros(samples), np.zeros(samples, np.uint8)
    arguments = (labels, classes, 1 / 300, logits, losses, correct)
    for smoothing in (0.0, 0.1):
        softmax_cross_entropy.forward_backward(harness.workers(1), logits, *arguments, smoothing)
        yield from (logits, losses, correct)
    weights = 4 * generator.random(classes)
    softmax_cross_entropy.forward_backward(
        harness.workers(1), logits, *arguments, 0.1, labels[::-1], losses % 1, weights
    )
    yield from (logits, losses, correct)


def _sgd() -> Iterator[NDArray[np.float32]]:
    generator = np.random.default_rng(4)
    weights, gradients, velocity = (generator.standard_normal(1001, dtype=np.float32) for _ in range(3))
    for nesterov in (False, True):
        for scale in (1, 1e-38):  # and numbers below the smallest normal one
            values = tuple(np.float32(scale) * array for array in (weights, gradients, velocity))
            sgd.update(*values, 0.01, 0.9, 5e-4, nesterov)
            yield from values


def _updates() -> Iterator[NDArray[np.generic]]:
    generator = np.random.default_rng(5)
    weights, gradients, first, second = (generator.standard_normal(1001, dtype=np.float32) for _ in range(4))
    numbers = {"betas": (0.9, 0.999), "eps": 1e-8, "root": 1.25}
    for scale in (1, 1e-19, 1e-38):
        w, g, m, v = (np.float32(scale) * each for each in (weights, gradients, first, abs(second)))
        adam.adamw(w, g, m, v, **numbers, step=0.01, shrink=1e-4)
        adam.lamb_direction(w, g, m, v, **numbers, scale=2.0, decay=0.01)
        steps.descend(w, g, rate=0.1)
        steps.lars(w, g, m, rate=0.1, momentum=0.9, weight_decay=0.01)
        steps.approach(v, w, share=0.3)
        limbs = np.zeros(sum_of_squares.LIMBS, np.int64)
        sum_of_squares.add_squares(w, limbs)
        yield from (w, g, m, v, limbs)


if __name__ == "__main__":
    print(
        json.dumps(
            {"simd": TARGET.simd, "digests": digests(PARTS[sys.argv[1]] if len(sys.argv) > 1 else ALL)}
        )
    )
