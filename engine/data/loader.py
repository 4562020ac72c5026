"""Prepare the next minibatches on a thread while this one is computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.user_code import no_exit
from engine.data.augment import Augment
from engine.data.counter import Stream, random_words
from engine.data.dataset import DataError, Dataset, mistake_in
from engine.data.mix import Mix
from engine.data.readers.image_dataset import ImageDataset
from engine.data.sampler import ABSENT, Share
from engine.host.memory_limit import room
from engine.host.on_threads import on_threads
from engine.host.unpinned import run_anywhere

DEPTH = 2
"""Batches that are prepared ahead at first, unless somebody asks for another number."""
_MOST_AHEAD = 8
"""More are prepared ahead, one by one, where they are waited for."""
_LONG_WAIT_S = 1e-3
_MOST_DRAWN = 16  # samples in place of one that cannot be read, before that is an error
_SHARE_OF_ROOM = 0.05  # of the memory that is left

BadHook = Callable[[int, DataError], None]
"""``hook(sample, error)``, of a sample that cannot be read."""

SpanHook = Callable[[float, float], None]
"""``hook(start, end)``, in seconds of `time.perf_counter`."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One prepared minibatch, or this rank's share of it.

    Attributes
    ----------
    x
        float32 [n, *sample_shape], C-contiguous; zeros where the sample is absent.
    labels
        int32 [n]; -1 where the sample is absent.
    samples
        int64 [n], indices into the data set; -1 where the sample is absent.
    epoch
        The epoch of the share, which keyed the augmentation.
    microbatch
        Which one of the rank's share of a minibatch.
    is_lost
        The samples could not be read.
    other_labels, shares
        int32 [n] and float64 [n]: labels of the samples that are mixed in, and what each sample keeps; None
        where nothing is mixed.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.int32]
    samples: NDArray[np.int64]
    epoch: int
    microbatch: int = 0
    is_lost: bool = False
    other_labels: NDArray[np.int32] | None = None
    shares: NDArray[np.float64] | None = None

    @classmethod
    def lost(cls, samples: int, shape: tuple[int, ...], microbatch: int = 0) -> Batch:
        """Return zeros of no class in place of samples that could not be read."""
        absent = np.full(samples, ABSENT, np.int32)
        x = np.zeros((samples, *shape), np.float32)
        return cls(x, absent, absent.astype(np.int64), 0, microbatch, is_lost=True)


@dataclass(frozen=True)
class _End:
    """Mark the end of the batches; carry the error that stopped the thread, if one did."""

    error: BaseException | None


