"""Tests of the rewrites of a graph."""
