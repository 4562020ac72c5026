"""A cluster for tests, on which times are easily told."""

from dataclasses import replace

from engine.planner.cluster import Channel, Cluster, Machine, Network, Software

FREE = Channel(latency_s=0.0, bytes_per_s=1e30)


def cluster(
    *,
    flops_per_s: float = 1e12,
    network: Channel = FREE,
    shared_memory: Channel = FREE,
    ranks: int = 1,
    hosts: int = 1,
    cores: int = 64,
    **changes: float,
) -> Cluster:
    """Return machines whose memory and software cost nothing; `changes` are of `Software`."""
    software = Software(add_bytes_per_s=1e30, update_bytes_per_s=1e30)
    return Cluster(
        name="test",
        description="",
        machines=1 << 20,
        machine=Machine(
            cores=cores,
            flops_per_s=flops_per_s,
            memory_bytes_per_s=1e30,
            memory_bytes=1e30,
            ranks=ranks,
            hosts=hosts,
        ),
        network=Network(network),
        shared_memory=shared_memory,
        software=replace(software, **changes),
    )
