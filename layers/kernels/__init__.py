"""Numba-compiled kernels: the only folder that imports numba."""
