"""A cluster in a few words."""

import pytest

from engine.config.errors import UserError
from engine.planner.cluster import parse_cluster, read_cluster
from engine.planner.described_cluster import Described

NETWORKS = "must be Gb/s of Ethernet such as 10gbit, or InfiniBand: fdr, edr, hdr, ndr"


def test_what_is_said_is_in_the_cluster():
    said = Described(cores=32, ghz=2.4, simd="avx512", network="25gbit", memory_gb=192.0)
    cluster, assumed = said.cluster()
    assert cluster.machine.flops_per_s == pytest.approx(32 * 64 * 2.4e9)
    assert cluster.machine.memory_bytes == 192e9
    assert cluster.network.channel.bytes_per_s == pytest.approx(25e9 / 8 * 0.95)
    assert not any("GHz" in text or "avx" in text or "Ethernet" in text for text in assumed)
    assert parse_cluster(cluster.to_toml(), "described") == cluster


def test_what_is_not_said_is_assumed_and_said():
    cluster, assumed = Described(cores=8).cluster()
    start = ["2.5 GHz on all cores while they compute", "avx2, 32 FLOP a core and cycle"]
    assert assumed[:4] == [*start, "10 Gb/s Ethernet with TCP", "32 GB of memory"]
    assert cluster.machine.cores == 8


def test_the_paper_s_nodes_in_a_few_words_come_near_their_description():
    written = read_cluster("aws_c4_8xlarge")
    cluster, _ = Described(cores=18, ghz=2.9, simd="avx2", network="10gbit").cluster()
    assert cluster.machine.flops_per_s == pytest.approx(written.machine.flops_per_s, rel=0.001)
    assert cluster.network.channel.bytes_per_s == pytest.approx(written.network.channel.bytes_per_s, rel=0.01)
    assert cluster.software == written.software


def test_infiniband_has_a_name():
    cluster, _ = Described(cores=8, network="fdr").cluster()
    assert cluster.network.channel.bytes_per_s == pytest.approx(6.72e9)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"ghz": 2.0}, "cores: missing; a cluster in a few words needs --cores N, the cores of a node"),
        ({"cores": 0}, "cores: got 0; must be above 0 and below a million"),
        ({"cores": 4, "ghz": float("nan")}, "ghz: got nan; must be above 0 and below a million"),
        ({"cores": 4, "memory_gb": -1.0}, "memory-gb: got -1; must be above 0 and below a million"),
        (
            {"cores": 4, "simd": "avx-512"},
            'simd: got "avx-512" (did you mean "avx512"?); must be one of neon, avx2, avx512',
        ),
        (
            {"cores": 4, "network": "10 Gb"},
            f'network: got "10 Gb"; {NETWORKS}',
        ),
        (
            {"cores": 4, "network": "0gbit"},
            f'network: got "0gbit"; {NETWORKS}',
        ),
    ],
)
def test_a_mistake_is_one_line(said, message):
    with pytest.raises(UserError) as error:
        Described(**said).cluster()
    assert str(error.value) == message
