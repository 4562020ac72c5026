"""What the communication of a step costs alone: the same jobs with nothing to compute beside them."""

import statistics
import time

from comm.communicator import Communicator
from engine.graph import Node
from engine.graph.parallel.exchange import Exchange, StartsBackward
from engine.graph.parallel.overlapped_exchange import layers_of
from engine.graph.parallel.shared_norm import shared_inside
from engine.training.microbatches import Microbatch
from engine.training.rank import Rank
from engine.training.update import NOTHING
from layers.layer import Buffers, Context
from layers.work import BACKWARD_DATA, FORWARD
from layers.wrapped import unwrapped

REPETITIONS = 5
SHARE_OF_RUN = 0.05  # no further repetition once they took so much of the run's time


def communication_alone(
    rank: Rank, run: Context, control: Communicator, *, run_seconds: float
) -> float | None:
    """Return the seconds of one step's communication (collective, the same on all ranks); None on one rank.

    Submits the jobs of a step in the order of a step, with an update that does nothing: every rank spreads
    its strips of the weights as they are, and the exchanges of a plan run on what the last step has left.
    Weights, moments and state stay the same bits; the gradients are lost.

    Parameters
    ----------
    run_seconds
        How long this rank has trained; the measurement is short against it, but done at least once.
    """
    if control.size == 1:
        return None
    budget = SHARE_OF_RUN * max(control.gather_objects(run_seconds))
    seconds: list[float] = []
    while len(seconds) < REPETITIONS and (not seconds or sum(seconds) < budget):
        for parameters in rank.parameters:  # sums of sums would grow beyond float32
            for gradient in parameters.gradients.values():
                gradient.fill(0.0)
        control.gather_objects(None)  # begin together
        seconds.append(max(control.gather_objects(_one_step(rank, run))))
    return statistics.median(seconds)


def _one_step(rank: Rank, run: Context) -> float:
    start = time.perf_counter()
    for microbatch in rank.memory.microbatches:
        _forward(rank, microbatch, run)
        if microbatch.is_last:
            rank.loss.submit(stop=False)
            rank.states.submit()
        _backward(rank, microbatch, run)
    rank.parameters.wait()
    rank.states.wait()
    rank.loss.wait()
    return time.perf_counter() - start


def _forward(rank: Rank, microbatch: Microbatch, run: Context) -> None:
    for node in rank.graph:
        rank.parameters[node.name].wait()
        _exchange(node, microbatch[node.name], run, FORWARD)


def _backward(rank: Rank, microbatch: Microbatch, run: Context) -> None:
    for node in reversed(rank.graph.nodes):
        if microbatch.is_last:
            rank.parameters[node.name].submit_reduce()
        _exchange(node, microbatch[node.name], run, BACKWARD_DATA)
        if microbatch.is_last:
            rank.parameters[node.name].submit_update(NOTHING)


def _exchange(node: Node, at: Buffers, run: Context, direction: str) -> None:
    """Exchange what a pass over a node does: by the exchange that it is, or has in front, or in its group."""
    for layer, its in layers_of(node.layer, at):
        inside = unwrapped(layer)
        if direction == BACKWARD_DATA and not its.dx:
            continue
        norm = shared_inside(layer)
        if norm is not None:
            norm.exchange_alone(its)
        elif isinstance(inside, Exchange):
            assert isinstance(layer, StartsBackward)
            if direction == FORWARD:
                layer.forward(its, run)
            else:
                layer.begin_backward_data(its, run)()
