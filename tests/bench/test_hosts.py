"""Hosts on one machine: the commands that make them, without making any, and a TCP stream on this one."""

import os
import subprocess
import threading

import pytest

from bench import hosts, link, namespaces
from bench.hosts import link_line
from bench.link import LinkFigures
from bench.namespaces import ClusterError, Link

NAMES = ("lockstep-7-1-switch", "lockstep-7-1-h1", "lockstep-7-1-h2")


def lines(rate_bits: float | None, latency_s: float) -> list[str]:
    return [" ".join(command) for command in namespaces.make_commands(NAMES, Link(rate_bits, latency_s))]


def test_each_host_has_a_namespace_an_address_and_a_port_of_the_switch() -> None:
    made = lines(None, 0.0)
    assert made[0] == "ip netns add lockstep-7-1-switch"
    for number in (1, 2):
        host = f"lockstep-7-1-h{number}"
        assert f"ip netns add {host}" in made
        assert f"ip -n {host} addr add 10.77.0.{number}/24 dev eth0" in made
        assert f"ip -n lockstep-7-1-switch link set port{number} master br0 up" in made
    assert not any(line.startswith("tc") for line in made)


def test_a_rate_shapes_both_ends_of_a_link() -> None:
    shaping = [line for line in lines(1e9, 0.0) if line.startswith("tc")]
    bucket = "root tbf rate 1000000000bit burst 25000b latency 50ms"
    assert shaping == [
        f"tc -n lockstep-7-1-h1 qdisc add dev eth0 {bucket}",
        f"tc -n lockstep-7-1-switch qdisc add dev port1 {bucket}",
        f"tc -n lockstep-7-1-h2 qdisc add dev eth0 {bucket}",
        f"tc -n lockstep-7-1-switch qdisc add dev port2 {bucket}",
    ]


def test_a_burst_is_short_and_takes_pieces_of_tcp_that_fit() -> None:
    for rate_bits, burst, piece in ((1e8, 4000, 1800), (1e9, 25000, 11250), (1e10, 250000, None)):
        made = lines(rate_bits, 0.0)
        assert f"burst {burst}b" in made[-1]
        pieces = [line.split()[-1] for line in made if "gso_max_size" in line]
        assert pieces == ([] if piece is None else [str(piece)] * 2)


def test_the_line_about_a_link_says_what_messages_take_and_would_take() -> None:
    figures = LinkFigures(9.4e8, 9.3e8, 2e-5, [5e-5, 9e-5, 8e-4, 8.3e-3])
    assert link_line(Link(1e9, 0.0), figures) == (
        "1 Gbit/s, latency 0 ms: TCP gets 0.940 Gbit/s one way, 0.930 in each direction at once; "
        "round trip 0.020 ms; messages, in ms (at this rate): "
        "1 kB 0.05 (0.01), 10 kB 0.09 (0.08), 100 kB 0.80 (0.80), 1000 kB 8.30 (8.00)"
    )


def test_latency_is_added_once_on_the_way_to_each_host() -> None:
    delays = [line for line in lines(1e9, 0.0015) if "netem" in line]
    assert delays == [
        f"tc -n lockstep-7-1-switch qdisc add dev port{number} root handle 1: netem delay 1500us limit 100000"
        for number in (1, 2)
    ]
    assert "tc -n lockstep-7-1-switch qdisc add dev port1 parent 1:1 tbf" in "\n".join(lines(1e9, 0.0015))


def test_without_a_bridge_ports_keep_their_rate_and_latency_is_left_to_the_delay_line() -> None:
    made = [" ".join(each) for each in namespaces.make_commands(NAMES, Link(1e9, 0.0015), bridge=False)]
    assert "ip -n lockstep-7-1-switch link set port2 up" in made
    assert not any("br0" in line or "netem" in line for line in made)
    shaped = [line.replace("burst 36250b", "burst 25000b") for line in made if line.startswith("tc")]
    assert shaped == [line for line in lines(1e9, 0.0) if line.startswith("tc")]


