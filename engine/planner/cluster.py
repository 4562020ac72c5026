"""A cluster as the planner sees it: nodes, what they compute with, and the network between them."""

from dataclasses import dataclass, field
from typing import Annotated

from engine.config.errors import UserError
from engine.config.settings import Setting, check_settings
from engine.config.toml_fields import dumps, parse, read_text, shipped_names, to_table

SWITCH, FAT_TREE, DRAGONFLY = TOPOLOGIES = ("switch", "fat_tree", "dragonfly")

_FOLDER = "planner/clusters"

Count = Annotated[int, Setting(least=1)]
Amount = Annotated[float, Setting(above=0)]
"""Of what cannot be nothing: a speed, a capacity, an efficiency."""
Cost = Annotated[float, Setting(least=0)]
"""Of what may be nothing: a time, a share."""


@dataclass(frozen=True)
class Machine:
    """What computes: one physical machine. Times of kernels follow from it where none were measured."""

    cores: Count
    flops_per_s: Amount
    """fp32 peak of all cores, nominal or measured."""
    memory_bytes_per_s: Amount
    """Of all cores together; what they read and what they write."""
    memory_bytes: Amount
    ranks: Count = 1
    """Ranks on one host; they share its link."""
    hosts: Count = 1
    """Hosts that share its cores: more than one where they are namespaces of one machine."""
    convolution_efficiency: Amount = 0.9
    """Share of the peak in forward and backward_data of convolutions, in the multiply-adds of the direct one:
    Winograd may come out above 1."""
    weight_gradient_efficiency: Amount = 0.75
    """The same for backward_weights of convolutions."""
    fully_connected_efficiency: Amount = 0.75
    """The same for all passes of fully connected layers, where memory does not bound them."""


@dataclass(frozen=True)
class Channel:
    """How messages go from one rank to another; all figures in one direction, the other is as fast."""

    latency_s: Cost
    bytes_per_s: Amount
    """Of one rank's link."""
    message_s: Cost = 0.0
    """Processor time of the communication thread per exchange: posting, testing and the interpreter."""
    processor_s_per_byte: Cost = 0.0
    """Processor time per byte sent and received: copies, TCP."""


@dataclass(frozen=True)
class Network:
    """What lies between machines."""

    channel: Channel
    topology: Annotated[str, Setting(choices=TOPOLOGIES)] = SWITCH
    group_machines: Annotated[int, Setting(least=0)] = 0
    """fat_tree: machines under one leaf switch. dragonfly: machines of a group. switch: 0, not used."""
    oversubscription: Annotated[float, Setting(least=1)] = 1.0
    """Links inside a group over links out of it, by bandwidth."""
    far_latency_s: Cost = 0.0
    """What a message between groups takes longer."""


@dataclass(frozen=True)
class Software:
    """Costs of the engine beside kernels and messages; none of them depends on the network."""

    add_bytes_per_s: Amount
    """Of received gradients, on the communication thread."""
    update_bytes_per_s: Amount
    """Weights updated, on the communication thread: bytes of weights alone."""
    poll_s: Cost = 0.0
    """How much later than it came a message is noticed, while the main thread computes."""
    polling: Cost = 0.0
    """Share of a core that the communication thread takes meanwhile, looking for messages on their way."""
    step_s: Cost = 0.0
    """A step's time that belongs to no layer: the loop, the log."""


@dataclass(frozen=True)
class Kernel:
    """Measured seconds of one layer's passes, on one rank while all ranks of its machine compute.

    Where they have no cores of their own, as many as have.
    """

    layer: str
    """See `engine.planner.costs.problem`: layer and shapes, not the name in a network."""
    samples: Count
    threads: Count
    forward: Cost
    backward_weights: Cost
    backward_data: Cost


@dataclass(frozen=True)
class Cluster:
    """A cluster; made by `read_cluster`."""

    name: str
    description: str
    machines: Count
    machine: Machine
    network: Network
    shared_memory: Channel
    """Between ranks of one host."""
    software: Software
    kernels: tuple[Kernel, ...] = field(default=(), repr=False)

    def check(self, where: str) -> None:
        """Raise UserError for the first figure out of its range; `where` names the cluster in errors."""
        check_settings(self, f"{where}: ")
        topology = self.network.topology
        if topology != SWITCH and self.network.group_machines < 1:
            raise UserError(
                f"{where}: network.group_machines: got {self.network.group_machines}; "
                f'a "{topology}" must have at least 1 machine in a group'
            )

    def to_toml(self) -> str:
        """Return the cluster as TOML that `parse_cluster` reads back to an equal one."""
        return dumps(to_table(self))


def shipped_clusters() -> list[str]:
    """Return the names of the clusters that come with the engine."""
    return shipped_names(_FOLDER)


def read_cluster(name: str) -> Cluster:
    """Read a shipped cluster by name, or a TOML file by path.

    Raises
    ------
    UserError
        No such cluster, text that is not TOML, or a field that is unknown, missing or out of its range.
    """
    return parse_cluster(read_text(name, _FOLDER, "cluster"), name)


def parse_cluster(text: str, where: str) -> Cluster:
    """Return the cluster that TOML text describes; `where` names the text in errors."""
    cluster = parse(Cluster, text, where)
    cluster.check(where)
    return cluster
