"""What all ranks find out together before a first step: mistakes of any of them, and what differs."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from comm import failure
from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.config.user_code import no_exit

T = TypeVar("T")


def agreed(world: Communicator, work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise the first rank's UserError on all ranks (collective)."""
    try:
        with no_exit("run"):  # by a layer or a data set of the user's: the other ranks would wait
            result = work()
    except UserError as error:
        raise UserError(failure.agree(world, str(error))) from error
    elsewhere = failure.agree(world, None)
    if elsewhere is not None:
        raise UserError(elsewhere)
    return result


def check_equal(world: Communicator, facts: Mapping[str, str]) -> None:
    """Refuse ranks that differ in what must be the same on all, by name (collective)."""
    first, *others = world.gather_objects(facts)
    for rank, other in enumerate(others, start=1):
        for name in first:
            if other[name] != first[name]:
                raise UserError(
                    f"rank {rank} has {name} {other[name]}, rank 0 has {first[name]}; must be the same on all"
                )
