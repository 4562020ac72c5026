"""Tests of communication between processes, started by mpirun."""
