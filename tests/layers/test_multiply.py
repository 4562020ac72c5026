"""Products with a constant: which factors there are."""

import warnings

import pytest

from layers.multiply import Multiply


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e300, -1e39])
def test_a_factor_that_float32_does_not_hold_is_refused_without_a_warning(factor: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="factor must be a finite float32 number"):
            Multiply(factor)
