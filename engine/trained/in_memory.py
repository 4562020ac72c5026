"""A trained network with the memory of its forward pass, on one process or on the ranks of a job."""

from collections.abc import Mapping
from dataclasses import replace

from comm import failure
from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.communicator import Communicator
from comm.grid import Grid
from comm.tree import Tree, next_power_of_two
from engine.config.recipe import Recipe
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.host.aligned_arrays import held_bytes
from engine.run.agreement import agreed
from engine.run.memory_check import Needs, check_needs, needs_beside
from engine.training.rank import Rank, build_rank
from engine.training.rank_settings import settings_of
from layers.layer import Array


def in_memory(
    recipe: Recipe,
    network: Graph,
    tensors: Mapping[str, Array],
    world: Communicator,
    *,
    batch: int,
    threads: int,
) -> Rank:
    """Return this rank's part of a network with its weights and state (collective).

    Every rank holds the whole network, and has at least `batch` samples at once; no bit of what it computes
    depends on how many.

    Raises
    ------
    UserError
        There is not the memory for it.
    """
    leaves, plan = next_power_of_two(world.size), Plan()
    own = world.split(0) if world.size > 1 else world
    collectives = Collectives(own, Tree.of(world.size, leaves), shared_memory=recipe.shared_memory)
    settings = replace(settings_of(recipe, threads), batch=batch * leaves, accumulate=1)
    queue = InlineCommThread(on_failure=failure.abort_on_error(world))
    rank = build_rank(network, settings, plan, Grid.of(collectives, plan.parts), queue)
    agreed(world, lambda: check_needs(world, _needs(rank)))  # nothing of it has been touched yet
    rank.parameters.restore_weights(dict(tensors))
    rank.states.restore(dict(tensors))
    return rank


def _needs(rank: Rank) -> Needs:
    """Return what a forward pass touches: weights and values, no gradients."""
    buffers = [rank.memory[node.name] for node in rank.graph]
    values = held_bytes([array for at in buffers for array in (*at.x, *at.y)])
    weights = sum(array.nbytes for parameters in rank.parameters for array in parameters.weights.values())
    return needs_beside(values + weights, values + weights + held_bytes(rank.memory.working_arrays()))
