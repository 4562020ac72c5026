"""Tests of trained networks in use."""
