"""Tests of the trackers of experiments."""
