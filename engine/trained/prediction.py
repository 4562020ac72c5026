"""What a network finds in one sample: as a line, as JSON, as a row of a table."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.config.wording import printable


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of a sample, or why it could not be read."""

    name: str
    """File, or "file.npy[3]"."""
    classes: tuple[str, ...] = ()
    """The likeliest first."""
    values: tuple[float, ...] = ()
    """Their probabilities, or logits where those were asked for."""
    error: str = ""
    """Empty where the sample was read."""

    def line(self) -> str:
        """Return it for a reader."""
        if self.error:
            return f"error: {self.error}"
        found = zip(self.classes, self.values, strict=True)
        return f"{printable(self.name)}: {', '.join(f'{name} {value:.4f}' for name, value in found)}"

    def to_json(self, value: str) -> str:
        """Return it as a line of ASCII, whatever bytes the name has.

        `value` names the values: "probability".
        """
        shown: dict[str, Any] = {"file": self.name}
        if self.error:
            return json.dumps(shown | {"error": self.error})
        found = zip(self.classes, self.values, strict=True)
        return json.dumps(shown | {"top": [{"class": name, value: number} for name, number in found]})

    def row(self, top: int) -> str:
        """Return it as a row under `csv_heading`."""
        pairs = [each for pair in zip(self.classes, self.values, strict=True) for each in pair]
        return _csv([printable(self.name), *pairs, *[""] * (2 * top - len(pairs)), self.error])


def csv_heading(top: int, value: str) -> str:
    """Return the names of the columns."""
    return _csv(["file", *_columns(top, value), "error"])


def _columns(top: int, value: str) -> Iterator[str]:
    for place in range(1, top + 1):
        yield from (f"class_{place}", f"{value}_{place}")


def _csv(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
