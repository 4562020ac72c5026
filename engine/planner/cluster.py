"""A cluster as the planner sees it: nodes, what they compute with, and the network between them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.config.errors import UserError
from engine.config.toml_fields import did_you_mean, one_of, parse, read_text, shipped_names, toml_lines

SWITCH, FAT_TREE, DRAGONFLY = TOPOLOGIES = ("switch", "fat_tree", "dragonfly")

_FOLDER = "planner/clusters"
_POSITIVE = (
    "flops_per_s",
    "memory_bytes_per_s",
    "memory_bytes",
    "bytes_per_s",
    "add_bytes_per_s",
    "update_bytes_per_s",
    "convolution_efficiency",
    "weight_gradient_efficiency",
    "fully_connected_efficiency",
)
_AT_LEAST_ONE = ("machines", "cores", "ranks", "hosts", "oversubscription", "samples", "threads")


@dataclass(frozen=True)
class Machine:
    """What computes: one physical machine. Times of kernels follow from it where none were measured."""

    cores: int
    flops_per_s: float
    """fp32 peak of all cores, nominal or measured."""
    memory_bytes_per_s: float
    """Of all cores together; what they read and what they write."""
    memory_bytes: float
    ranks: int = 1
    """Ranks on one host; they share its link."""
    hosts: int = 1
    """Hosts that share its cores: more than one where they are namespaces of one machine."""
    convolution_efficiency: float = 0.9
    """Share of the peak in forward and backward_data of convolutions, in the multiply-adds of the direct one:
    Winograd may come out above 1."""
    weight_gradient_efficiency: float = 0.75
    """The same for backward_weights of convolutions."""
    fully_connected_efficiency: float = 0.75
    """The same for all passes of fully connected layers, where memory does not bound them."""


@dataclass(frozen=True)
class Channel:
    """How messages go from one rank to another; all figures in one direction, the other is as fast."""

    latency_s: float
    bytes_per_s: float
    """Of one rank's link."""
    message_s: float = 0.0
    """Processor time of the communication thread per exchange: posting, testing and the interpreter."""
    processor_s_per_byte: float = 0.0
    """Processor time per byte sent and received: copies, TCP."""


@dataclass(frozen=True)
class Network:
    """What lies between machines."""

    channel: Channel
    topology: str = SWITCH
    group_machines: int = 0
    """fat_tree: machines under one leaf switch. dragonfly: machines of a group. switch: 0, not used."""
    oversubscription: float = 1.0
    """Links inside a group over links out of it, by bandwidth."""
    far_latency_s: float = 0.0
    """What a message between groups takes longer."""


@dataclass(frozen=True)
class Software:
    """Costs of the engine beside kernels and messages; none of them depends on the network."""

    add_bytes_per_s: float
    """Of received gradients, on the communication thread."""
    update_bytes_per_s: float
    """Weights updated, on the communication thread: bytes of weights alone."""
    poll_s: float = 0.0
    """How much later than it came a message is noticed, while the main thread computes."""
    polling: float = 0.0
    """Share of a core that the communication thread takes meanwhile, looking for messages on their way."""
    step_s: float = 0.0
    """A step's time that belongs to no layer: the loop, the log."""


@dataclass(frozen=True)
class Kernel:
    """Measured seconds of one layer's passes, on one rank while all ranks of its machine compute.

    Where they have no cores of their own, as many as have.
    """

    layer: str
    """See `engine.planner.costs.problem`: layer and shapes, not the name in a network."""
    samples: int
    threads: int
    forward: float
    backward_weights: float
    backward_data: float


@dataclass(frozen=True)
class Cluster:
    """A cluster; made by `read_cluster`."""

    name: str
    description: str
    machines: int
    machine: Machine
    network: Network
    shared_memory: Channel
    """Between ranks of one host."""
    software: Software
    kernels: tuple[Kernel, ...] = field(default=(), repr=False)

    def check(self, where: str) -> None:
        """Raise UserError for the first figure that is out of its range; `where` names the cluster in it."""
        topology = self.network.topology
        if topology not in TOPOLOGIES:
            hint = did_you_mean(topology, TOPOLOGIES)
            raise UserError(f'{where}: network.topology: got "{topology}"{hint}; {one_of(TOPOLOGIES)}')
        for name, value in _numbers(asdict(self)):
            field_name = name.rpartition(".")[2]
            if field_name in _POSITIVE:
                fits, limit = value > 0, "more than 0"
            elif field_name in _AT_LEAST_ONE:
                fits, limit = value >= 1, "at least 1"
            else:
                fits, limit = value >= 0, "at least 0"
            if not fits:  # NaN never does
                raise UserError(f"{where}: {name}: got {value}; must be {limit}")
        if topology != SWITCH and self.network.group_machines < 1:
            raise UserError(
                f"{where}: network.group_machines: got {self.network.group_machines}; "
                f'a "{topology}" must have at least 1 machine in a group'
            )

    def to_toml(self) -> str:
        """Return the cluster as TOML that `parse_cluster` reads back to an equal one."""
        return "\n".join(toml_lines(asdict(self))) + "\n"


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
    """Return the cluster that TOML text describes; `where` names it in errors."""
    cluster = parse(Cluster, text, where)
    cluster.check(where)
    return cluster


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield all numbers with their dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            for index, entry in enumerate(value):
                yield from _numbers(entry, f"{prefix}{name}[{index}].")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", value
