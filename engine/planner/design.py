"""Define a design point: all settings of a run that decide its speed, except the cluster."""

from dataclasses import dataclass
from typing import Any

from comm.collectives import CHUNK_FLOATS, Collectives
from comm.comm_thread import CommandQueue
from comm.communicator import Communicator
from comm.grid import Grid
from comm.scheduler import BYTES_IN_FLIGHT
from comm.tree import Tree
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.graph.passes.norm_groups import grouped
from engine.models import build_model
from engine.training.all_passes import Wrap
from engine.training.bucket import USUAL_FORM
from engine.training.loss import Criterion
from engine.training.memory import CopyIn
from engine.training.microbatches import check_microbatches
from engine.training.rank import Rank, build_rank
from engine.training.rank_parameters import BUCKET_FLOATS
from engine.training.rank_settings import RankSettings
from engine.training.update import UpdateForm
from layers.kernels import reorder
from layers.precision import FP32


@dataclass(frozen=True)
class Design:
    """Settings with which a network trains on a number of ranks."""

    model: str
    """A name of `engine.models`, or FILE.py:function."""
    ranks: int
    batch: int
    """Global minibatch, in samples."""
    leaves: int
    plan: Plan
    threads: int
    """Threads of each rank's kernels."""
    overlap: bool = True
    prioritised: bool = True
    """Communicate what the next forward pass needs first before the rest; else first come, first served."""
    bucket_floats: int = BUCKET_FLOATS
    chunk_floats: int = CHUNK_FLOATS
    bytes_in_flight: int = BYTES_IN_FLIGHT
    conv: str = "auto"
    fuse: bool = True
    model_arguments: tuple[tuple[str, Any], ...] = ()
    freeze: tuple[str, ...] = ()
    """Patterns of the layers that are not trained."""
    accumulate: int = 1
    """Microbatches in which each rank computes its share of a minibatch."""
    norm_groups: int = 0
    """Groups of samples by which batch normalisations compute; 0: see `norm_groups.groups_asked`."""
    form: UpdateForm = USUAL_FORM
    """Of the update: SGD with momentum."""
    precision: str = FP32
    """Of what products read and layers hand on."""

    def network(self) -> Graph:
        """Return the network as its model function writes it, with the groups of the minibatch."""
        network = build_model(self.model, dict(self.model_arguments))
        return grouped(network, self.norm_groups, self.batch, self.leaves)

    def rank_settings(self) -> RankSettings:
        """Return the settings that decide the form of a rank."""
        return RankSettings(
            self.batch,
            self.threads,
            conv=self.conv,
            fuse=self.fuse,
            bucket_floats=self.bucket_floats,
            freeze=self.freeze,
            accumulate=self.accumulate,
            norm_groups=self.norm_groups,
            form=self.form,
            precision=self.precision,
        )


@dataclass(frozen=True)
class Members:
    """The communicators of one rank: all ranks, its model group and its data group."""

    world: Communicator
    model: Communicator
    data: Communicator


def build_rank_of(
    design: Design,
    members: Members,
    queue: CommandQueue,
    *,
    wrap: Wrap,
    criterion: Criterion | None = None,
    copy_in: CopyIn = reorder.to_blocked,
) -> Rank:
    """Build one rank of a design point; `wrap`, `criterion` and `copy_in` as in `build_rank`.

    Raises
    ------
    UserError, ValueError
        A plan that the network or the number of ranks does not allow, or more ranks than leaves.
    """
    network = design.network()
    design.plan.check(network, design.ranks)
    tree = Tree.of(design.ranks, design.leaves)
    check_microbatches(design.accumulate, tree, network)
    world = Collectives(members.world, tree, chunk_floats=design.chunk_floats)
    grid = Grid.joined(world, members.model, members.data)
    settings = design.rank_settings()
    return build_rank(
        network, settings, design.plan, grid, queue, wrap=wrap, criterion=criterion, copy_in=copy_in
    )
