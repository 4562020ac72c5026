"""Variables of the environment by which numba would not start, or compile no kernel."""

import os
from collections.abc import Mapping

from engine.config.errors import UserError

_NO_JIT, _THREADS = "NUMBA_DISABLE_JIT", "NUMBA_NUM_THREADS"
_CPU, _FEATURES = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"


def check_numba_settings(environment: Mapping[str, str] = os.environ) -> None:
    """Raise UserError for the first such variable; what numba passes over with a warning is left to it.

    To be called before numba is imported, which reads them.
    """
    if _number(environment.get(_NO_JIT, "")):
        raise UserError(f"{_NO_JIT}: got {environment[_NO_JIT]}; kernels must be compiled: unset it")
    threads = environment.get(_THREADS)
    if threads and (_number(threads) or 0) < 1:
        raise UserError(f"{_THREADS}: got {threads}; must be a whole number of at least 1: unset it")
    given = [name for name in (_CPU, _FEATURES) if name in environment]
    if given:
        _check_processor(environment, given)


def _check_processor(environment: Mapping[str, str], given: list[str]) -> None:
    from layers.kernels.target import target  # noqa: PLC0415 -- it imports numba

    host, asked = target(None, None), target(environment.get(_CPU), environment.get(_FEATURES))
    if asked.width > host.width:
        values = ", ".join(f"{name}={environment[name]}" for name in given)
        raise UserError(f"{values}: kernels need {asked.simd}, this processor has {host.simd}: unset it")


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
