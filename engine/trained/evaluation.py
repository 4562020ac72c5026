"""How good a network is on a data set: the figures, as a table and as JSON."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.recipe import Recipe
from engine.config.wording import counted
from engine.trained.measuring import Measured, total_loss
from engine.trained.views import SEEN

TOP = 5
MOST_ROWS = 40
"""Classes in the table; of more the worst are shown."""
_MOST_COLUMNS = 16  # classes of a confusion matrix that fits a terminal
_WIDEST = 10  # characters of a column
_MOST_PAIRS = 5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures over the samples of a data set that could be read; of none they are NaN."""

    data: str
    """What the user calls it."""
    split: str
    """ "train" or "test"; empty where the data has no splits."""
    step: int
    """Of the checkpoint."""
    class_names: tuple[str, ...]
    """What the network's outputs stand for."""
    loss: float
    accuracy: float
    """Share of samples whose class has the highest logit."""
    top5_accuracy: float | None
    """Share of samples whose class is among the five highest; None where there are no more classes."""
    confusion: NDArray[np.int64] = field(repr=False)
    """[classes, classes]: samples by what they are (rows) and what was found (columns)."""
    tta: str = ""
    """How each image was seen: a name of `engine.trained.views`, or empty."""
    skipped: tuple[str, ...] = ()
    """Errors of the samples that could not be read."""

    @classmethod
    def of(
        cls,
        measured: Measured,
        recipe: Recipe,
        class_names: tuple[str, ...],
        *,
        data: str,
        split: str,
        step: int,
        tta: str,
    ) -> "Evaluation":
        """Sum up what was measured; the loss as a run by this recipe would."""
        read = measured.labels >= 0
        samples, classes = int(read.sum()), len(class_names)
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (measured.labels[read], measured.found[read]), 1)
        loss = total_loss(measured.losses, batch=recipe.batch, leaves=recipe.leaves)
        places = measured.places[read]
        return cls(
            data=data,
            split=split,
            step=step,
            class_names=class_names,
            loss=loss / samples if samples else math.nan,
            accuracy=float((places == 0).sum()) / samples if samples else math.nan,
            top5_accuracy=float((places < TOP).sum()) / samples if samples and classes > TOP else None,
            confusion=confusion,
            tta=tta,
            skipped=measured.bad,
        )

    @property
    def title(self) -> str:
        """The data with its split."""
        return f"{self.data}, {self.split}" if self.split else self.data

    @property
    def seen(self) -> str:
        """How often each sample was seen, if that was more than once: ", each seen twice, ..."."""
        return f", {SEEN[self.tta]}" if self.tta else ""

    @property
    def samples(self) -> int:
        """Samples that the figures are of."""
        return int(self.confusion.sum())

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples of each class."""
        counts: NDArray[np.int64] = self.confusion.sum(axis=1)
        return counts

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the samples of each class that were found to be of it; NaN of a class without samples."""
        return _share(self.confusion.diagonal(), self.counts)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of what was found to be of each class that is of it; NaN where nothing was."""
        return _share(self.confusion.diagonal(), self.confusion.sum(axis=0))

    def to_json(self) -> dict[str, Any]:
        """Return all figures; what is not finite is null."""
        rows = zip(self.class_names, self.counts.tolist(), self.precision, self.recall, strict=True)
        return {
            "data": self.data,
            "split": self.split or None,
            "step": self.step,
            "tta": self.tta or None,
            "samples": self.samples,
            "skipped": list(self.skipped),
            "loss": _finite(self.loss),
            "accuracy": _finite(self.accuracy),
            "top5_accuracy": self.top5_accuracy,
            "classes": [
                {"name": name, "count": count, "precision": _finite(precision), "recall": _finite(recall)}
                for name, count, precision, recall in rows
            ],
            "confusion": self.confusion.tolist(),
        }

    def lines(self) -> list[str]:
        """Return the figures for a terminal."""
        skipped = f"; {counted(len(self.skipped), 'sample')} could not be read" if self.skipped else ""
        top5 = "" if self.top5_accuracy is None else f"   top-5 {self.top5_accuracy:.2%}"
        lines = [
            f"{self.title}: {counted(self.samples, 'sample')}{self.seen}{skipped}",
            f"loss {self.loss:.4f}   top-1 {self.accuracy:.2%}{top5}",
            "",
            *self._table(),
        ]
        if len(self.class_names) <= _MOST_COLUMNS:
            lines += ["", *self._matrix()]
        pairs = list(self._confused())
        return [*lines, "", f"most often taken for another: {', '.join(pairs)}"] if pairs else lines

    def _table(self) -> Iterator[str]:
        order = [each for each in range(len(self.class_names)) if self.counts[each]]
        if len(order) > MOST_ROWS:
            order = sorted(order, key=lambda each: (self.recall[each], each))[:MOST_ROWS]
            yield f"the {MOST_ROWS} classes of lowest recall; --json has all"
        width = max([5, *(len(self.class_names[each]) for each in order)])
        yield f"{'class':<{width}}  {'count':>7}  precision  recall"
        for each in order:
            precision = "-" if math.isnan(self.precision[each]) else f"{self.precision[each]:.4f}"
            yield (
                f"{self.class_names[each]:<{width}}  {self.counts[each]:>7,}  {precision:>9}  "
                f"{self.recall[each]:.4f}"
            )

    def _matrix(self) -> Iterator[str]:
        """Yield the confusion matrix; where a name is too wide for a column, both are numbered."""
        names = self.class_names
        longest = max(map(len, names))
        rows, columns, said = list(names), list(names), "a column for what was found"
        if longest >= _WIDEST:
            columns = [str(place) for place in range(1, len(names) + 1)]
            rows = [f"{place:>2} {name}" for place, name in enumerate(names, start=1)]
            said = f"{said}, by the rows' numbers"
        cell = max(4, len(str(self.confusion.max())) + 1, max(map(len, columns)) + 1)
        width = max(map(len, rows))
        yield f"confusion: a row for each class, {said}"
        yield " " * width + "".join(f"{name:>{cell}}" for name in columns)
        for name, row in zip(rows, self.confusion.tolist(), strict=True):
            yield f"{name:<{width}}" + "".join(f"{count or '.':>{cell}}" for count in row)

    def _confused(self) -> Iterator[str]:
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        for place in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS].tolist():
            row, column = divmod(place, len(self.class_names))
            if wrong[row, column]:
                yield f"{self.class_names[row]} for {self.class_names[column]} ({wrong[row, column]:,})"


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
