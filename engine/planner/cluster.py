"""Describe a cluster to the planner: machines, network, software costs and measured kernels."""

from dataclasses import dataclass, field
from typing import Annotated

from engine.config.errors import UserError
from engine.config.settings import Setting, check_settings
from engine.config.toml_fields import dumps, parse, read_text, shipped_names, to_table

SWITCH, FAT_TREE, DRAGONFLY = TOPOLOGIES = ("switch", "fat_tree", "dragonfly")

_FOLDER = "planner/clusters"

Count = Annotated[int, Setting(least=1)]
Amount = Annotated[float, Setting(above=0)]
"""A figure that cannot be 0: a speed, a capacity, an efficiency."""
Cost = Annotated[float, Setting(least=0)]
"""A figure that may be 0: a time, a share."""


@dataclass(frozen=True)
class Machine:
    """One physical machine; kernels that were not measured are estimated from these figures."""

    cores: Count
    flops_per_s: Amount
    """fp32 peak of all cores, nominal or measured."""
    memory_bytes_per_s: Amount
    """Bandwidth of all cores together, reads and writes added."""
    memory_bytes: Amount
    ranks: Count = 1
    """Ranks of a host; they share its link."""
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
    """A path of messages from one rank to another, full duplex; figures are of one direction."""

    latency_s: Cost
    bytes_per_s: Amount
    """Bandwidth of a rank's link."""
    message_s: Cost = 0.0
    """Processor time of the communication thread per exchange: posting, testing and the interpreter."""
    processor_s_per_byte: Cost = 0.0
    """Processor time per byte sent and received: copies, TCP."""


@dataclass(frozen=True)
class Network:
    """The network between machines: a rank's channel, and the topology above it."""

    channel: Channel
    topology: Annotated[str, Setting(choices=TOPOLOGIES)] = SWITCH
    group_machines: Annotated[int, Setting(least=0)] = 0
    """fat_tree: machines under one leaf switch. dragonfly: machines of a group. switch: 0, not used."""
    oversubscription: Annotated[float, Setting(least=1)] = 1.0
    """Links inside a group over links out of it, by bandwidth."""
    far_latency_s: Cost = 0.0
    """Additional latency of a message between groups."""


@dataclass(frozen=True)
class Software:
    """Costs of the engine other than kernels and messages; none depends on the network."""

    add_bytes_per_s: Amount
    """Of received gradients, on the communication thread."""
    update_bytes_per_s: Amount
    """Weights updated, on the communication thread: bytes of weights alone."""
    poll_s: Cost = 0.0
    """Delay from a message's arrival to the poll that finds it, while the main thread computes."""
    polling: Cost = 0.0
    """Share of a core that the communication thread's polls take meanwhile, while messages are under way."""
    step_s: Cost = 0.0
    """Time of a step outside all layers: the loop, the log."""


@dataclass(frozen=True)
class Kernel:
    """Measured seconds of a layer's passes on one rank, while all ranks of its machine compute.

    If they outnumber the cores, only as many compute at a time as have cores of their own.
    """

    layer: str
    """Layer and shapes, not its name in a network: see `engine.planner.costs.problem`."""
    samples: Count
    threads: Count
    forward: Cost
    backward_weights: Cost
    backward_data: Cost


@dataclass(frozen=True)
class Cluster:
    """A description of a cluster; made by `read_cluster`."""

    name: str
    description: str
    machines: Count
    machine: Machine
    network: Network
    shared_memory: Channel
    """The channel between ranks of one host."""
    software: Software
    kernels: tuple[Kernel, ...] = field(default=(), repr=False)

    def check(self, where: str) -> None:
        """Raise UserError for the first field out of its range; `where` names the cluster in errors."""
        check_settings(self, f"{where}: ")
        topology = self.network.topology
        if topology != SWITCH and self.network.group_machines < 1:
            raise UserError(
                f"{where}: network.group_machines: got {self.network.group_machines}; "
                f'a "{topology}" must have at least 1 machine in a group'
            )

    def to_toml(self) -> str:
        """Return the cluster as TOML, from which `parse_cluster` makes an equal one."""
        return dumps(to_table(self))


def shipped_clusters() -> list[str]:
    """Return the names of the clusters shipped with the engine."""
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
    """Parse TOML text into a cluster; `where` names the text in errors."""
    cluster = parse(Cluster, text, where)
    cluster.check(where)
    return cluster
