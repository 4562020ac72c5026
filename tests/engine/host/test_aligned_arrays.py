"""Memory for kernels."""

import numpy as np

from engine.host.aligned_arrays import aligned_zeros, blocks, touch


def test_the_memory_behind_views_is_found_once_and_whole():
    one, other = aligned_zeros((3, 1000)), aligned_zeros((7,), np.uint8)
    found = list(blocks([one[1], one, other[2:], one.reshape(-1)[5:]], 4096))
    assert sum(block.size for block in found) == 12_000 + 7 + 2 * 64
    assert max(block.size for block in found) == 4096
    for block in found:
        block[:] = 1
    assert other.tolist() == [1] * 7 and (one.view(np.uint8) == 1).all()


def test_touching_leaves_zeros():
    array = aligned_zeros((100_000,))
    for block in blocks([array], 1 << 16):
        touch(block)
    assert not array.any()
