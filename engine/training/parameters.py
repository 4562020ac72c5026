"""One node's weights and gradients: views of a bucket in blocked layout, and their standard layout."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue
from comm.tree import STRIP_FLOATS, ceil_div
from engine.host.aligned_arrays import aligned_zeros
from engine.training.bucket import AVERAGE, WEIGHTS, Bucket, Stretch
from engine.training.held import Copy, Held, Tensors, made
from engine.training.microbatches import additions
from engine.training.normal import NormalNumbers
from engine.training.update import Update
from layers.layer import Array, Parameter, PartialSum, write_identity

TRAINED = "trained."
"""Prefix of the names of weights in a checkpoint whose model is their average."""

_PACKED_FLOATS = 1 << 18  # of the initial weights at a time, 1 MB
_DRAWN_FLOATS = 1 << 16  # of the initial weights at a time: there may be room for this rank's part only


@dataclass(frozen=True)
class Split:
    """A node's parameters, split over a model group: each rank has some rows of the standard layout."""

    described: tuple[dict[str, Parameter], ...]
    """Parameters of each part, by name."""
    group: Collectives
    queue: CommandQueue

    @property
    def part(self) -> int:
        """Index of this rank's part."""
        return self.group.communicator.rank

    def rows(self, name: str) -> slice:
        """Return this rank's rows of a parameter."""
        start = sum(part[name].shape[0] for part in self.described[: self.part])
        return slice(start, start + self.described[self.part][name].shape[0])

    def gather(self, name: str, own: Array) -> Iterator[Array]:
        """Yield a parameter in standard layout, part by part, given the own part (collective)."""
        for part, described in enumerate(self.described):
            rows = own if part == self.part else np.empty(described[name].shape, np.float32)
            self.queue.submit(self.group.broadcast(rows, part), name=f"gather {name}").wait()
            yield rows


