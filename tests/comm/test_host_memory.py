"""Memory that processes share: seen by the others, never written by them, and gone with its owner."""

import gc
import mmap
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from comm import host_memory

pytestmark = pytest.mark.skipif(
    not (hasattr(os, "memfd_create") and Path("/proc/self/ns/net").is_symlink()),
    reason="this system has no memfd or no /proc",
)


def owner(connection: Connection, floats: int) -> None:
    with host_memory.offer(floats) as (own, handle):
        connection.send((handle, not own.any()))
        connection.recv()  # attached
    for value in (1, 2):
        own[:] = value
        connection.send(None)
        connection.recv()


@pytest.mark.parametrize("floats", [0, 1, 1000, 3_000_000])
def test_what_the_owner_writes_the_others_read(floats: int) -> None:
    connection, other = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=owner, args=(other, floats))
    process.start()
    handle, is_zero = connection.recv()
    seen = host_memory.attach(handle)
    assert is_zero and seen.shape == (floats,) and seen.dtype == np.float32
    for value in (1, 2):
        connection.send(None)
        connection.recv()
        assert (seen == value).all()
    connection.send(None)
    process.join()
    assert (seen == 2).all()  # also when the owner has ended


def test_a_segment_is_read_only_for_the_others_and_has_no_name_left() -> None:
    with host_memory.offer(8) as (own, handle):
        seen = host_memory.attach(handle)
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1
    own[0] = 3
    assert seen[0] == 3
    with pytest.raises(OSError):
        host_memory.attach(handle)


def test_attached_memory_takes_no_descriptor_once_it_is_forgotten() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- quickly, with nothing left open

    with host_memory.offer(8) as (_, handle):
        before = descriptors()
        seen = host_memory.attach(handle)
        assert not seen.any()
        del seen
        gc.collect()
        assert descriptors() == before


def test_memory_is_shared_where_there_are_no_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutHugePages(mmap.mmap):
        def madvise(self, *_: int) -> None:  # type: ignore[override]
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(host_memory.mmap, "mmap", WithoutHugePages)
    with host_memory.offer(8) as (own, handle):
        own[3] = 1
        assert host_memory.attach(handle)[3] == 1


def test_another_file_of_the_same_number_is_refused() -> None:
    with host_memory.offer(8) as (_, first):
        pass
    with host_memory.offer(8) as (_, second):
        assert second.file == first.file  # the number is free again
        with pytest.raises(FileNotFoundError, match=f"process {os.getpid()} has another file {first.file}"):
            host_memory.attach(first)


def test_a_domain_is_a_boot_and_two_namespaces() -> None:
    namespaces = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "net")]
    assert host_memory.sharing_domain() == (host_memory.boot_id(), *namespaces)
    assert len(host_memory.boot_id()) == 36  # a UUID
