"""Rewrites of a graph that know no rank."""
