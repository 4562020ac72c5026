"""Clusters are read, checked and written."""

from dataclasses import replace

import pytest

from engine.config.errors import UserError
from engine.planner.cluster import Kernel, parse_cluster, read_cluster, shipped_clusters

KERNELS = (
    Kernel("Linear(7) [5]", 4, 2, 1e-3, 2.5e-3, 0.0),
    Kernel("Linear(7) [5]", 8, 2, 2e-3, 4e-3, 1 / 3),
)


@pytest.mark.parametrize("name", shipped_clusters())
def test_a_shipped_cluster_is_read_and_written_back_as_it_was(name):
    cluster = read_cluster(name)
    assert cluster.name == name
    for each in (cluster, replace(cluster, kernels=KERNELS)):
        assert parse_cluster(each.to_toml(), "copy") == each


def test_the_clusters_of_the_paper_are_shipped():
    assert {"cori_phase1", "aws_c4_8xlarge", "endeavor_fdr"} <= set(shipped_clusters())


def test_all_nominal_clusters_assume_the_same_efficiencies():
    machines = [read_cluster(name).machine for name in shipped_clusters()]
    assert {
        (m.convolution_efficiency, m.weight_gradient_efficiency, m.fully_connected_efficiency)
        for m in machines
    } == {(0.9, 0.75, 0.75)}


def test_a_file_is_read_by_its_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(read_cluster("epyc_hdr").to_toml())
    assert read_cluster(str(path)) == read_cluster("epyc_hdr")


def changed(old: str, new: str) -> str:
    text = replace(read_cluster("endeavor_fdr"), kernels=KERNELS).to_toml()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cores = 32", "coers = 32", 'c.toml: unknown field "machine.coers" (did you mean "cores"?)'),
        ("cores = 32", "", "c.toml: machine.cores is missing"),
        ("cores = 32", "cores = 0", "c.toml: machine.cores: got 0; must be at least 1"),
        ("cores = 32", "cores = 1.5", "c.toml: machine.cores: got 1.5; must be a whole number"),
        (
            "bytes_per_s = 7000000000.0",
            "bytes_per_s = 0",
            "network.channel.bytes_per_s: got 0.0; must be more",
        ),
        ("latency_s = 1.1e-06", "latency_s = -1", "network.channel.latency_s: got -1.0; must be at least 0"),
        ("latency_s = 1.1e-06", "latency_s = nan", "network.channel.latency_s: got nan; must be at least 0"),
        ("latency_s = 1.1e-06", "lag = 1", 'unknown field "network.channel.lag"'),
        (
            "fat_tree",
            "fat-tree",
            'network.topology: got "fat-tree" (did you mean "fat_tree"?); must be one of',
        ),
        ("group_machines = 18", "group_machines = 0", 'a "fat_tree" must have at least 1 machine in a group'),
        ("samples = 4", "samples = 0", "kernels[0].samples: got 0; must be at least 1"),
        ("samples = 4", 'samples = "4"', "kernels[0].samples: got '4'; must be a whole number"),
        ("[software]", "[softwere]", 'unknown field "softwere" (did you mean "software"?)'),
        ("machines = 128", "machines = ", "c.toml: is not TOML"),
    ],
)
def test_a_mistake_is_named(old, new, message):
    with pytest.raises(UserError) as caught:
        parse_cluster(changed(old, new), "c.toml")
    assert message in str(caught.value)


def test_kernels_that_are_no_tables_are_refused():
    text = "kernels = 3\n" + read_cluster("epyc_hdr").to_toml().replace("kernels = []\n", "")
    with pytest.raises(UserError, match="kernels: got 3; must be a list of tables"):
        parse_cluster(text, "c.toml")


def test_a_cluster_that_is_not_there_is_no_mystery():
    with pytest.raises(UserError) as caught:
        read_cluster("cori_phase2")
    assert 'cluster: got "cori_phase2" (did you mean "cori_phase1"?); must be one of' in str(caught.value)
