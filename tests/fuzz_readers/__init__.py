"""Fuzzing of everything that is read back from disks: ``python -m tests.fuzz_readers --runs 10000``."""
