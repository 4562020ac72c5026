"""What the communication of a step costs alone: the same jobs with nothing to compute beside them."""

import statistics
import time

from comm.communicator import Communicator
from engine.loss import Loss
from engine.model import Model
from layers.layer import Array

REPETITIONS = 5
SHARE_OF_RUN = 0.05  # no further repetition once they took so much of the run's time


def communication_alone(
    model: Model, loss: Loss, control: Communicator, *, run_seconds: float
) -> float | None:
    """Return the seconds of one step's communication (collective, the same on all ranks); None on one rank.

    Submits the jobs of a step in the order of a step, with an update that does nothing: every rank spreads
    its strips of the weights as they are. Weights and velocities stay the same bits; the gradients are lost.

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
        seconds.append(max(control.gather_objects(_one_step(model, loss))))
    return statistics.median(seconds)


def _one_step(model: Model, loss: Loss) -> float:
    start = time.perf_counter()
    loss.submit(stop=False)
    for node in reversed(model.graph.nodes):
        model.parameters[node.name].submit_reduce()
        model.parameters[node.name].submit_update(_leave)
    model.wait()
    loss.wait()
    return time.perf_counter() - start


def _leave(_weights: Array, _gradients: Array, _velocity: Array) -> None:
    """Update nothing."""
