"""Split nodes over the ranks of a model group: rewrite the whole graph into the one that this rank runs."""

from dataclasses import dataclass, replace

from comm.comm_thread import CommandQueue
from comm.grid import Grid
from engine.graph import INPUT, Graph, Node, Sharding
from engine.graph.parallel.exchange import Exchange, GatherFeatures, GatherSamples, SwapFeatures
from engine.graph.parallel.plan import Plan
from layers.layer import Layer

_EXCHANGES: dict[tuple[Sharding, Sharding], type[Exchange]] = {
    (Sharding.BATCH, Sharding.WHOLE): GatherSamples,
    (Sharding.FEATURE, Sharding.WHOLE): GatherFeatures,
    (Sharding.FEATURE, Sharding.BATCH): SwapFeatures,
}


def partition(graph: Graph, plan: Plan, grid: Grid, queue: CommandQueue) -> Graph:
    """Return the graph with shards for the plan's nodes, and the exchanges that they need.

    A split node reads whole values and computes its part of the features; featurewise layers keep the
    sharding of their input; all other layers, and the loss, read the rank's own samples. Each reader of a
    value gets an exchange of its own, so forks must be there already: a Fork adds the gradients of several
    readers when they are whole, as without a plan.

    Parameters
    ----------
    plan
        Checked against graph and ranks; `grid` has its number of parts.
    """
    placements = {INPUT: _Placement(Sharding.BATCH)}
    nodes: list[Node] = []

    def resharded(value: str, needed: Sharding, reader: str) -> str:
        """Return `value`, or the exchange of it that holds it in the sharding its reader needs."""
        placement = placements[value]
        if placement.sharding is needed:
            return value
        name = f"exchange {reader}"
        kind = _EXCHANGES[placement.sharding, needed]
        features, *_ = graph.shapes[value]
        layer = kind(name, features, placement.width, grid.model, queue)
        nodes.append(Node(name, layer, (value,), held=needed))
        placements[name] = _Placement(needed)
        return name

    for node in graph:
        shards: tuple[Layer, ...] = ()
        needed, made = Sharding.BATCH, _Placement(Sharding.BATCH)
        if node.name in plan.split:
            shards = node.layer.shard(grid.parts)
            width = shards[0].output_shape(*graph.input_shapes(node))[0]
            needed, made = Sharding.WHOLE, _Placement(Sharding.FEATURE, width)
        elif _follows(graph, node) and all(placements[v].sharding is Sharding.FEATURE for v in node.inputs):
            needed, made = Sharding.FEATURE, placements[node.inputs[0]]
        many = len(node.inputs) > 1
        inputs = tuple(
            resharded(value, needed, f"{node.name}:{index}" if many else node.name)
            for index, value in enumerate(node.inputs)
        )
        nodes.append(
            replace(
                node,
                layer=shards[grid.part] if shards else node.layer,
                inputs=inputs,
                held=made.sharding,
                first=made.width * grid.part,
                shards=shards,
            )
        )
        placements |= dict.fromkeys(node.outputs, made)
    resharded(graph.output, Sharding.BATCH, "loss")
    return Graph(graph.input_shape, tuple(nodes))


def _follows(graph: Graph, node: Node) -> bool:
    """Return whether a layer may compute a part of the features; parameters and state are never split so."""
    layer, inputs = node.layer, graph.input_shapes(node)
    return layer.featurewise and not layer.parameters(*inputs) and not layer.state(*inputs)


@dataclass(frozen=True)
class _Placement:
    """How the ranks of a group hold a value."""

    sharding: Sharding
    width: int = 0
    """Features of each part but the last; 0 where all are held."""
