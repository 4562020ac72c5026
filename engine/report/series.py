"""Pack numbers into a page: base64 of float32; of long series the lowest and the highest of each window."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXACT = 1 << 24  # whole numbers below it are float32


@dataclass(frozen=True)
class Thinned:
    """A series with fewer points: of each window of steps its lowest and its highest value, and its mean."""

    x: Floats
    y: Floats
    mean_x: Floats
    mean: Floats
    window: int
    """Steps of a window; 1 where nothing was left out, and then there are no means."""


def thin(x: Floats, y: Floats, windows: int) -> Thinned:
    """Return a series with at most two points for each of some windows; a short one stays as it is.

    Values that are not finite count only where a window has no other.
    """
    if len(x) <= 2 * windows:
        return Thinned(x, y, np.zeros(0), np.zeros(0), 1)
    window = -(-len(x) // windows)
    padding = -len(x) % window
    rows = np.pad(y, (0, padding), constant_values=np.nan).reshape(-1, window)
    is_finite = np.isfinite(rows)
    low = np.where(is_finite, rows, np.inf).argmin(axis=1)
    high = np.where(is_finite, rows, -np.inf).argmax(axis=1)
    first = np.arange(len(rows)) * window
    kept = np.unique(np.concatenate([first + low, first + high]))
    count = is_finite.sum(axis=1)
    with np.errstate(all="ignore"):  # values may be anything
        mean = np.where(is_finite, rows, 0.0).sum(axis=1) / np.where(count, count, np.nan)
    last = np.minimum(first + window, len(x)) - 1
    return Thinned(x[kept], y[kept], (x[first] + x[last]) / 2, mean, window)


def packed(x: Floats, y: Floats, windows: int) -> dict[str, Any]:
    """Return a series for a page, thinned to some windows."""
    found = thin(x, y, windows)
    series: dict[str, Any] = {"x": _packed_x(found.x), "y": _base64(found.y, np.float32)}
    if found.window > 1:
        series |= {
            "window": found.window,
            "mean_x": _packed_x(found.mean_x),
            "mean": _base64(found.mean, np.float32),
        }
    return series


def _packed_x(x: Floats) -> dict[str, Any]:
    if len(x) and (np.diff(x) == 1).all():
        return {"first": x[0], "count": len(x)}
    is_short = not len(x) or x[-1] < _EXACT
    return {
        "type": "f4" if is_short else "f8",
        "data": _base64(x, np.float32 if is_short else np.float64),
    }


def _base64(values: Floats, kind: type[np.floating[Any]]) -> str:
    with np.errstate(all="ignore"):  # beyond float32 is not finite: a gap
        return base64.b64encode(values.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()
