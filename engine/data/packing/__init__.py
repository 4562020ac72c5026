"""Convert a data set from one format to another, sample by sample, in the same order."""
