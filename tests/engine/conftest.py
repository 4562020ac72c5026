"""Fixtures of the tests of the engine."""

from tests.small_runs import digits_run, photos, photos_run

__all__ = ["digits_run", "photos", "photos_run"]
