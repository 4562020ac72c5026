"""The machine as one rank finds it: cores, memory, signals."""
