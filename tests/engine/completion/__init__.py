"""Tests of engine.completion."""
