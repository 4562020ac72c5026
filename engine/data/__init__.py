"""Readers of data sets, one a file, and the loader that gives each rank its share."""
