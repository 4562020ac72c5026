"""Work on threads: in order, with errors in place, and with as many threads as there are."""

import threading
import time
from contextlib import closing

import pytest

from engine.host.on_threads import on_threads


@pytest.fixture(params=[0, 1, 5], ids=["no thread", "one thread", "threads"])
def allowed(request, monkeypatch):
    """Allow so many threads at a time; the system refuses more."""
    start, begun = threading.Thread.start, []

    def refusing(thread):
        if len(begun) == request.param:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    return request.param


def test_results_come_in_the_order_of_the_items(allowed):
    def slow(item):
        time.sleep(0.002 if item % 3 == 0 else 0)
        return item * item, threading.current_thread() is threading.main_thread()

    found = list(on_threads(slow, range(20), 4))
    assert [square for square, _ in found] == [item * item for item in range(20)]
    assert {is_main for _, is_main in found} == {allowed == 0}


@pytest.mark.usefixtures("allowed")
def test_an_error_comes_in_its_items_place():
    results = on_threads(lambda item: 12 // item, (4, 3, 0, 1), 2)
    assert (next(results), next(results)) == (3, 4)
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.usefixtures("allowed")
def test_no_item_is_begun_and_no_thread_left_when_it_is_closed():
    begun = []

    def noted(item):
        begun.append(item)
        time.sleep(0.001)
        return item

    before = threading.active_count()
    with closing(on_threads(noted, range(1000), 3)) as results:
        assert next(results) == 0
    assert len(begun) < 100
    assert threading.active_count() == before


@pytest.mark.usefixtures("allowed")
def test_nothing_to_do_yields_nothing():
    assert list(on_threads(lambda item: item, (), 3)) == []


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("ahead", [0, 3])
def test_no_more_items_are_begun_ahead_than_asked_for(ahead):
    begun = []

    def noted(item):
        begun.append(item)
        return item

    with closing(on_threads(noted, range(50), 4, ahead=ahead)) as results:
        for asked, item in enumerate(results, start=1):
            time.sleep(1e-4)
            assert item == asked - 1
            assert len(begun) <= asked + ahead
    assert sorted(begun) == list(range(50))
