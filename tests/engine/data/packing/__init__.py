"""Tests of the engine, on threads as ranks."""
