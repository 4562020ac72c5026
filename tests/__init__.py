"""Tests, one module for each of the project's; `naive.py` shares no code with it."""
