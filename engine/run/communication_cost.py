"""What the communication of a step costs alone: the same jobs with nothing to compute beside them."""

import statistics
import time

from comm.communicator import Communicator
from engine.graph import Node
from engine.graph.parallel.exchange import Exchange
from engine.graph.parallel.overlapped_exchange import BehindExchange
from engine.graph.passes.wrapped import unwrapped
from engine.training.loss import Loss
from engine.training.memory import Memory
from engine.training.rank_parameters import Model
from layers.layer import Array, Buffers, Context, Layer

REPETITIONS = 5
SHARE_OF_RUN = 0.05  # no further repetition once they took so much of the run's time


def communication_alone(
    model: Model, memory: Memory, loss: Loss, run: Context, control: Communicator, *, run_seconds: float
) -> float | None:
    """Return the seconds of one step's communication (collective, the same on all ranks); None on one rank.

    Submits the jobs of a step in the order of a step, with an update that does nothing: every rank spreads
    its strips of the weights as they are, and the exchanges of a plan run on what the last step has left.
    Weights and velocities stay the same bits; the gradients are lost.

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
        for parameters in model.parameters.values():  # sums of sums would grow beyond float32
            for gradient in parameters.gradients.values():
                gradient.fill(0.0)
        control.gather_objects(None)  # begin together
        seconds.append(max(control.gather_objects(_one_step(model, memory, loss, run))))
    return statistics.median(seconds)


def _one_step(model: Model, memory: Memory, loss: Loss, run: Context) -> float:
    start = time.perf_counter()
    for node in model.graph:
        model.parameters[node.name].wait()
        for exchange, at in _exchanges(node, memory[node.name]):
            exchange.forward(at, run)
    loss.submit(stop=False)
    for node in reversed(model.graph.nodes):
        model.parameters[node.name].submit_reduce()
        for exchange, at in _exchanges(node, memory[node.name]):
            if at.dx:
                exchange.backward_data(at, run)
        model.parameters[node.name].submit_update(_leave)
    model.wait()
    loss.wait()
    return time.perf_counter() - start


def _exchanges(node: Node, at: Buffers) -> list[tuple[Layer, Buffers]]:
    """Return the exchange that a node is, or has in front, with its buffers."""
    if isinstance(node.layer, BehindExchange):
        return [(node.layer.exchange, node.layer.before(at))]
    return [(node.layer, at)] if isinstance(unwrapped(node.layer), Exchange) else []


def _leave(_weights: Array, _gradients: Array, _velocity: Array) -> None:
    """Update nothing."""
