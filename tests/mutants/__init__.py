"""Mutants: the code is changed one place at a time, and a test must notice each change.

A driver of our own, because mutmut and cosmic-ray start a test process for every mutant: importing numba and
loading the kernels takes longer than the tests that a mutant needs, so a campaign of two thousand would take
a day on two cores. Here one process imports everything and runs the tests once; each mutant is a fork of it,
which imports the changed module anew and runs only the tests that reach the changed line, the likely ones
first.

``python -m tests.mutants --help`` says how; `changes` makes the changes, `survivors.toml` lists those that
may survive, and why.
"""
