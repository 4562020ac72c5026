"""Whether what a run computes is finite, and if not where it begins: looked for after the fact."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comm.communicator import Communicator
from engine.run.failures import RunEndedError
from engine.training.rank import Rank

_PIECE = 1 << 20  # values that are looked at together
_AT_FIRST = "nothing has been learned yet: samples, or initial weights, are too large for this network"


def check_loss(
    rank: Rank, control: Communicator, record: Mapping[str, Any], saved: Callable[[], int]
) -> None:
    """End the run on all ranks where the loss of a step, which all of them know, is not finite.

    Parameters
    ----------
    saved
        Returns the step of the newest checkpoint that is whole (collective); 0: there is none.
    """
    if math.isfinite(record["loss"]):
        return
    rank.parameters.wait()
    where = find_in_values(rank, control)
    begin = f"; {where} is not finite" if where else ""
    advice = _mending(saved()) if record["step"] > 1 else _AT_FIRST
    raise RunEndedError(f"step {record['step']}: the loss is {record['loss']}{begin}; {advice}")


def check_weights(rank: Rank, control: Communicator, step: int, saved: Callable[[], int]) -> None:
    """End the run on all ranks where weights, moments or state are not finite (collective)."""
    where = find_in_weights(rank, control)
    if where is not None:
        raise RunEndedError(f"step {step}: {where} is not finite; {_mending(saved())}")


def _mending(saved: int) -> str:
    newest = f"the checkpoint of step {saved} is whole" if saved else "nothing is saved"
    return f"{newest}; a lower --lr, or a warm-up, may help"


def find_in_weights(rank: Rank, control: Communicator) -> str | None:
    """Return which weights, moments or state are not all finite, the first in the network's order.

    None if all are, on all ranks (collective: moments and shards differ between ranks).
    """
    rank.parameters.wait()
    return _first(control, _weights(rank))


def find_in_values(rank: Rank, control: Communicator) -> str | None:
    """Return the first node in the network's order whose output is not finite on some rank (collective)."""
    outputs = ((f"the output of {node.name}", rank.memory[node.name].y) for node in rank.graph)
    return _first(control, outputs)


def _weights(rank: Rank) -> Iterator[tuple[str, Iterable[NDArray[np.float32]]]]:
    for parameters in rank.parameters:
        yield f"a weight of {parameters.node}", parameters.weights.values()
    for node in rank.graph:
        yield f"the state of {node.name}", rank.states.state(node.name).values()
    yield from rank.parameters.kept()


def _first(control: Communicator, named: Iterable[tuple[str, Iterable[NDArray[np.float32]]]]) -> str | None:
    places = ((place, name) for place, (name, arrays) in enumerate(named) if not all(map(is_finite, arrays)))
    found = control.gather_objects(next(places, None))
    return min((each for each in found if each is not None), default=(0, None))[1]


def is_finite(array: NDArray[np.float32]) -> bool:
    """Say whether all values of a contiguous or strided array are finite."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel()
    pieces = (flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE))
    return all(bool(np.isfinite(piece).all()) for piece in pieces)
