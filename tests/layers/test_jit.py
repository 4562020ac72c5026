"""What Python may call, and what only kernels may."""

import numba
import pytest

from layers.kernels.jit import inline, lazy, native


@inline
def _double(x):
    return 2 * x


@lazy
def _double_and_one(x):
    return _double(x) + 1


def test_kernels_call_helpers_and_lazy_functions():
    quadruple = native(numba.int64(numba.int64))(lambda x: _double(_double(x)))
    assert quadruple(3) == 12
    assert native(numba.int64(numba.int64))(lambda x: _double_and_one(x) * 2)(3) == 14
    assert _double_and_one(4) == 9


def test_a_helper_without_a_wrapper_is_not_called_from_python():
    assert _double_and_one(1) == 3  # it is compiled, and still has no wrapper
    with pytest.raises(TypeError, match="_double is a helper of kernels; @lazy lets Python call it too"):
        _double(1)
