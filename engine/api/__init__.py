"""The Python interface, which users import as `lockstep`."""
