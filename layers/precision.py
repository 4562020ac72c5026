"""What products of a layer are computed from."""

from collections.abc import Mapping
from typing import Any

PRECISION = "precision"
FP32, BF16 = "fp32", "bf16"
PRECISIONS = (FP32, BF16)
"""Of the operands; sums are fp32."""


def check_precision(precision: str) -> None:
    """Raise ValueError for a precision that is none."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}; must be one of {', '.join(PRECISIONS)}")


def stated(precision: str) -> dict[str, str]:
    """Return what is written down of a precision, by name: nothing of the usual one."""
    return {PRECISION: precision} if precision != FP32 else {}


def stated_in(written: Mapping[str, Any]) -> str:
    """Return the precision that is written down; ValueError where it is none."""
    precision = written.get(PRECISION, FP32)
    check_precision(precision)
    return str(precision)
