"""Benchmarks: one module a question; nobody imports them."""
