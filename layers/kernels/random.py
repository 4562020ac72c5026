"""Counter-based random bits: a function of their key and counter, never of what was drawn before."""

import numpy as np

from layers.kernels.jit import inline

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_HASH1, _HASH2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_H15, _H16 = np.uint32(15), np.uint32(16)


@inline
def stream_key(seed, step, sample, key):
    """Return the 64-bit key of one sample's stream: splitmix64's finaliser, chained over the four.

    Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators, section 5.
    """
    state = np.uint64(0)
    for word in (seed, step, sample, key):
        state = (state ^ np.uint64(word)) + _GOLDEN
        state = (state ^ (state >> _S30)) * _MIX1
        state = (state ^ (state >> _S27)) * _MIX2
        state ^= state >> _S31
    return state


@inline
def random_bits(low, high, counter):
    """Return 32 random bits for element `counter` of the stream with key (low, high), all uint32.

    Two rounds of the 32-bit finaliser by Wellons (lowbias32), one for each half of the key: 32-bit
    multiplications vectorise everywhere.
    """
    return _scramble(_scramble(counter ^ low) ^ high)


@inline
def _scramble(word):
    word = np.uint32((word ^ (word >> _H16)) * _HASH1)
    word = np.uint32((word ^ (word >> _H15)) * _HASH2)
    return np.uint32(word ^ (word >> _H16))
