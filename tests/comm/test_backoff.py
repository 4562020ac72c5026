"""Naps between polls follow the length of past waits."""

import pytest

from comm.backoff import Backoff


def test_naps_grow_unless_a_core_is_to_spare_and_begin_later_while_somebody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [5.0]
    monkeypatch.setattr("comm.backoff.time.perf_counter", lambda: now[0])
    backoff, awaited, spare = Backoff(), Backoff(), Backoff(spare_core=True)
    first = backoff.nap_s(progressed=False, awaited=False)
    assert awaited.nap_s(progressed=False, awaited=True) == spare.nap_s(progressed=False, awaited=True) == 0
    now[0] += 0.003
    later = backoff.nap_s(progressed=False, awaited=False)
    assert 0 < first < later < 0.001
    assert awaited.nap_s(progressed=False, awaited=True) == later
    assert spare.nap_s(progressed=False, awaited=True) == 0
    assert spare.nap_s(progressed=False, awaited=False) == first, (
        "the interpreter's lock is the main thread's"
    )
    now[0] += 1.0
    assert backoff.nap_s(progressed=False, awaited=False) <= 0.001
    for each in (backoff, awaited):
        assert each.nap_s(progressed=True, awaited=False) == 0
        assert each.nap_s(progressed=False, awaited=True) == 0


def test_naps_are_as_long_as_messages_usually_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now, backoff = [5.0], Backoff()
    monkeypatch.setattr("comm.backoff.time.perf_counter", lambda: now[0])

    def first_nap_after(wait_s: float) -> float:
        for _ in range(40):
            backoff.nap_s(progressed=False, awaited=False)
            now[0] += wait_s
            assert backoff.nap_s(progressed=True, awaited=False) == 0
            assert backoff.nap_s(progressed=True, awaited=False) == 0, "nobody waits between two that move"
        nap = backoff.nap_s(progressed=False, awaited=False)
        backoff.nap_s(progressed=True, awaited=False)
        return nap

    assert first_nap_after(0.002) == pytest.approx(0.0005, rel=0.01)
    assert first_nap_after(0.0001) == pytest.approx(0.00005, rel=0.01)
    assert first_nap_after(1.0) == pytest.approx(0.001)