class Parameters:
    """One node's weights and gradients: its part of a bucket, from an offset on.

    A node without parameters has no bucket, nor has one that is not trained, whose weights lie in memory of
    their own: there are no jobs, and calls for them return at once. `described` are the parameters on this
    rank; if they are a part of the node's, `split` says which.

    Between `submit_update` and `wait` the communication thread writes the weights; between `submit_reduce`
    and then it writes the gradients.
    """

    def __init__(
        self,
        node: str,
        described: dict[str, Parameter],
        bucket: Bucket | None,
        start: int = 0,
        split: Split | None = None,
    ):
        self.node, self.described, self._split = node, described, split
        self._bucket, self._start = bucket, start
        self.weights: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        if bucket is not None:
            self.weights, self.gradients = self._views(bucket.weights), self._views(bucket.gradients)
        elif described:
            self.weights = self._views(aligned_zeros((padded_floats(described),)))

    def _views(self, flat: Array) -> dict[str, Array]:
        """Return this node's parameters as views of a bucket's buffer."""
        return views_of(self.described, flat, self._start)

    def partial_sums(self, microbatch: int, accumulate: int, members: int) -> tuple[PartialSum, ...]:
        """Return where the gradients of a microbatch go, for the samples of each of some ranks."""
        if self._bucket is None or accumulate == 1:
            return ()
        partials, stop = self._bucket.partials, self._start + padded_floats(self.described)
        own = {slot: flat[self._start : stop] for slot, flat in partials.items()}
        found = []
        for member in range(members):
            slot, adds = additions(microbatch, accumulate, member)
            pairs = tuple((own[total], own[addend]) for total, addend in adds)
            found.append(PartialSum(self._views(partials[slot]), pairs))
        return tuple(found)

    @property
    def is_split(self) -> bool:
        """Whether a plan divides the weights, so that this rank holds a part of them."""
        return self._split is not None

    @property
    def bucket_name(self) -> str | None:
        """Name of the bucket; None without one."""
        return None if self._bucket is None else self._bucket.name

    def tensors(self, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array | Held]:
        """Return all tensors of a checkpoint of this node, given the whole buffers of its bucket.

        Parameters
        ----------
        parts
            Weights and what is kept beside them, flat, by name, for each part of the node.
        """
        described = [self.described] if self._split is None else list(self._split.described)
        tensors = dict[str, Array | Held]()
        for kind in (WEIGHTS, *self._kept):
            prefix = f"{kind}."
            if kind in (WEIGHTS, AVERAGE):
                prefix = TRAINED if kind == WEIGHTS and AVERAGE in self._kept else ""
            views = [
                views_of(part, each[kind], self._start) for part, each in zip(described, parts, strict=True)
            ]
            for name, parameter in self.described.items():
                if self._split is None:
                    blocked = views[0][name]
                    held = Held(parameter.shape, partial(parameter.unpack, blocked), blocked)
                    tensors[f"{prefix}{self.node}.{name}"] = held
                else:
                    rows = [
                        part[name].unpack(view[name]) for part, view in zip(described, views, strict=True)
                    ]
                    tensors[f"{prefix}{self.node}.{name}"] = np.concatenate(rows)
        return tensors

    @property
    def floats(self) -> int:
        """Number of weights on this rank, padding included."""
        return sum(weights.size for weights in self.weights.values())

    @property
    def frozen_bytes(self) -> int:
        """Bytes of weights that are not trained, on this rank."""
        return 4 * padded_floats(self.described) if self._bucket is None else 0

    def submit_reduce(self) -> None:
        """Start summing the gradients over the ranks into the owned strips."""
        if self._bucket is not None:
            self._bucket.submit_reduce()

    def submit_update(self, update: Update) -> None:
        """Start the update of the owned strips and their broadcast.

        Only after backward_data: from here on the weights change under their readers.
        """
        if self._bucket is not None:
            self._bucket.submit_update(update)

    def wait(self) -> None:
        """Wait until the weights are those of the last submitted step."""
        if self._bucket is not None:
            self._bucket.wait()

    def initialise(self, seed: int, given: Mapping[str, Array]) -> None:
        """Take the initial weights that are given; draw the others, as a function of seed and names only."""
        for name, parameter in self.described.items():
            whole = given.get(f"{self.node}.{name}", parameter.given)
            if whole is not None:
                parameter.pack(whole[self._rows(name)], self.weights[name])
            elif parameter.variance > 0:
                self._draw(seed, name)
            else:
                start = np.full(parameter.shape, parameter.initial, np.float32)
                parameter.pack(start, self.weights[name])

    def _draw(self, seed: int, name: str) -> None:
        """Draw a parameter and pack it, in pieces that stay in cache: new memory is slow at first."""
        parameter = self.described[name]
        key = [seed, crc32(f"{self.node}.{name}".encode())]
        numbers = NormalNumbers(key)
        row = self._rows(name).start
        _skip(numbers, row * math.prod(parameter.shape[1:]))
        drawn = np.empty(0, np.float32)
        for shape, part in parameter.pieces(self.weights[name], _PACKED_FLOATS):
            if drawn.size == 0:  # the first piece is the longest
                drawn = np.empty(shape, np.float32)
            standard = drawn[: shape[0]]
            numbers.fill(standard)
            standard *= np.float32(math.sqrt(parameter.variance))
            write_identity(standard, row, parameter.identity_rows)
            parameter.pack(standard, part)
            row += len(standard)

    def gather_weights(self, *, keep: bool = True) -> dict[str, Array]:
        """Return copies of the weights in standard layout, named ``node.parameter`` (collective).

        Ranks that do not `keep` them get none.
        """
        return self._unpack(self.weights, "", keep=keep)

    def digest_into(self, digest: "hashlib._Hash", name: str) -> None:
        """Feed one parameter, standard layout and little-endian, to a hash (collective)."""
        for rows in self._gather(name, self.weights[name]):
            digest.update(rows.astype("<f4", copy=False).data)

    def copy_weights(self, copy: Copy, prefix: str = "") -> dict[str, Array | Held]:
        """Copy the weights as they lie, and return what makes `gather_weights` of the copy (collective).

        Ranks that do not keep them get none.
        """
        views = self.weights
        if copy.keep and self._split is None:
            views = {
                name: copy.of(f"{prefix}{self.node}.{name}", array) for name, array in self.weights.items()
            }
        return self._held(views, prefix, keep=copy.keep)

    def copy_moments(self, copy: Copy) -> dict[str, Array | Held]:
        """Copy the optimizer's moments of all ranks (collective), each named ``moment.node.parameter``.

        Weights that are not trained have none. Ranks that do not keep them get none.
        """
        found = dict[str, Array | Held]()
        for moment in self._kept:
            if moment != AVERAGE:
                assert self._bucket is not None
                views = self._views(self._bucket.gather_kept(moment, copy))
                found |= self._held(views, f"{moment}.", keep=copy.keep)
        return found

    def copy_trained(self, copy: Copy) -> dict[str, Array | Held]:
        """Copy the trained weights where the model is their average, behind TRAINED (collective)."""
        return self.copy_weights(copy, TRAINED) if AVERAGE in self._kept else {}

    def _held(self, views: dict[str, Array], prefix: str, *, keep: bool) -> dict[str, Array | Held]:
        """Return what makes standard tensors; those that are split are made at once, by all ranks."""
        if self._split is not None:
            return {**self._unpack(views, prefix, keep=keep)}
        return {
            f"{prefix}{self.node}.{name}": Held(parameter.shape, partial(parameter.unpack, views[name]))
            for name, parameter in self.described.items()
            if keep
        }

    def restore(self, tensors: Tensors) -> None:
        """Overwrite weights, averages and moments with those of `gather_weights` and `copy_moments`.

        Where weights are averaged, the plain names are those of the averages.
        """
        averages = AVERAGE in self._kept
        self.restore_weights(tensors, TRAINED if averages else "")
        for kept in self._kept:
            prefix = "" if kept == AVERAGE else f"{kept}."
            flat = aligned_zeros((self._start + padded_floats(self.described),))
            views = self._views(flat)
            for name, parameter in self.described.items():
                self._take(tensors[f"{prefix}{self.node}.{name}"], name, parameter, views[name])
            assert self._bucket is not None
            self._bucket.restore_kept(kept, self._start, flat[self._start :])

    @property
    def _kept(self) -> tuple[str, ...]:
        """Names of what is kept beside the weights; nothing of those that are not trained."""
        return () if self._bucket is None else tuple(self._bucket.kept)

    def restore_weights(self, tensors: Tensors, prefix: str = "") -> None:
        """Overwrite the weights alone with those of `gather_weights`, or others behind a prefix."""
        for name, parameter in self.described.items():
            self._take(tensors[f"{prefix}{self.node}.{name}"], name, parameter, self.weights[name])

    def _take(self, tensor: Array | Held, name: str, parameter: Parameter, target: Array) -> None:
        """Write this rank's rows of a tensor in the layout of its kernels, in which they may lie already."""
        if isinstance(tensor, Held) and tensor.blocked is not None and self._split is None:
            np.copyto(target, tensor.blocked)
        else:
            parameter.pack(made(tensor)[self._rows(name)], target)

    def _unpack(self, views: dict[str, Array], prefix: str, *, keep: bool) -> dict[str, Array]:
        whole = {}
        for name in self.described:
            if keep or self._split is not None:
                parts = [rows for rows in self._gather(name, views[name]) if keep]
                if keep:
                    whole[f"{prefix}{self.node}.{name}"] = np.concatenate(parts)
        return whole

    def _gather(self, name: str, blocked: Array) -> Iterator[Array]:
        """Yield a parameter in standard layout, part by part."""
        own = np.ascontiguousarray(self.described[name].unpack(blocked))
        return iter((own,)) if self._split is None else self._split.gather(name, own)

    def _rows(self, name: str) -> slice:
        """Return which rows of the standard parameter this rank holds."""
        if self._split is None:
            return slice(0, self.described[name].shape[0])
        return self._split.rows(name)


