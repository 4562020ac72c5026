"""Golden hashes: short runs whose bits are kept in a file, which every machine must reproduce.

``python -m tests.golden --help`` says how to compare and to rewrite them; `runs` lists the runs, `coverage`
says which layers and algorithms they reach, and `golden.toml` holds what they end with.
"""
