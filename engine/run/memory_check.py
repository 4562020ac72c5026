"""Compare the memory that the ranks of a run will need with what there is, before the first step."""

import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.config.wording import counted
from engine.data.loader import DEPTH
from engine.graph import Graph
from engine.host.affinity import machine_name
from engine.host.memory_limit import container_limit, own_bytes, physical_bytes, process_limits
from engine.run.prepare import Prepared
from engine.training.microbatches import allowed_microbatches
from engine.training.planned_memory import planned_memory
from engine.training.rank_settings import form_of, settings_of

CLOSE = 0.9  # of what there is
_FLOAT = 4
_MEND = "lower --batch, or use more hosts"


@dataclass(frozen=True)
class Limit:
    """An amount of memory that some ranks share."""

    name: str
    shared_by: tuple[str, ...]
    """Names the machine or container: ranks with the same share the limit."""
    bytes: float
    binding: bool = True
    """Nobody can use more; otherwise somebody else may make room."""


@dataclass(frozen=True)
class Needs:
    """What one rank needs, in bytes, and its limits."""

    filled: int
    """By its process already."""
    at_least: int
    """For its steps, beside that."""
    at_most: int
    limits: tuple[Limit, ...]

    def bytes(self, limit: Limit, *, at_most: bool = False) -> int:
        """Return what counts against a limit."""
        return (self.at_most if at_most else self.at_least) + self.filled * limit.binding


def needs_of(prepared: Prepared, rank: int, threads: int) -> Needs:
    """Return what one rank will need, beside what its process has filled already.

    Raises
    ------
    UserError
        There is not even address space for it.
    """
    accumulate = prepared.start.recipe.accumulate
    try:
        return needs_beside(*_planned(prepared, rank, threads, accumulate))
    except MemoryError as error:
        lacking = error.with_traceback(None)  # whose frames hold what was allocated
        found = _first(prepared, lambda number: _has_room(prepared, rank, threads, number))
        mend = _MEND if found is None else f"give --accumulate {found} or more, {_MEND}"
        raise UserError(no_memory(lacking, mend)) from None


def microbatches_that_fit(
    prepared: Prepared, threads: int, ranks: Mapping[int, Needs], limit: Limit, *, at_most: bool
) -> int | None:
    """Return the fewest microbatches with which some ranks stay below a limit; None without any.

    Parameters
    ----------
    ranks
        What they need as it is, by their numbers.
    at_most
        Whether they shall be far below the limit, with all that they may need.
    """

    def fit(number: int) -> bool:
        needed = dict[int, int]()  # of ranks with so many leaves
        total = 0.0
        for rank, needs in ranks.items():
            leaves = len(prepared.tree.leaves_of(rank))
            if leaves not in needed:
                needed[leaves] = _planned(prepared, rank, threads, number)[at_most]
            total += needed[leaves] + needs.filled * limit.binding
        return total <= (CLOSE if at_most else 1) * limit.bytes

    return _first(prepared, fit)


def _first(prepared: Prepared, fits: Callable[[int], bool]) -> int | None:
    """Return the first number of microbatches beyond the recipe's that fits."""
    allowed, given = allowed_microbatches(prepared.tree, prepared.graph), prepared.start.recipe.accumulate
    return next(filter(fits, (number for number in allowed if number > given)), None)


def _planned(prepared: Prepared, rank: int, threads: int, accumulate: int) -> tuple[int, int]:
    """Return the bytes that a rank needs at least and at most with so many microbatches."""
    recipe, graph, tree = prepared.start.recipe, prepared.graph, prepared.tree
    settings = replace(settings_of(recipe, threads, survives=prepared.survives), accumulate=accumulate)
    planned = planned_memory(graph, settings, prepared.plan, tree, rank)
    samples = len(tree.leaves_of(rank)) * recipe.batch // tree.leaves // accumulate
    batches = (DEPTH + 1) * samples * math.prod(prepared.data.train.sample_shape) * _FLOAT
    form = form_of(recipe)
    tensors = 1 + len(form.moments) + form.averages
    floats = tensors * graph.parameter_count() + _largest(graph)
    saves = rank == 0 and prepared.start.has_folder
    saved = _FLOAT * floats if saves else 0  # a checkpoint's copy, and the tensor that is being written
    at_least = planned.parameters + planned.values + batches
    return at_least, at_least + planned.working + saved


