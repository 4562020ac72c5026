"""Tests of the conversion between formats."""
