"""Tests of engine.doctor."""
