"""Compare the memory that the ranks of a run will need with what there is, before the first step."""

import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.config.wording import counted
from engine.data.loader import DEPTH
from engine.host.affinity import machine_name
from engine.host.memory_limit import container_limit, own_bytes, physical_bytes, process_limits
from engine.run.prepare import Prepared
from engine.training.planned_memory import planned_memory
from engine.training.rank_settings import form_of, settings_of

CLOSE = 0.9  # of what there is
_FLOAT = 4


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
    recipe, graph = prepared.start.recipe, prepared.graph
    try:
        planned = planned_memory(graph, settings_of(recipe, threads), prepared.plan, prepared.tree, rank)
    except MemoryError as error:
        raise UserError(no_memory(error)) from error
    samples = len(prepared.tree.leaves_of(rank)) * recipe.batch // prepared.tree.leaves
    batches = (DEPTH + 1) * samples * math.prod(prepared.data.train.sample_shape) * _FLOAT
    form = form_of(recipe)
    tensors = 1 + len(form.moments) + form.averages
    saved = tensors * _FLOAT * graph.parameter_count() if rank == 0 else 0  # whole, for a checkpoint
    at_least = planned.parameters + planned.values + batches
    return needs_beside(at_least, at_least + planned.working + saved)


def needs_beside(at_least: int, at_most: int) -> Needs:
    """Return what this process will need in bytes, beside what it has filled already."""
    return Needs(own_bytes(), at_least, at_most, _limits())


def check_needs(world: Communicator, needs: Needs) -> list[str]:
    """Return what is so close to a limit that the user should know it (collective).

    Raises
    ------
    UserError
        The ranks that share a limit need more.
    """
    everyone: list[Needs] = world.gather_objects(needs)
    said: list[str] = []
    for limit in needs.limits:
        sharing = [each for each in everyone if limit.shared_by in {one.shared_by for one in each.limits}]
        if limit.binding and sum(each.bytes(limit) for each in sharing) > limit.bytes:
            raise UserError(f"memory: {_comparison(needs.bytes(limit), sharing, limit, 'needs')}; {_MEND}")
        if not said and sum(each.bytes(limit, at_most=True) for each in sharing) > CLOSE * limit.bytes:
            need = _comparison(needs.bytes(limit, at_most=True), sharing, limit, "may need")
            said.append(f"memory: {need}; if the run is killed, {_MEND}")
    return said


_MEND = "lower --batch, or use more hosts"


def no_memory(error: BaseException) -> str:
    """Return the line for a MemoryError."""
    there = [f"ulimit {option} is {_size(limit)}" for option, limit in process_limits().items()]
    there += [f"{limit.name} is {_size(limit.bytes)}" for limit in _limits() if limit.bytes < math.inf]
    return f"memory: {', and '.join([str(error) or 'none is left', *there[:1]])}; {_MEND}"


def _limits() -> tuple[Limit, ...]:
    machine, host = machine_name(), socket.gethostname()
    (contained, group), (total, free) = container_limit(), physical_bytes()
    return (
        Limit("the container's limit", ("container", machine, host, group), contained),
        Limit("the machine's memory", ("machine", machine), total),
        Limit("the free memory of the machine", ("free", machine), free, binding=False),
    )


def _comparison(own: int, sharing: Sequence[Needs], limit: Limit, verb: str) -> str:
    here = "one rank here" if len(sharing) == 1 else f"each of {counted(len(sharing), 'rank')} here"
    return f"{here} {verb} {_size(own)}, and {limit.name} is {_size(limit.bytes)}"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
