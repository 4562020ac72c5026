"""The peak of a process's memory."""

import sys

import numpy as np
import pytest

from engine.host.peak_memory import peak_resident_bytes


@pytest.mark.skipif(sys.platform == "win32", reason="Unix tells")
def test_the_peak_counts_memory_that_was_used_and_stays_when_it_is_freed():
    before = peak_resident_bytes()
    assert before is not None and 1 << 20 < before < 1 << 40
    np.ones(before // 8 + (1 << 21))  # as much again, and more
    after = peak_resident_bytes()
    assert after is not None and after >= before + (1 << 24)
