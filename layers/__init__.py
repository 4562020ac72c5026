"""Differentiable layers: immutable descriptions over kernels; they know no rank."""
