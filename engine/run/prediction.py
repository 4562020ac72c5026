"""What the planner says of a run's layers on this machine, to be set beside what was measured."""

from typing import Any

from engine.graph.parallel.overlapped_exchange import layers_of
from engine.planner.cluster import Channel, Cluster, Machine, Network, Software
from engine.planner.costs import Costs
from engine.planner.measurement.quick_rates import QuickRates, quick_rates
from engine.run.trainer import Trainer
from layers.layer import Buffers, Layer
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from layers.wrapped import WatchedLayer, unwrapped


def predict(trainer: Trainer) -> dict[str, Any]:
    """Measure each rank's peak and memory; return the planner's seconds of each layer (collective).

    All ranks measure at the same time, as they compute at the same time. It takes some hundredths of a
    second; nothing of the run is read or written but the shapes.

    Returns
    -------
    dict
        Peaks by rank, and by layer its kind, FLOP of a pass on a rank, and the seconds of its passes: means
        over the ranks that have it, over all ranks, as in `engine.profile.breakdown`.
    """
    trainer.control.gather_objects(None)  # begin together
    largest = max(array.nbytes for array in trainer.rank.memory.arrays())
    rates = quick_rates(trainer.context.threads, bytes_copied=largest)
    costs = Costs(_machine(rates, trainer.context.threads.count), threads=trainer.context.threads.count)
    everyone = trainer.control.gather_objects((rates, _layers(trainer, costs)))
    layers = dict[str, dict[str, Any]]()
    for _, own in everyone:
        for name, row in own.items():
            _add(layers.setdefault(name, {"kind": row["kind"]}), row, len(everyone))
    return {
        "peak_flops_per_second_by_rank": [each.flops_per_s for each, _ in everyone],
        "memory_bytes_per_second_by_rank": [each.memory_bytes_per_s for each, _ in everyone],
        "copied_bytes": rates.copied_bytes,
        "layers": layers,
    }


def _machine(rates: QuickRates, threads: int) -> Cluster:
    """Return a cluster that is this rank alone; its network is never asked."""
    memory = rates.memory_bytes_per_s
    nothing = Channel(0.0, memory)
    machine = Machine(threads, rates.flops_per_s, memory, memory_bytes=memory)
    software = Software(memory, memory)
    return Cluster("here", "one rank", 1, machine, Network(nothing), nothing, software)


def _layers(trainer: Trainer, costs: Costs) -> dict[str, dict[str, Any]]:
    """Return the rows of this rank; passes that a layer lacks, or that nobody needs, are left out."""
    found = dict[str, dict[str, Any]]()
    microbatches = len(trainer.rank.memory.microbatches)
    for node in trainer.rank.graph:
        for layer, at in layers_of(node.layer, trainer.rank.memory[node.name]):
            name = layer.node if isinstance(layer, WatchedLayer) else node.name
            found[name] = _row(unwrapped(layer), at, costs, microbatches=microbatches)
    return found


def _row(layer: Layer, at: Buffers, costs: Costs, *, microbatches: int) -> dict[str, Any]:
    """Return what the passes of a layer cost in a step, of which each does so many microbatches."""
    samples, extents = len(at.samples), layer.extents(*at.shapes)
    passes = costs.passes(layer, at.shapes, samples)
    row: dict[str, Any] = {
        "kind": type(layer).__name__,
        "flop": 0.0 if extents is None else float(microbatches * samples * extents.flops),
        FORWARD: microbatches * passes.forward,
    }
    if at.gradients and layer.parameters(*at.shapes):
        row[BACKWARD_WEIGHTS] = microbatches * passes.backward_weights
    if at.dx:
        row[BACKWARD_DATA] = microbatches * passes.backward_data
    return row


def _add(total: dict[str, Any], row: dict[str, Any], ranks: int) -> None:
    for name, value in row.items():
        if isinstance(value, float):
            total[name] = total.get(name, 0.0) + value / ranks
