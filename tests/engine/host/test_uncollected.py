"""Imports collect no garbage, and what comes after them does again."""

import gc

import pytest

from engine.host.uncollected import uncollected


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_again_as_before(monkeypatch, enabled):
    monkeypatch.setattr(gc, "isenabled", lambda: enabled)
    calls = []
    monkeypatch.setattr(gc, "disable", lambda: calls.append("off"))
    monkeypatch.setattr(gc, "enable", lambda: calls.append("on"))
    with pytest.raises(ImportError), uncollected():
        assert calls == ["off"]
        raise ImportError
    assert calls == ["off", "on"][: 1 + enabled]