def _largest(graph: Graph) -> int:
    """Return the floats of the largest tensor of parameters."""
    described = (node.layer.parameters(*graph.input_shapes(node)) for node in graph)
    return max((math.prod(each.shape) for its in described for each in its.values()), default=0)


def _has_room(prepared: Prepared, rank: int, threads: int, accumulate: int) -> bool:
    """Return whether a rank has address space, and memory if it were alone."""
    try:
        at_least, _ = _planned(prepared, rank, threads, accumulate)
    except MemoryError:
        return False
    return at_least + own_bytes() <= min(limit.bytes for limit in _limits() if limit.binding)


def needs_beside(at_least: int, at_most: int) -> Needs:
    """Return what this process will need in bytes, beside what it has filled already."""
    return Needs(own_bytes(), at_least, at_most, _limits())


class FindMicrobatches(Protocol):
    """Like `microbatches_that_fit` of a run."""

    def __call__(self, ranks: Mapping[int, Needs], limit: Limit, /, *, at_most: bool) -> int | None:
        """Return the number of microbatches."""


def _no_microbatches(_ranks: Mapping[int, Needs], _limit: Limit, *, at_most: bool) -> None:
    """Find no number of microbatches."""


def check_needs(
    world: Communicator, needs: Needs, find_microbatches: FindMicrobatches = _no_microbatches
) -> list[str]:
    """Return what is so close to a limit that the user should know it (collective).

    Parameters
    ----------
    find_microbatches
        Asked what would do; unless given, there are no microbatches.

    Raises
    ------
    UserError
        The ranks that share a limit need more.
    """
    everyone: list[Needs] = world.gather_objects(needs)
    said: list[str] = []
    for limit in needs.limits:
        sharing = {
            rank: each
            for rank, each in enumerate(everyone)
            if limit.shared_by in {one.shared_by for one in each.limits}
        }
        count = len(sharing)
        if limit.binding and sum(each.bytes(limit) for each in sharing.values()) > limit.bytes:
            need = _comparison(needs.bytes(limit), count, limit, "needs")
            raise UserError(f"memory: {need}; {_mend(find_microbatches(sharing, limit, at_most=False))}")
        most = sum(each.bytes(limit, at_most=True) for each in sharing.values())
        if not said and most > CLOSE * limit.bytes:
            need = _comparison(needs.bytes(limit, at_most=True), count, limit, "may need")
            mend = _mend(find_microbatches(sharing, limit, at_most=True))
            said.append(f"memory: {need}; if the run is killed, {mend}")
    return said


def _mend(accumulate: int | None) -> str:
    """Return what can be done, with the number of microbatches that would do."""
    return _MEND if accumulate is None else f"give --accumulate {accumulate}, which fits, {_MEND}"


def no_memory(error: BaseException, mend: str = _MEND) -> str:
    """Return the line for a MemoryError."""
    there = [f"ulimit {option} is {_size(limit)}" for option, limit in process_limits().items()]
    there += [f"{limit.name} is {_size(limit.bytes)}" for limit in _limits() if limit.bytes < math.inf]
    return f"memory: {', and '.join([str(error) or 'none is left', *there[:1]])}; {mend}"


def _limits() -> tuple[Limit, ...]:
    machine, host = machine_name(), socket.gethostname()
    (contained, group), (total, free) = container_limit(), physical_bytes()
    return (
        Limit("the container's limit", ("container", machine, host, group), contained),
        Limit("the machine's memory", ("machine", machine), total),
        Limit("the free memory of the machine", ("free", machine), free, binding=False),
    )


def _comparison(own: int, sharing: int, limit: Limit, verb: str) -> str:
    here = "one rank here" if sharing == 1 else f"each of {counted(sharing, 'rank')} here"
    return f"{here} {verb} {_size(own)}, and {limit.name} is {_size(limit.bytes)}"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
