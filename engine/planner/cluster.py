"""A cluster as the planner sees it: nodes, what they compute with, and the network between them."""

from dataclasses import dataclass, field

SWITCH, FAT_TREE, DRAGONFLY = TOPOLOGIES = ("switch", "fat_tree", "dragonfly")


@dataclass(frozen=True)
class Machine:
    """What computes: one physical machine. Times of kernels follow from it where none were measured."""

    cores: int
    flops_per_s: float
    """fp32 peak of all cores, nominal or measured."""
    memory_bytes_per_s: float
    memory_bytes: float
    ranks: int = 1
    """Ranks on one host; they share its link."""
    hosts: int = 1
    """Hosts that share its cores: more than one where they are namespaces of one machine."""
    convolution_efficiency: float = 0.9
    """Share of the peak in forward and backward_data of convolutions."""
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
    """fat_tree: machines under one leaf switch. dragonfly: machines of a group. switch: not used."""
    oversubscription: float = 1.0
    """Links inside a group over links out of it, by bandwidth."""
    far_latency_s: float = 0.0
    """What a message between groups takes longer."""


@dataclass(frozen=True)
class Software:
    """Costs of the engine beside kernels and messages; None of them depends on the network."""

    add_bytes_per_s: float
    """Of received gradients, on the communication thread."""
    update_bytes_per_s: float
    """Weights updated, on the communication thread: bytes of weights alone."""
    poll_s: float = 0.0
    """How much later than it came a message is noticed, while the main thread computes."""
    step_s: float = 0.0
    """A step's time that belongs to no layer: the loop, the log."""


@dataclass(frozen=True)
class Kernel:
    """Measured seconds of one layer's passes, on one rank while all ranks of its machine compute."""

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
    """Between ranks of one machine."""
    software: Software
    kernels: tuple[Kernel, ...] = field(default=(), repr=False)
