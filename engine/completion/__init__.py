"""Scripts by which shells complete the command `lockstep`."""
