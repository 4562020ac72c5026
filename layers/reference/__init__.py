"""Float64 references of every layer: obvious, slow, sharing nothing with the kernels."""
