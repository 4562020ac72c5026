"""Runs to look at: one page without network, curves in a terminal, numbers as CSV."""