class Loader:
    """Iterate over prepared batches, in the order of the shares.

    The batches live in `depth` + 1 buffers that are reused: a batch is valid until the next one is asked
    for. What fails while a batch is prepared is raised, as it is, where that batch would have come; the
    iteration is then over. A loader can be walked through once. Close it, or use it in a `with`.

    Parameters
    ----------
    dataset
        Only the samples named in the shares are read, by the loader's thread.
    shares
        All of one length; consumed by the loader's thread, up to `depth` + 1 ahead. May be endless.
    augment
        None leaves the samples as they are.
    mix
        What samples are mixed with others by; None: they are not.
    seed
        Keys the augmentation and the mixing, together with the share's epoch and the sample's key.
    depth
        Number of batches that are prepared ahead; more where one was waited for, as far as memory has room.
    threads
        That read the samples of a batch, if several may read the data set's at once.
    on_bad
        Called on the loader's thread for each sample that cannot be read, which is absent then; without it
        the error ends the iteration.
    substitutes
        Samples that cannot be read are not absent, but others take their places, which are drawn by the key.
    on_wait, on_load
        Called after each wait of the caller for a batch, and on the loader's thread after each batch.

    Attributes
    ----------
    wait_seconds
        Time that the caller has waited for batches that were not ready, in all.
    """

    def __init__(
        self,
        dataset: Dataset,
        shares: Iterable[Share],
        *,
        augment: Augment | None = None,
        mix: Mix | None = None,
        seed: int = 0,
        depth: int = DEPTH,
        threads: int = 1,
        on_bad: BadHook | None = None,
        substitutes: bool = False,
        on_wait: SpanHook | None = None,
        on_load: SpanHook | None = None,
    ) -> None:
        self._on_bad, self._on_wait, self._on_load = on_bad, on_wait, on_load
        self._substitutes = substitutes
        self.wait_seconds = 0.0
        self._dataset = dataset
        self._shares = shares
        self._augment = augment or Augment()
        self._augment.check(dataset.sample_shape)
        self._images = _images(dataset) if self._augment.takes_stored_images else None
        self._threads = threads if dataset.READS_ON_THREADS else 1
        self._augments = self._augment != Augment()
        self._mix = None if mix == Mix() else mix
        self._seed = seed
        self._buffers = depth + 1
        self._local = threading.local()
        self._free: SimpleQueue[Batch | None] = SimpleQueue()
        self._ready: SimpleQueue[Batch | _End] = SimpleQueue()
        self._held: Batch | None = None
        self._has_begun = False
        self._next: Batch | _End | None = None
        self._stop = Event()
        self._batches = self._prepared()
        self._thread: Thread | None = Thread(target=self._run, name="data-prefetch", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # as many threads as the system allows: each batch is prepared when it is wanted
            self._thread = None

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise StopIteration
        if self._held is not None:
            self._free.put(self._held)
            self._held = None
        arrived, self._next = self._arrived(), None
        if isinstance(arrived, Batch):
            self._held, self._has_begun = arrived, True
            return arrived
        self.close()
        if arrived.error is not None:
            raise arrived.error
        raise StopIteration

    def failure(self) -> BaseException | None:
        """Wait for the next batch, and return what will be raised in its place; None if it is there."""
        if self._stop.is_set():
            return None
        self._next = self._arrived()
        return self._next.error if isinstance(self._next, _End) else None

    def _arrived(self) -> Batch | _End:
        """Wait for what comes next."""
        if self._next is not None:
            return self._next
        asked = time.perf_counter()
        if self._thread is None:
            self._prepare()
        arrived = self._ready.get()
        now = time.perf_counter()
        if now - asked > _LONG_WAIT_S:
            self._look_further_ahead(arrived)
        self.wait_seconds += now - asked
        if self._on_wait is not None:
            self._on_wait(asked, now)
        return arrived

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread, at the latest after the sample it is reading; may be called again."""
        self._stop.set()
        self._free.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        run_anywhere()
        while self._prepare():
            pass

    def _prepare(self) -> bool:
        """Hand over the next batch, or the end, after which there is nothing more."""
        try:
            batch = next(self._batches, None)
        except BaseException as error:  # whatever it is, the consumer must not wait forever
            self._ready.put(_End(error))
            return False
        self._ready.put(_End(None) if batch is None else batch)
        return batch is not None

    def _prepared(self) -> Iterator[Batch]:
        started = False
        for share in self._shares:
            if not started:
                for _ in range(self._buffers):
                    self._free.put(self._allocate(len(share.samples)))
                started = True
            buffer = self._free.get()
            start = time.perf_counter()
            if buffer is None or not self._fill(buffer, share):
                return
            if self._on_load is not None:
                self._on_load(start, time.perf_counter())
            yield replace(buffer, epoch=share.epoch, microbatch=share.microbatch)

    def _allocate(self, samples: int) -> Batch:
        return Batch(
            x=np.empty((samples, *self._dataset.sample_shape), np.float32),
            labels=np.empty(samples, np.int32),
            samples=np.empty(samples, np.int64),
            epoch=0,
            other_labels=np.full(samples, ABSENT, np.int32) if self._mix else None,
            shares=np.ones(samples) if self._mix else None,
        )

    def _look_further_ahead(self, arrived: Batch | _End) -> None:
        """Add a buffer, where the thread was late with another batch than the first."""
        if not isinstance(arrived, Batch) or not self._has_begun or self._buffers > _MOST_AHEAD:
            return
        if arrived.x.nbytes < _SHARE_OF_ROOM * room():
            self._buffers += 1
            self._free.put(self._allocate(len(arrived.samples)))

    def _scratch(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return two samples' memory of the calling thread."""
        found: tuple[NDArray[np.float32], NDArray[np.float32]] | None = getattr(self._local, "scratch", None)
        if found is None:
            shape = self._dataset.sample_shape
            found = self._local.scratch = (np.empty(shape, np.float32), np.empty(shape, np.float32))
        return found

    def _fill(self, buffer: Batch, share: Share) -> bool:
        """Write one share into a buffer; return False if `close` stopped it halfway."""
        assert share.samples.shape == buffer.samples.shape, "all shares of a loader have one length"
        buffer.samples[...] = share.samples
        fill = partial(self._fill_place, buffer, share)
        threads = self._threads if self._threads > 1 else 0  # one: this one
        with closing(on_threads(fill, range(len(share.samples)), threads)) as filled:
            for bad in filled:
                for sample, error in bad:
                    self._tell(sample, error)
                if self._stop.is_set():
                    return False
        return True

    def _tell(self, sample: int, error: DataError) -> None:
        """Tell of a sample that cannot be read, on the loader's own thread and in order."""
        if self._on_bad is None:
            raise error
        self._on_bad(sample, error)

    def _fill_place(self, buffer: Batch, share: Share, place: int) -> list[tuple[int, DataError]]:
        """Write a sample into its place of a buffer; return those that cannot be read."""
        bad: list[tuple[int, DataError]] = []
        sample, key, x = int(share.samples[place]), int(share.keys[place]), buffer.x[place]
        label = ABSENT if sample == ABSENT else self._read(sample, key, share.epoch, x, bad)
        if bad and self._substitutes:
            label = self._substituted(buffer, place, key, share.epoch, bad)
        buffer.labels[place] = label
        if label == ABSENT:
            x.fill(0.0)
        elif self._mix is not None:
            self._mixed(buffer, place, share, key, bad)
        return bad

    def _read(
        self, sample: int, key: int, epoch: int, x: NDArray[np.float32], bad: list[tuple[int, DataError]]
    ) -> int:
        """Read one sample into x, augmented, and return its label; ABSENT where it cannot be used."""
        keys = {"seed": self._seed, "epoch": epoch, "sample": key}
        try:
            with no_exit(f"data: sample {sample}"):
                label = self._dataset.read(sample, x) if self._images is None else self._part(sample, x, keys)
            wrong = mistake_in(self._dataset, label, x)
            if wrong is not None:
                raise DataError.at(self._dataset.name, f"sample {sample} {wrong}")
        except DataError as error:
            bad.append((sample, error))
            return ABSENT
        if self._augments:
            self._augment.apply(x, self._scratch()[0], **keys)
        return int(label)

    def _substituted(
        self, buffer: Batch, place: int, key: int, epoch: int, bad: list[tuple[int, DataError]]
    ) -> int:
        """Read another sample into a place, the first drawn one that can be read, and return its label."""
        drawn = random_words(Stream.SUBSTITUTE, _MOST_DRAWN, seed=self._seed, counter=(key, epoch))
        for sample in (drawn % len(self._dataset)).tolist():
            label = self._read(sample, key, epoch, buffer.x[place], bad)
            if label != ABSENT:
                buffer.samples[place] = sample
                return label
        raise bad[0][1]

    def _part(self, sample: int, x: NDArray[np.float32], keys: dict[str, int]) -> int:
        """Read a part of a stored image, in other colours."""
        assert self._images is not None
        pixels, label = self._images.image(sample, self._augment.framing(**keys))
        pixels = pixels.copy() if self._augment.recolours else pixels  # it may be kept
        self._augment.recolour(pixels, **keys)
        self._images.normalisation.apply(pixels, x)
        return label

    def _mixed(
        self, buffer: Batch, place: int, taken: Share, key: int, bad: list[tuple[int, DataError]]
    ) -> None:
        """Mix the sample in a place with another one of the epoch, which is read and augmented too."""
        assert self._mix is not None and buffer.other_labels is not None and buffer.shares is not None
        epoch, order = taken.epoch, taken.order
        keys = {"seed": self._seed, "epoch": epoch, "sample": key}
        other = self._mix.partner(len(self._dataset), **keys)
        mixed_in = self._scratch()[1]
        label = self._read(other if order is None else int(order[other]), other, epoch, mixed_in, bad)
        share = 1.0 if label == ABSENT else self._mix.apply(buffer.x[place], mixed_in, **keys)
        buffer.other_labels[place] = label if label != ABSENT else buffer.labels[place]
        buffer.shares[place] = share


def _images(dataset: Dataset) -> ImageDataset:
    """Return a data set whose stored images can be had, or say that they cannot."""
    if isinstance(dataset, ImageDataset):
        return dataset
    raise UserError(
        f"augment: {dataset.name} has no stored images that a part or other colours can be made of"
    )
