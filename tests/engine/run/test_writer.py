"""The thread that writes: in order, again and again what a disk refuses, and nothing after the end."""

import errno
import threading

import pytest

from engine.run import writer as module
from engine.run.writer import AbandonedError, Write, Writer

WAIT_S = 20.0


class Disk:
    """Refuses so many writes, then takes them; or waits for a door to open."""

    def __init__(self, refusals=0, number=errno.ENOSPC):
        self.refusals, self.number = refusals, number
        self.done, self.tries, self.door = [], [], threading.Event()
        self.door.set()
        self.begun = threading.Event()

    def write(self, name, *, replaceable=True):
        def work():
            self.begun.set()
            assert self.door.wait(WAIT_S)
            self.tries.append(name)
            if self.refusals:
                self.refusals -= 1
                raise OSError(self.number, "refused", "there")
            self.done.append(name)

        return Write(name, work, is_replaceable=replaceable)


@pytest.fixture(params=["thread", "no thread"])
def said(request, monkeypatch):
    if request.param == "no thread":

        def refused(_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refused)
    return []


def writer_of(said):
    return Writer(said.append, said.append)


def test_what_is_put_is_written_in_order(said):
    disk, writer = Disk(), writer_of(said)
    for name in "abcdef":
        writer.put(disk.write(name))
    assert writer.drain() is None
    assert disk.done == list("abcdef")
    writer.close()
    assert not said


def test_what_the_disk_refuses_is_warned_of_once_and_tried_again_by_who_waits_for_it(said):
    disk, writer = Disk(refusals=3), writer_of(said)
    writer.put(disk.write("a"))
    while not disk.tries:
        pass
    assert str(writer.drain()).endswith("refused: 'there'")
    writer.drain()
    assert writer.drain() is None
    writer.close()
    assert disk.done == ["a"]
    assert said == [
        "a could not be written: there: refused; the run goes on, and it is tried again",
        "a is written, after all",
    ]


def test_a_drain_makes_one_attempt_of_its_own(said):
    disk, writer = Disk(refusals=100), writer_of(said)
    writer.put(disk.write("a"))
    for _ in range(5):
        before = len(disk.tries)
        assert writer.drain() is not None
        assert before < len(disk.tries) <= before + 2
    writer.close()


def test_a_newer_checkpoint_takes_the_place_of_one_that_was_refused_and_notes_stay(said):
    disk, writer = Disk(refusals=100), writer_of(said)
    writer.put(disk.write("old"))
    writer.put(disk.write("note", replaceable=False))
    writer.make_room()
    disk.refusals = 0
    writer.put(disk.write("new"))
    assert writer.drain() is None
    assert disk.done == ["note", "new"]
    writer.close()


@pytest.mark.parametrize("error", [ValueError("mine"), MemoryError(), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_no_matter_of_the_disk_is_for_the_run_to_end_with(said, error):
    def work():
        raise error

    disk, writer = Disk(), writer_of(said)
    writer.put(Write("a", work))
    assert writer.drain() is None
    assert writer.failure is error
    writer.make_room()
    writer.put(disk.write("b"))
    writer.drain()
    assert disk.done == ["b"]
    writer.close()
    assert not said


def test_what_the_disk_refuses_is_tried_again_after_a_pause(monkeypatch):
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    said, written = [], threading.Event()
    disk = Disk(refusals=4)
    writer = Writer(said.append, lambda line: (said.append(line), written.set()))
    writer.put(disk.write("a"))
    assert written.wait(WAIT_S)
    assert disk.done == ["a"]
    assert len(said) == 2
    writer.close()


def test_room_is_waited_for_while_something_is_written():
    disk, writer = Disk(), Writer(print, print)
    disk.door.clear()
    writer.put(disk.write("a"))
    assert disk.begun.wait(WAIT_S)
    assert not disk.done  # and this thread goes on
    threading.Timer(0.05, disk.door.set).start()
    writer.make_room()
    assert disk.done == ["a"]
    writer.close()


def test_nothing_is_begun_after_the_end_and_what_was_begun_can_be_abandoned():
    disk, writer = Disk(), Writer(print, print)
    disk.door.clear()

    def abandonable():
        disk.begun.set()
        disk.door.wait(WAIT_S)
        if writer.is_abandoned:
            raise AbandonedError

    writer.put(Write("a", abandonable))
    writer.put(disk.write("b"))
    assert disk.begun.wait(WAIT_S)
    threading.Timer(0.05, disk.door.set).start()
    writer.close(abandon=True)
    assert disk.done == []
    assert isinstance(writer.failure, AbandonedError)
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoints"]
