"""What products of a layer are computed from."""

FP32, BF16 = "fp32", "bf16"
PRECISIONS = (FP32, BF16)
"""Of the operands; sums are fp32."""


def check_precision(precision: str) -> None:
    """Raise ValueError for a precision that is none."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}; must be one of {', '.join(PRECISIONS)}")
