"""The loader: order, buffers, failures and endings."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data import loader as loader_module
from engine.data.augment import Augment
from engine.data.counter import Stream, random_words
from engine.data.dataset import DataError, Dataset
from engine.data.frame import Frame, random_part
from engine.data.loader import Loader
from engine.data.mix import Mix
from engine.data.readers.image_dataset import framed
from engine.data.readers.in_memory import InMemoryImages
from engine.data.readers.normalise import Normalisation
from engine.data.sampler import ABSENT, Sampler, Share, evaluation


@dataclass(frozen=True, eq=False)
class Numbered(Dataset):
    """Sample i is filled with i and has label i % 10; `broken` cannot be read; reading is recorded."""

    name: str = "numbered"
    sample_shape: tuple[int, ...] = (2, 4, 4)
    classes: int = 10
    broken: int = -5
    delay_s: float = 0.0
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return 100

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        if index == self.broken:
            raise DataError.at("17.jpg", "cannot be decoded")
        time.sleep(self.delay_s)
        self.reads.append(index)
        x[...] = np.arange(32).reshape(2, 4, 4) + 100 * index
        return index % 10

    def fingerprint(self) -> str:
        return "numbered"


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "data-prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not prefetch_threads()


def shares_of(*rows: list[int], epoch: int = 0) -> list[Share]:
    return [Share(epoch, np.array(row, np.int64)) for row in rows]


def test_batches_come_in_the_order_of_the_shares() -> None:
    shares = list(islice(Sampler(length=100, batch=8, seed=1).training(), 30))
    with Loader(Numbered(), shares) as loader:
        for share, batch in zip(shares, loader, strict=True):
            np.testing.assert_array_equal(batch.samples, share.samples)
            np.testing.assert_array_equal(batch.labels, share.samples % 10)
            np.testing.assert_array_equal(batch.x[:, 0, 0, 0], share.samples * 100)
            assert batch.epoch == share.epoch
            assert (batch.x.dtype, batch.labels.dtype, batch.samples.dtype) == (
                np.float32,
                np.int32,
                np.int64,
            )
            assert batch.x.shape == (8, 2, 4, 4)
            assert batch.x.flags.c_contiguous


def test_where_no_thread_starts_the_same_batches_come_when_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def seen() -> list[list[int]]:
        data = Numbered(broken=60)
        with Loader(data, shares_of([1, 2], [3, 4], [5, 60], [7, 8])) as loader:
            found = [next(loader).samples.tolist()]
            assert loader.failure() is None
            reads.append(len(data.reads))
            found.append(next(loader).samples.tolist())
            with pytest.raises(DataError, match="cannot be decoded"):
                next(loader)
            return [*found, list(loader)]

    reads: list[int] = []
    wanted = seen()
    monkeypatch.setattr(threading.Thread, "start", refused)
    assert seen() == wanted == [[1, 2], [3, 4], []]
    assert reads[1] == 4  # no further than was asked


def test_absent_samples_are_zero_and_labelled_so() -> None:
    with Loader(Numbered(), evaluation(10, 4)) as loader:
        seen = [
            (batch.samples.tolist(), batch.labels.tolist(), batch.x[:, 0, 0, 1].tolist()) for batch in loader
        ]
    assert seen[-1] == ([8, 9, ABSENT, ABSENT], [8, 9, -1, -1], [801.0, 901.0, 0.0, 0.0])
    assert [sample for samples, _, _ in seen for sample in samples if sample != ABSENT] == list(range(10))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_buffers_are_reused_and_the_held_batch_is_left_alone(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a busy machine has it look further ahead.
    monkeypatch.setattr(loader_module, "_LONG_WAIT_S", math.inf)
    places = set()
    with Loader(Numbered(), Sampler(100, 4, 0).training(), depth=depth) as loader:
        for batch in islice(loader, 20):
            before = batch.x.copy()
            time.sleep(0.002)
            np.testing.assert_array_equal(batch.x, before)
            places.add(batch.x.ctypes.data)
    assert len(places) == depth + 1


def test_thread_runs_ahead_by_depth_and_no_further() -> None:
    data = Numbered()
    with Loader(data, Sampler(100, 5, 0).training(), depth=2) as loader:
        next(loader)
        deadline = time.monotonic() + 5
        while len(data.reads) < 15 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(data.reads) == 15


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_load_what_one_rank_loads(ranks: int) -> None:
    def load(rows: slice) -> list[NDArray[np.float32]]:
        shares = (share.rows(rows) for share in islice(Sampler(100, 16, 3).training(), 9))
        with Loader(Numbered(), shares, augment=Augment(flip=True, crop_padding=2), seed=3) as loader:
            return [batch.x.copy() for batch in loader]

    part = 16 // ranks
    parts = [load(slice(rank * part, (rank + 1) * part)) for rank in range(ranks)]
    for step, whole in enumerate(load(slice(None))):
        np.testing.assert_array_equal(np.concatenate([loaded[step] for loaded in parts]), whole)


def test_only_the_samples_of_the_share_are_read() -> None:
    data = Numbered()
    with Loader(data, shares_of([3, 9], [ABSENT, 4])) as loader:
        assert len([batch.epoch for batch in loader]) == 2
    assert data.reads == [3, 9, 4]


def test_failure_is_raised_with_its_own_type_after_the_good_batches() -> None:
    loader = Loader(Numbered(broken=17), shares_of([1], [2], [17], [3]))
    assert [next(loader).samples.item() for _ in range(2)] == [1, 2]
    with pytest.raises(DataError, match=r"17.jpg: cannot be decoded"):
        next(loader)
    assert list(loader) == []


def test_a_label_below_zero_is_refused() -> None:
    @dataclass(frozen=True, eq=False)
    class Unlabelled(Numbered):
        def read(self, index: int, x: NDArray[np.float32]) -> int:
            return super().read(index, x) - 1

    wrong = pytest.raises(DataError, match=r"numbered: sample 10 has label -1; must be from 0 to 9")
    with Loader(Unlabelled(), shares_of([10, 11])) as loader, wrong:
        next(loader)


def test_label_beyond_the_classes_is_refused() -> None:
    with Loader(Numbered(classes=9), shares_of([8], [9])) as loader:
        next(loader)
        with pytest.raises(DataError, match=r"numbered: sample 9 has label 9; must be from 0 to 8"):
            next(loader)


@pytest.mark.parametrize("label", [1.5, 1.0, "one", None, np.array([1, 2])])
def test_a_label_that_is_no_whole_number_is_refused(label: Any) -> None:
    @dataclass(frozen=True, eq=False)
    class Odd(Numbered):
        def read(self, index: int, x: NDArray[np.float32]) -> Any:
            super().read(index, x)
            return label if index == 2 else np.int16(index)

    with Loader(Odd(), shares_of([1], [2])) as loader:
        assert next(loader).labels.tolist() == [1]
        with pytest.raises(DataError) as refused:
            next(loader)
    assert str(refused.value).startswith(f"numbered: sample 2 has label {label!r}; must be a whole number")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused(value: float) -> None:
    @dataclass(frozen=True, eq=False)
    class Spoilt(Numbered):
        def read(self, index: int, x: NDArray[np.float32]) -> int:
            label = super().read(index, x)
            x[1, 2, 3] = value
            return label

    wrong = pytest.raises(DataError, match=r"^numbered: sample 4 has values that are not finite$")
    with Loader(Spoilt(), shares_of([4])) as loader, wrong:
        next(loader)


def test_samples_that_cannot_be_read_are_absent_where_somebody_is_told() -> None:
    told: list[tuple[int, str]] = []
    loader = Loader(
        Numbered(broken=7, classes=9),
        shares_of([6, 7, 8], [19, 20, ABSENT]),
        on_bad=lambda sample, error: told.append((sample, str(error))),
    )
    with loader:
        (labels, x), (others, _) = ((batch.labels.tolist(), batch.x.copy()) for batch in loader)
    assert labels == [6, ABSENT, 8]
    assert others == [ABSENT, 0, ABSENT]
    assert not x[1].any()
    assert told == [
        (7, "17.jpg: cannot be decoded"),
        (19, "numbered: sample 19 has label 9; must be from 0 to 8"),
    ]


def test_a_failure_is_known_while_the_batch_before_it_is_held() -> None:
    with Loader(Numbered(broken=5), shares_of([1, 2], [3, 4], [5, 6])) as loader:
        held = next(loader)
        assert loader.failure() is None
        assert loader.failure() is None
        np.testing.assert_array_equal(held.labels, [1, 2])  # asking for the next one frees nothing
        held = next(loader)
        waited = loader.wait_seconds
        assert isinstance(loader.failure(), DataError)
        np.testing.assert_array_equal(held.labels, [3, 4])
        assert loader.wait_seconds >= waited
        with pytest.raises(DataError):
            next(loader)
        assert loader.failure() is None


def test_the_end_is_no_failure() -> None:
    with Loader(Numbered(), shares_of([1, 2])) as loader:
        next(loader)
        assert loader.failure() is None
        assert list(loader) == []


def test_failure_of_the_shares_is_raised_too() -> None:
    def shares() -> Iterator[Share]:
        yield from shares_of([1])
        raise KeyError("no more")

    loader = Loader(Numbered(), shares())
    next(loader)
    with pytest.raises(KeyError, match="no more"):
        next(loader)


def test_early_close_is_prompt_while_batches_wait() -> None:
    loader = Loader(Numbered(), Sampler(100, 4, 0).training())
    next(loader)
    started = time.monotonic()
    loader.close()
    loader.close()
    assert time.monotonic() - started < 1
    assert list(loader) == []


def test_close_does_not_wait_for_the_rest_of_a_minibatch() -> None:
    samples, started = Numbered(delay_s=0.02), time.monotonic()
    with Loader(samples, Sampler(100, 100, 0).training()):
        pass
    assert time.monotonic() - started < 1
    assert len(samples.reads) < 100


def test_close_before_the_first_share_and_no_shares_at_all() -> None:
    with Loader(Numbered(), []) as loader:
        assert list(loader) == []
    Loader(Numbered(), shares_of([1], [2])).close()


def test_thread_is_a_named_daemon() -> None:
    with Loader(Numbered(), Sampler(100, 4, 0).training()):
        (thread,) = prefetch_threads()
        assert thread.daemon


def test_waiting_is_measured() -> None:
    with Loader(Numbered(delay_s=0.01), shares_of([1, 2])) as slow:
        assert len([batch.epoch for batch in slow]) == 1
    # Two sleeps of 10 ms, less what passed before the loader was asked.
    assert 0.005 < slow.wait_seconds < 1


def test_each_wait_and_each_load_is_told() -> None:
    waits, loads = list[tuple[float, float]](), list[tuple[float, float]]()
    loader = Loader(
        Numbered(delay_s=0.01),
        shares_of([1, 2], [3, 4], [5, 6]),
        on_wait=lambda start, end: waits.append((start, end)),
        on_load=lambda start, end: loads.append((start, end)),
    )
    with loader:
        assert len([batch.epoch for batch in loader]) == 3
    assert len(loads) == 3
    assert all(end - start >= 0.02 for start, end in loads)
    assert sum(end - start for start, end in waits) == pytest.approx(loader.wait_seconds)


def test_augmentation_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"crop4 of \(2, 4, 4\)"):
        Loader(Numbered(), [], augment=Augment(crop_padding=4))


def test_augmentation_is_keyed_by_seed_the_epoch_of_the_share_and_the_sample() -> None:
    augment, data, shares = Augment(flip=True, crop_padding=3), Numbered(), []
    for epoch in (0, 1, 2, 7):
        shares += shares_of([5, 6], [7, 5], epoch=epoch)
    seen = set[bytes]()
    with Loader(data, shares, augment=augment, seed=11) as loader:
        for share, batch in zip(shares, loader, strict=True):
            for place, sample in enumerate(share.samples.tolist()):
                expected = np.empty(data.sample_shape, np.float32)
                data.read(sample, expected)
                augment.apply(expected, np.empty_like(expected), seed=11, epoch=share.epoch, sample=sample)
                np.testing.assert_array_equal(batch.x[place], expected)
                seen.add(expected.tobytes())
    assert len(seen) > 3 * 3  # of 98 for each of the three samples: hardly one comes twice in four epochs


def test_the_seed_of_an_augmentation_is_0_unless_told() -> None:
    augment, shares = Augment(flip=True, crop_padding=3), shares_of([5, 6], [7, 5], epoch=1)
    with (
        Loader(Numbered(), shares, augment=augment) as unasked,
        Loader(Numbered(), shares, augment=augment, seed=0) as asked,
    ):
        for one, other in zip(unasked, asked, strict=True):
            np.testing.assert_array_equal(one.x, other.x)


@dataclass(frozen=True, eq=False)
class Safe(Numbered):
    """May be read on several threads; the first samples of a batch take longest."""

    READS_ON_THREADS: ClassVar[bool] = True

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        time.sleep(0.004 * (4 - index % 4))
        if index % 10 == 7:
            raise DataError.at(f"{index}.jpg", "cannot be decoded")
        return super().read(index, x)


@pytest.mark.parametrize("mix", [None, Mix(mixup=1.0)])
def test_threads_that_read_change_nothing_and_tell_of_bad_samples_in_order(mix: Mix | None) -> None:
    shares = shares_of(*([4 * place + each for each in range(4)] for place in range(12)))
    found = []
    for threads in (1, 3):
        told: list[int] = []
        bad = partial(_note, told)
        augment = Augment(flip=True, crop_padding=2)
        with Loader(Safe(), shares, threads=threads, augment=augment, mix=mix, on_bad=bad) as loader:
            batches = [(each.x.tobytes(), each.labels.tolist(), each.samples.tolist()) for each in loader]
        found.append((batches, told))
    assert found[0] == found[1]
    assert {7, 17, 27, 37, 47} <= set(found[0][1])


def test_another_sample_takes_the_place_of_one_that_cannot_be_read() -> None:
    """Which one follows from the key, also where it cannot be read either; nothing else changes."""
    shares = shares_of([7, 1, 17], [2, 27, 3], epoch=4)
    found = []
    for threads in (1, 3):
        told: list[int] = []
        with Loader(
            Safe(), shares, threads=threads, seed=5, on_bad=partial(_note, told), substitutes=True
        ) as loader:
            found.append(
                [(batch.x.copy(), batch.labels.tolist(), batch.samples.tolist()) for batch in loader]
            )
        assert {7, 17, 27} <= set(told) <= {7, 17, 27, 37, 47, 57, 67, 77, 87, 97}
    for (x, labels, samples), (other_x, *others) in zip(*found, strict=True):
        assert [labels, samples] == others
        np.testing.assert_array_equal(x, other_x)
        assert labels == [sample % 10 for sample in samples]
        assert [float(each.min()) for each in x] == [100 * sample for sample in samples]
    (_, _, first), (_, _, second) = found[0]
    assert (first[1], second[0], second[2]) == (1, 2, 3)
    assert len({first[0], first[2], second[1]}) == 3  # a key draws for itself


def test_data_of_which_nothing_can_be_read_is_an_error_also_with_substitutes() -> None:
    class Unreadable(Numbered):
        def read(self, index: int, x: NDArray[np.float32]) -> int:
            raise DataError.at(f"{index}.jpg", "cannot be decoded")

    told: list[int] = []
    with (
        Loader(Unreadable(), shares_of([3]), on_bad=partial(_note, told), substitutes=True) as loader,
        pytest.raises(DataError, match=r"^3\.jpg: cannot be decoded$"),
    ):
        next(loader)


def _note(told: list[int], sample: int, error: DataError) -> None:
    assert str(error) == f"{sample}.jpg: cannot be decoded"
    told.append(sample)


def test_threads_read_at_once_only_where_the_data_allows_it() -> None:
    class Counted(Safe):
        READS_ON_THREADS = False

        def read(self, index: int, x: NDArray[np.float32]) -> int:
            readers.add(threading.get_ident())
            return super().read(index, x)

    class CountedOnThreads(Counted):
        READS_ON_THREADS = True

    for kind, wanted in ((Counted, {1}), (CountedOnThreads, {2, 3, 4})):
        readers: set[int] = set()
        with Loader(kind(), shares_of([0, 1, 2, 3]), threads=4) as loader:
            assert len(list(loader)) == 1
        assert len(readers) in wanted


def test_more_batches_are_prepared_ahead_where_one_is_waited_for() -> None:
    """A reader that is slow now and then gets ahead of a consumer that is as fast on the average."""

    class Stumbling(Numbered):
        def read(self, index: int, x: NDArray[np.float32]) -> int:
            time.sleep(0.05 if index % 8 == 7 else 0)
            return super().read(index, x)

    data = Stumbling()
    with Loader(data, Sampler(100, 2, 0).training(), depth=1) as loader:
        for _ in islice(loader, 60):
            time.sleep(0.01)
        time.sleep(0.2)  # all that it may prepare is prepared
        ahead = len(data.reads) // 2 - 60
    assert 1 < ahead <= 8  # two buffers are one ahead


def test_parts_and_colours_are_refused_where_there_are_no_stored_images() -> None:
    with pytest.raises(UserError, match="augment: numbered has no stored images"):
        Loader(Numbered(), [], augment=Augment(resized_crop=0.5))


def test_a_part_of_a_stored_image_is_read_in_other_colours_and_leaves_the_image_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 12, 16), np.uint8)
    kept = images.copy()
    data = InMemoryImages(
        "images", (3, 12, 16), 4, pixels=images, labels=np.arange(4, dtype=np.uint8),
        normalisation=Normalisation.of(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
    )  # fmt: skip
    augment = Augment.parse("resized_crop0.2,flip,jitter0.4,erase0.5")
    flipped = set()

    def flips(sample: int) -> bool:
        coin = int(random_words(Stream.AUGMENT, 1, seed=9, counter=(sample, 5)).item()) & 1
        flipped.add(coin)
        return coin == 1

    with Loader(data, shares_of([2, 0], [1, 3], epoch=5), augment=augment, seed=9, threads=2) as loader:
        for batch in loader:
            for x, sample in zip(batch.x, batch.samples.tolist(), strict=True):
                keys = {"seed": 9, "epoch": 5, "sample": sample}
                frame = random_part(16, 12, least=0.2, **keys)
                left, upper, right, lower = frame.region
                pixels = framed(
                    np.ascontiguousarray(kept[sample][:, upper:lower, left:right].transpose(1, 2, 0)),
                    Frame((0, 0, right - left, lower - upper), frame.box), height=12, width=16,
                )  # fmt: skip
                if flips(sample):
                    pixels = np.ascontiguousarray(pixels[:, :, ::-1])
                augment.recolour(pixels, **keys)
                expected = np.empty((3, 12, 16), np.float32)
                data.normalisation.apply(pixels, expected)
                augment.apply(expected, np.empty_like(expected), **keys)
                np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(images, kept)
    assert flipped == {0, 1}


def test_a_mixed_sample_is_made_of_two_of_the_data_set_on_any_share_of_the_minibatch():
    class Numbers(Dataset):
        def __len__(self):
            return 8

        def read(self, index, x):
            x.fill(index)
            return index

        def fingerprint(self):
            return ""

    data, mix, samples = Numbers("numbers", (1, 1, 1), 8), Mix(mixup=1.0), np.array([3, 5, 0, 7])

    def batch(rows, **given):
        shares = [Share(2, samples[rows])]
        with Loader(data, shares, seed=4, **given) as loader:
            found = next(loader)
            return found.x.copy(), found.labels.copy(), found.other_labels, found.shares

    x, labels, others, shares = (each.copy() for each in batch(slice(0, 4), mix=mix))
    np.testing.assert_array_equal(labels, samples)
    np.testing.assert_array_equal(
        others, [mix.partner(8, seed=4, epoch=2, sample=int(sample)) for sample in samples]
    )
    np.testing.assert_allclose(x.ravel(), shares * labels + (1 - shares) * others, rtol=1e-5)
    later = batch(slice(2, 4), mix=mix)
    for whole, part in zip((x, labels, others, shares), later, strict=True):
        assert whole[2:].tobytes() == part.tobytes()
    plain = batch(slice(0, 4), mix=Mix())
    assert plain[2] is None and plain[3] is None
    np.testing.assert_array_equal(plain[0].ravel(), samples)
