"""Trackers of experiments: programs beside this one that keep the figures of runs, and show them."""
