"""The loss: softmax and cross entropy with the labels, in one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layers.kernels import softmax_cross_entropy
from layers.kernels.threads import Threads
from layers.layer import Array


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """loss = -log(softmax(logits)[label]); not a Layer, for it reads labels and ends the graph.

    With label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7) a share of the label is spread
    over all classes: ``loss = -sum(wanted * log(softmax(logits)))`` with smoothing / classes wanted of each
    class, and 1 - smoothing more of the label.

    With weights of classes ``loss = -sum(weights * wanted * log(softmax(logits)))``, as PyTorch's
    CrossEntropyLoss has it for probabilities of classes.
    """

    def forward_backward(
        self,
        threads: Threads,
        logits: Array,
        labels: NDArray[np.int32],
        classes: int,
        scale: float,
        gradient: Array,
        losses: NDArray[np.float64],
        correct: NDArray[np.uint8],
        smoothing: float = 0.0,
        others: NDArray[np.int32] | None = None,
        shares: NDArray[np.float64] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Write the gradient of ``scale * losses``, the losses, and a 1 for each correct prediction.

        A sample's results depend on nothing else in the minibatch.

        Parameters
        ----------
        logits, gradient : float32 [N, classes rounded up to LANES]
            May be the same; `gradient` becomes zero behind `classes`.
        labels : int32 [N]
            -1 marks an absent sample: all its results are zero.
        losses : float64 [N]
        correct : uint8 [N]
            1 where the label has the greatest logit; of equals the first counts.
        smoothing
            From 0, which gives the bits of a loss without it, to below 1.
        others, shares : int32 [N], float64 [N]
            Of mixed samples: the loss is a share of that with the label, and the rest of that with the other.
        weights : float64 [classes]
            Of the classes; None: 1 each.

        Raises
        ------
        ValueError
            If a label is not less than `classes`.
        """
        for each in (labels, labels if others is None else others):
            if len(each) and each.max() >= classes:
                raise ValueError(f"label {each.max()} must be less than the {classes} classes")
        softmax_cross_entropy.forward_backward(
            threads, logits, labels, classes, scale, gradient, losses, correct, smoothing, others, shares,
            weights,
        )  # fmt: skip
