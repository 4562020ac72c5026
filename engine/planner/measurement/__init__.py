"""What a cluster is made of: kernels and messages, measured on the machines at hand."""
