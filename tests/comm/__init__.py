"""Tests of communication between ranks that are threads."""