def views_of(described: Mapping[str, Parameter], flat: Array, start: int) -> dict[str, Array]:
    """Return a node's parameters as views of a bucket's buffer, in which it begins at `start`."""
    views = {}
    for name, parameter in described.items():
        stop = start + _size(parameter)
        views[name] = flat[start:stop].reshape(parameter.blocked)
        start = stop
    return views


def padded_floats(described: dict[str, Parameter]) -> int:
    """Return a node's floats in a bucket, rounded up to cache lines so that each node begins on one."""
    floats = sum(_size(parameter) for parameter in described.values())
    return ceil_div(floats, STRIP_FLOATS) * STRIP_FLOATS


def stretches_of(described: dict[str, Parameter], start: int) -> Iterator[Stretch]:
    """Yield where the tensors of a node lie that begins at `start` in a bucket, with their factors."""
    for parameter in described.values():
        yield Stretch(start, parameter.rate_factor, parameter.decay_factor)
        start += _size(parameter)


def rate_factor_of(described: dict[str, Parameter]) -> float:
    """Return what the learning rate of a node's parameters is multiplied by; all have the same."""
    (factor,) = {parameter.rate_factor for parameter in described.values()}
    return factor


def _size(parameter: Parameter) -> int:
    return int(np.prod(parameter.blocked))


def _skip(numbers: NormalNumbers, count: int) -> None:
    """Skip `count` numbers of a stream: a shard begins where the one before it ended."""
    for start in range(0, count, _DRAWN_FLOATS):
        numbers.fill(np.empty(min(_DRAWN_FLOATS, count - start), np.float32))
