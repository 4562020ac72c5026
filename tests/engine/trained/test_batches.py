"""Samples that are read ahead on threads."""

import threading
import time

import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.trained.batches import AHEAD, filled


class Number:
    """A sample full of its number, which takes a moment to read."""

    def __init__(self, number, delay_s=0.0, error=None):
        self.number, self.delay_s, self.error, self.was_read = number, delay_s, error, False

    @property
    def name(self):
        return str(self.number)

    def read(self, x):
        self.was_read = True
        time.sleep(self.delay_s)
        x[...] = np.nan if self.error else self.number
        if self.error:
            raise self.error


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (4, 3), (32, 2), (64, 8)])
def test_samples_come_in_order_whoever_reads_them_first(batch, threads):
    delays = np.random.default_rng(1).random(50) * 1e-3
    samples = [Number(number, delay) for number, delay in enumerate(delays)]
    seen = []
    for each in filled(samples, (2,), batch=batch, threads=threads):
        assert each.x.shape == (batch, 2)
        seen += each.x[: len(each.samples), 0].tolist()
    assert seen == list(range(50))


def test_what_cannot_be_read_is_noted_and_leaves_finite_values():
    samples = [Number(number) for number in range(12)]
    samples[3] = Number(3, error=DataError("c.png: cannot be decoded"))
    samples[10] = Number(10, error=KeyError("a bug of a decoder"))
    first, second = (
        {**each.errors, "x": each.x.copy()} for each in filled(samples, (2,), batch=8, threads=2)
    )
    assert first[3] == "c.png: cannot be decoded"
    assert second[2] == "10: KeyError: 'a bug of a decoder'"
    assert np.isfinite(first["x"]).all()
    assert np.isfinite(second["x"]).all()


def test_an_error_is_noted_at_its_place_in_a_batch_of_several_pieces():
    samples = [Number(number, error=KeyError("x") if number == 21 else None) for number in range(30)]
    (batch,) = filled(samples, (2,), batch=32, threads=2)
    assert batch.errors == {21: "21: KeyError: 'x'"}
    assert batch.x[21].tolist() == [0, 0]
    assert batch.x[:30, 0].tolist() == [0 if number == 21 else number for number in range(30)]


def test_no_more_is_read_ahead_than_has_room_and_no_thread_stays():
    before = threading.active_count()
    samples = [Number(number) for number in range(100)]
    batches = filled(samples, (1,), batch=10, threads=2)
    next(batches)
    time.sleep(0.05)
    assert sum(sample.was_read for sample in samples) <= 10 * (1 + AHEAD)
    batches.close()
    assert threading.active_count() == before


def test_a_system_that_gives_no_thread_gets_the_same_batches(monkeypatch):
    def refused(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    samples = [Number(number) for number in range(21)]
    seen = [x for each in filled(samples, (1,), batch=9, threads=2) for x in each.x[: len(each.samples), 0]]
    assert seen == list(range(21))


def test_of_no_samples_there_are_no_batches():
    assert list(filled([], (1,), batch=4, threads=1)) == []
