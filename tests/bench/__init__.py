"""Tests of the benchmarks: that they run and say the right things, never how fast."""