def test_two_clusters_of_one_process_have_different_names() -> None:
    first, second = namespaces.new_names(3), namespaces.new_names(3)
    assert len({*first, *second}) == 8
    assert all(f"-{os.getpid()}-" in name for name in first)
    assert max(map(len, first)) < 64  # the limit of a host's name


def test_the_stand_in_for_ssh_refuses_other_hosts() -> None:
    done = subprocess.run(
        ["sh", "-c", namespaces.remote_shell(NAMES[1:]), "sh", "elsewhere", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (255, "elsewhere: no such host\n")


@pytest.mark.parametrize(
    ("text", "rate"), [("1gbit", 1e9), ("2.5Gbit", 2.5e9), ("100mbit", 1e8), ("none", None)]
)
def test_rates_are_read(text: str, rate: float | None) -> None:
    assert namespaces.parse_rate(text) == rate


@pytest.mark.parametrize(("text", "seconds"), [("0ms", 0.0), ("1.5ms", 1.5e-3), ("200us", 2e-4), ("1s", 1.0)])
def test_latencies_are_read(text: str, seconds: float) -> None:
    assert namespaces.parse_latency(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "link"),
    [("1gbit", Link(1e9)), ("10gbit+0.1ms", Link(1e10, 1e-4)), ("none+2ms", Link(None, 2e-3))],
)
def test_links_are_read(text: str, link: Link) -> None:
    assert Link.parse(text) == link


def test_a_link_without_the_latency_it_announces_is_refused() -> None:
    with pytest.raises(ValueError, match="latency: got ''; must be like 200us"):
        Link.parse("1gbit+")


def test_mpirun_comes_first_or_where_the_placeholder_stands() -> None:
    mpirun = ["mpirun", "-n", "2"]
    assert hosts.expand(["python", "x.py"], mpirun) == ["mpirun", "-n", "2", "python", "x.py"]
    assert hosts.expand(["time", "{mpirun}", "x"], mpirun) == ["time", "mpirun", "-n", "2", "x"]
    assert hosts.expand(["sh", "-c", "{mpirun} x"], mpirun) == ["sh", "-c", "mpirun -n 2 x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "5"], "rate: got '5'; must be like 100mbit, 1gbit"),
        (["--rate", "100kbit"], "rate: got 100000 bit/s; must be 10 Mbit/s to 1 Tbit/s"),
        (["--ranks-per-host", "0"], "ranks_per_host: got 0; must be at least 1"),
        (["--latency", "1"], "latency: got '1'; must be like 200us"),
        (["--latency", "11s"], "latency: got 11 s; must be 0 to 10 s"),
        (["--hosts", "0"], "hosts: got 0; must be 1 to 64"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hosts.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_without_root_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert hosts.main([]) == 2
    assert capsys.readouterr().err == "error: hosts are network namespaces, which only root can make\n"


def test_without_iproute2_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert hosts.main([]) == 2
    assert capsys.readouterr().err.startswith("error: no ip, tc, unshare on this machine: install iproute2")


def test_what_the_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = subprocess.CompletedProcess([], 2, "", "Error: Specified qdisc kind is unknown.\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    with pytest.raises(ClusterError, match="this kernel has no tbf, which a rate needs"):
        namespaces.run(["tc", "qdisc", "add", "dev", "port1", "root", "tbf", "rate", "1gbit"])


def test_a_stream_is_measured_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "PORT", 45201)
    listener = threading.Thread(target=link.listen, args=("127.0.0.1", 0.1))
    listener.start()
    figures = link.connect("127.0.0.1", 0.1)
    listener.join()
    assert figures.one_way_bits_per_s > 1e6
    assert figures.both_ways_bits_per_s > 1e6
    assert 0 < figures.round_trip_s < 1
    assert len(figures.message_s) == len(link.MESSAGES)
    assert all(-1e-3 < seconds < 1 for seconds in figures.message_s)
