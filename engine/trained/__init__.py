"""Trained networks in use: loaded, evaluated, asked, compared."""
