"""Tests of the layers and their kernels."""
