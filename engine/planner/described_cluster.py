"""A cluster in a few words: cores, clock, SIMD, network and memory of a node; the rest is assumed."""

import re
from dataclasses import dataclass

from engine.config.errors import UserError
from engine.config.wording import did_you_mean, one_of
from engine.planner.cluster import Channel, Cluster, Machine, Network, Software

FLOP_A_CYCLE = {"neon": 16, "avx2": 32, "avx512": 64}
"""fp32 FLOP of a core in a cycle: two registers of fused multiply-adds."""

INFINIBAND = {"fdr": 56, "edr": 100, "hdr": 200, "ndr": 400}
"""Gb/s of a link."""

_MEMORY_BYTES_PER_S = 3e9  # of a core: 2.6 to 5.3 GB/s on the nodes of the shipped clusters
_GB_A_CORE = 4.0
_GHZ, _SIMD, _NETWORK = 2.5, "avx2", "10gbit"
_MACHINES = 1 << 16  # as many as anybody asks for
_PAYLOAD = 0.95  # of Ethernet's bits: headers of TCP/IP in frames of 1,500 bytes


@dataclass(frozen=True)
class Described:
    """What a user says of a node; None for what is left to assume."""

    cores: int | None = None
    ghz: float | None = None
    simd: str | None = None
    network: str | None = None
    memory_gb: float | None = None

    def given(self) -> bool:
        """Return whether anything is said."""
        return any(value is not None for value in vars(self).values())

    def cluster(self) -> tuple[Cluster, list[str]]:
        """Return the cluster, and what was assumed for it.

        Raises
        ------
        UserError
            No cores, or a figure or name that is not allowed.
        """
        self._check()
        cores, ghz, simd = self.cores or 1, self.ghz or _GHZ, self.simd or _SIMD
        memory_gb = self.memory_gb or _GB_A_CORE * cores
        channel, name, guessed = _channel(self.network or _NETWORK)
        described = (
            (self.ghz, f"{ghz:g} GHz on all cores while they compute"),
            (self.simd, f"{simd}, {FLOP_A_CYCLE[simd]} FLOP a core and cycle"),
            (self.network, name),
            (self.memory_gb, f"{memory_gb:g} GB of memory"),
        )
        assumed = [text for given, text in described if given is None]
        assumed += [
            f"{_MEMORY_BYTES_PER_S / 1e9:g} GB/s of memory a core",
            "kernels at 90 % of the peak, 75 % for weight gradients and fully connected layers",
            guessed,
            "one switch for all nodes",
        ]
        return (
            Cluster(
                name="a described cluster",
                description=f"{cores} cores of {ghz:g} GHz with {simd}, {memory_gb:g} GB, {name}",
                machines=_MACHINES,
                machine=Machine(
                    cores=cores,
                    flops_per_s=cores * FLOP_A_CYCLE[simd] * ghz * 1e9,
                    memory_bytes_per_s=cores * _MEMORY_BYTES_PER_S,
                    memory_bytes=memory_gb * 1e9,
                ),
                network=Network(channel),
                shared_memory=Channel(latency_s=0.6e-6, bytes_per_s=6e9, message_s=2e-6),
                software=Software(add_bytes_per_s=4e9, update_bytes_per_s=2.4e9),
            ),
            assumed,
        )

    def _check(self) -> None:
        if self.cores is None:
            raise UserError("cores: missing; a cluster in a few words needs --cores N, the cores of a node")
        for name, value in (("cores", self.cores), ("ghz", self.ghz), ("memory-gb", self.memory_gb)):
            if value is not None and not 0 < value < 1e6:
                raise UserError(f"{name}: got {value:g}; must be above 0 and below a million")
        if self.simd is not None and self.simd not in FLOP_A_CYCLE:
            hint = did_you_mean(self.simd, FLOP_A_CYCLE)
            raise UserError(f'simd: got "{self.simd}"{hint}; {one_of(FLOP_A_CYCLE)}')


def _channel(network: str) -> tuple[Channel, str, str]:
    """Return the channel of a network, its name, and what is assumed of it."""
    if network in INFINIBAND:
        link = INFINIBAND[network]
        channel = Channel(latency_s=1.1e-6, bytes_per_s=link / 8 * 0.96e9, message_s=2e-6)
        return channel, f"{network.upper()} InfiniBand, {link} Gb/s", "1.1 us from node to node"
    match = re.fullmatch(r"(\d+(?:\.\d+)?)gbit", network)
    if match is None or float(match[1]) <= 0:
        choices = f"Gb/s of Ethernet such as 10gbit, or InfiniBand: {', '.join(INFINIBAND)}"
        raise UserError(f'network: got "{network}"{did_you_mean(network, INFINIBAND)}; must be {choices}')
    gbit = float(match[1])
    channel = Channel(
        latency_s=40e-6,
        bytes_per_s=gbit / 8 * _PAYLOAD * 1e9,
        message_s=5e-6,
        processor_s_per_byte=0.3e-9,
    )
    return channel, f"{gbit:g} Gb/s Ethernet with TCP", "40 us from node to node, 0.3 ns of a core for a byte"
