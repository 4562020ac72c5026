"""Files of other programs: networks and weights that they read, and that they wrote."""
