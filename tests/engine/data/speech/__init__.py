"""Tests of how frames of speech are labelled."""
