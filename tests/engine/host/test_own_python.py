"""The Python that runs this process."""

import sys
from pathlib import Path

from engine.host.own_python import own_python


def test_nothing_is_imported_from_a_folder_that_is_no_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert own_python() == [sys.executable, "-P"]


def test_in_a_checkout_its_modules_are_found(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    assert own_python() == [sys.executable, *(["-P"] if sys.flags.safe_path else [])]
