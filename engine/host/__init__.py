"""The machine that a rank runs on: cores, memory, signals."""
