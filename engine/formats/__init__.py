"""Files of trained networks, this project's and others'."""
