"""The parameters of all nodes on this rank, in the buckets that are reduced and updated together."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from comm.comm_thread import CommandQueue, Request
from comm.grid import Grid
from engine.graph import Graph, Node
from engine.host.aligned_arrays import aligned_zeros
from engine.training.bucket import USUAL_FORM, WEIGHTS, Bucket, Stretch
from engine.training.gradient_norm import GradientNorm
from engine.training.held import Copy, Held, Tensors, made
from engine.training.microbatches import slots
from engine.training.parameters import Parameters, Split, padded_floats, rate_factor_of, stretches_of
from engine.training.tensor_norms import TensorNorms
from engine.training.update import UpdateForm
from layers.layer import Array, Parameter, PartialSum

BUCKET_FLOATS = 1 << 16
"""Most floats of a bucket of several nodes. Beyond it bytes cost more than messages, and gradients that are
ready would wait for the backward pass of the bucket's other members."""


class RankParameters:
    """The parameters of each node of the graph that this rank runs.

    Parameters
    ----------
    bucket_floats
        Neighbouring nodes share a bucket while they fit in; any number gives the same bits.
    accumulate
        Microbatches, whose gradients are added up.
    form
        Of the update.
    clip_norm
        Gradients are clipped to; 0: they are not.
    skips
        Whether a step whose gradients are not finite changes nothing; as clipping, it needs their norm.
    """

    def __init__(
        self,
        graph: Graph,
        grid: Grid,
        queue: CommandQueue,
        *,
        bucket_floats: int = BUCKET_FLOATS,
        accumulate: int = 1,
        form: UpdateForm = USUAL_FORM,
        clip_norm: float = 0.0,
        skips: bool = False,
    ):
        self.graph, self.accumulate, self._form = graph, accumulate, form
        self._rank = grid.world.communicator.rank
        described = {node.name: node.layer.parameters(*graph.input_shapes(node)) for node in graph}
        self._of_node = {name: Parameters(name, {}, None) for name in described}
        places = {name: place for place, name in enumerate(described)}
        splits = {node.name: _split(graph, node, grid, queue) for node in graph if node.shards}
        self._members = {name: grid.parts if name in splits else 1 for name in described}
        self._buckets: list[Bucket] = []
        for name, its in described.items():
            if its and rate_factor_of(its) == 0:
                self._of_node[name] = Parameters(name, its, None, split=splits.get(name))
        bucketed = _bucketed(described, set(splits), bucket_floats)
        self._gradient_norm = (
            GradientNorm(clip_norm, len(bucketed), grid.world, queue, skips=skips)
            if form.holds_back
            else None
        )
        for members in bucketed:
            sizes = {name: padded_floats(described[name]) for name in members}
            stretches = _stretches({name: described[name] for name in members}, per_tensor=form.per_tensor)
            bucket = Bucket(
                members[0] if len(members) == 1 else f"{members[0]}..{members[-1]}",
                sum(sizes.values()),
                len(members),
                priority=places[members[0]],
                collectives=grid.data if members[0] in splits else grid.world,
                queue=queue,
                stretches=stretches,
                slots=slots(accumulate, self._members[members[0]] if accumulate > 1 else 1),
                form=form,
                tensor_norms=TensorNorms(len(stretches), grid.world, queue) if form.per_tensor else None,
                gradient_norm=self._gradient_norm,
                parts=self._members[members[0]],
            )
            self._buckets.append(bucket)
            start = 0
            for name, size in sizes.items():
                self._of_node[name] = Parameters(name, described[name], bucket, start, splits.get(name))
                start += size

    def __getitem__(self, node: str) -> Parameters:
        return self._of_node[node]

    def __iter__(self) -> Iterator[Parameters]:
        return iter(self._of_node.values())

    def partial_sums(self, node: str, microbatch: int) -> tuple[PartialSum, ...]:
        """Return where the gradients of a microbatch go; empty for a whole minibatch."""
        return self._of_node[node].partial_sums(microbatch, self.accumulate, self._members[node])

    @property
    def rate_factors(self) -> dict[str, float]:
        """What the learning rate is multiplied by, of each node with parameters; 0: it is frozen."""
        return {node: rate_factor_of(p.described) for node, p in self._of_node.items() if p.described}

    def wait(self) -> None:
        """Wait until all weights are those of the last step."""
        for parameters in self._of_node.values():
            parameters.wait()

    def initialisation_tasks(self, seed: int, given: Mapping[str, Array]) -> list[Callable[[], None]]:
        """Return a task for each node that draws its initial weights, largest first; any order will do.

        Parameters
        ----------
        given
            Weights in standard layout that are not drawn, by ``node.parameter``.
        """
        largest = sorted(self._of_node.values(), key=lambda parameters: -parameters.floats)
        return [partial(parameters.initialise, seed, given) for parameters in largest]

    def arrays(self) -> list[Array]:
        """Return all gradients, moments and averages on this rank."""
        return [array for bucket in self._buckets for array in bucket.arrays()]

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the weights, gradients, moments and averages on this rank."""
        frozen = sum(parameters.frozen_bytes for parameters in self._of_node.values())
        return frozen + sum(bucket.bytes for bucket in self._buckets)

    def kept(self) -> Iterator[tuple[str, tuple[Array, ...]]]:
        """Yield the moments and averages of each bucket's strips that this rank owns, with their names."""
        for bucket in self._buckets:
            for name, arrays in bucket.kept.items():
                yield f"the {name} of {bucket.name}", arrays

    def pending(self) -> list[Request]:
        """Return the jobs of the last step that nobody has waited for yet."""
        return [bucket.pending for bucket in self._buckets if bucket.pending is not None]

    def hold_updates(self, until: Request) -> None:
        """Let the next updates begin only when a job has ended that reads the own strips."""
        for bucket in self._buckets:
            bucket.hold_updates(until)

    def shares(self) -> Iterator[Array]:
        """Yield what this rank alone has: its strips of weights and of all that is kept beside them."""
        for bucket in self._buckets:
            for index, (name, strip) in enumerate(bucket.shares(self._rank)):
                yield bucket.own_share(index, name, strip)

    def shared_floats(self, rank: int) -> int:
        """Return how many floats that is on a rank."""
        shares = (strip for bucket in self._buckets for _, strip in bucket.shares(rank))
        return sum(strip.stop - strip.start for strip in shares)

    @property
    def are_shared(self) -> bool:
        """Whether `shares` of all ranks are all weights: each rank has all that are not trained."""
        return not any(parameters.is_split and parameters.frozen_bytes for parameters in self)

    def assembled(self, flats: Sequence[Array]) -> dict[str, Array | Held]:
        """Return the tensors of a checkpoint, given the `shares` of all ranks in their order, each flat."""
        places = [0] * len(flats)
        tensors = dict[str, Array | Held]()
        of_bucket: dict[str, list[Parameters]] = {bucket.name: [] for bucket in self._buckets}
        for parameters in self:
            if parameters.bucket_name is None:
                tensors |= parameters.gather_weights()
            else:
                of_bucket[parameters.bucket_name].append(parameters)
        for bucket in self._buckets:
            parts: list[dict[str, Array]] = [
                {name: aligned_zeros(bucket.weights.shape) for name in (WEIGHTS, *bucket.kept)}
                for _ in range(bucket.parts)
            ]
            for rank, flat in enumerate(flats):
                for name, strip in bucket.shares(rank):
                    length = strip.stop - strip.start
                    parts[rank % bucket.parts][name][strip] = flat[places[rank] : places[rank] + length]
                    places[rank] += length
            for parameters in of_bucket[bucket.name]:
                tensors |= parameters.tensors(parts)
        return tensors

    def gradient_norm(self) -> float | None:
        """Wait for the norm of all gradients of the last step, before clipping; None: it is not taken."""
        if self._gradient_norm is None or not self._buckets:
            return None
        return self._gradient_norm.wait()

    def is_skipped(self) -> bool:
        """Say whether the last step changes nothing; waits for the norm only where a step may be skipped."""
        norm = self._gradient_norm
        return norm is not None and norm.skips and self.gradient_norm() is not None and norm.is_skipped

    def start_averages(self) -> None:
        """Let the averages of weights, where there are any, be the weights as they are."""
        for bucket in self._buckets:
            bucket.start_averages()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let averages stand in the place of weights inside the `with` (collective); nothing without any.

        After an error they stay there: the other ranks would be waited for in vain.
        """
        buckets = self._buckets if self._form.averages else []
        for bucket in buckets:
            bucket.swap_averages()
        yield
        for bucket in buckets:
            bucket.swap_averages()

    def gather_weights(self, *, keep: bool = True) -> dict[str, Array]:
        """Return copies of all weights in standard layout by name (collective), on ranks that `keep` them."""
        return {
            name: tensor
            for parameters in self._of_node.values()
            for name, tensor in parameters.gather_weights(keep=keep).items()
        }

    def copy_weights(self, copy: Copy) -> dict[str, Array | Held]:
        """Copy all weights, for ranks that keep them (collective): see `Parameters.copy_weights`."""
        return _joined(parameters.copy_weights(copy) for parameters in self)

    def copy_moments(self, copy: Copy) -> dict[str, Array | Held]:
        """Copy all moments of all ranks, for ranks that keep them (collective)."""
        return _joined(parameters.copy_moments(copy) for parameters in self)

    def copy_trained(self, copy: Copy) -> dict[str, Array | Held]:
        """Copy the weights whose average is the model, for ranks that keep them (collective)."""
        return _joined(parameters.copy_trained(copy) for parameters in self)

    def gather_moments(self, *, keep: bool) -> dict[str, Array]:
        """Gather all moments in standard layout by name (collective), for ranks that `keep` them."""
        return {name: made(tensor) for name, tensor in self.copy_moments(Copy(keep=keep)).items()}

    def restore(self, tensors: Tensors) -> None:
        """Overwrite weights, averages and moments with those of a checkpoint."""
        for parameters in self._of_node.values():
            parameters.restore(tensors)

    def restore_weights(self, tensors: Tensors) -> None:
        """Overwrite the weights alone, for a network that is not trained further."""
        for parameters in self._of_node.values():
            parameters.restore_weights(tensors)

    def weights_sha256(self) -> str:
        """Hash all weights (collective): sorted by name, standard layout, little-endian float32.

        Independent of blocking, ranks and plan, so that two runs that agree have the same weights. It is
        `sha256_of` the gathered weights, without gathering more than one at a time.
        """
        digest = hashlib.sha256()
        named = {f"{node}.{name}": (p, name) for node, p in self._of_node.items() for name in p.described}
        for full_name in sorted(named):
            parameters, name = named[full_name]
            parameters.digest_into(digest, name)
        return digest.hexdigest()


def _joined(parts: Iterable[dict[str, Array | Held]]) -> dict[str, Array | Held]:
    return {name: tensor for part in parts for name, tensor in part.items()}


def _split(graph: Graph, node: Node, grid: Grid, queue: CommandQueue) -> Split:
    described = tuple(layer.parameters(*graph.input_shapes(node)) for layer in node.shards)
    return Split(described, grid.model, queue)


def _stretches(members: dict[str, dict[str, Parameter]], *, per_tensor: bool) -> tuple[Stretch, ...]:
    """Return where weights lie in a bucket that are updated alike; one for each tensor, if asked for."""
    found: list[Stretch] = []
    start = 0
    for described in members.values():
        for stretch in stretches_of(described, start):
            if per_tensor or not found or replace(stretch, start=found[-1].start) != found[-1]:
                found.append(stretch)
        start += padded_floats(described)
    return tuple(found)


def _bucketed(
    described: dict[str, dict[str, Parameter]], split: set[str], bucket_floats: int
) -> list[list[str]]:
    """Group neighbouring nodes that are trained into buckets, from the last on, as the backward pass runs.

    Gradients of split and of whole nodes are summed over different ranks: no bucket has both. Nor has one
    several learning rates.
    """
    buckets: list[list[str]] = []
    room, last = 0, (False, 1.0)
    for name in reversed(described):
        if described[name] and (factor := rate_factor_of(described[name])) > 0:
            size, kind = padded_floats(described[name]), (name in split, factor)
            if size > room or kind != last:
                buckets.append([])
                room, last = bucket_floats, kind
            buckets[-1].insert(0, name)
            room -= size
    return buckets
