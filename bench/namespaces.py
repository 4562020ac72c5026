"""Hosts as network namespaces of this machine, joined by a switch; each has its own name, address and link.

One more namespace holds the bridge that is the switch, so nothing shows in the machine's own network, and
the addresses clash with nobody's. A link is shaped at both ends: what the host sends leaves through a token
bucket on its own interface, what it is sent through one on the switch's port, where latency is added too: by
netem, or by a delay line (bench.delay_line) instead of the bridge. Needs root and iproute2.

pyroute2 could make namespaces and links without the program `ip`, but not replace it: ranks are started by
`ip netns exec`, which lays each host's own files over /etc, also from the shell script that stands in for
ssh. So both would be needed. And commands are data: tests read them without being root, and an error shows a
line that the user can run again.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

SUBNET = "10.77.0.0/24"
INTERFACE = "eth0"
"""Of a host."""

MOST_HOSTS = 64
_BURST_S = 200e-6  # a token bucket holds what the link carries in this time; in less, timers come too late
_DELAYED_BURST_S = 290e-6  # the same before a delay line, which has work with each piece
_LEAST_BURST_BYTES = 4000  # two frames and more
_LONGEST_PIECE = 1 << 16  # that TCP hands to the interface, to be cut into frames: here whole
_QUEUE_S = 0.05  # the longest that a packet waits for its tokens before it is dropped
_GONE_S = 5.0

_NAME = re.compile(r"lockstep-(\d+)-\d+-")  # of a namespace or a temporary folder: its owner's process id
_CLUSTERS = count(1)


class ClusterError(RuntimeError):
    """Hosts cannot be made here: not root, a tool or a feature of the kernel is missing."""


@dataclass(frozen=True)
class Link:
    """What joins a host to the switch, the same in both directions.

    Attributes
    ----------
    rate_bits
        Bits per second, of Ethernet frames; None: as fast as this machine copies.
    latency_s
        From one host to another, one way.
    """

    rate_bits: float | None = None
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rate_bits is not None and not 1e7 <= self.rate_bits <= 1e12:
            raise ValueError(f"rate: got {self.rate_bits:g} bit/s; must be 10 Mbit/s to 1 Tbit/s")
        if not 0 <= self.latency_s <= 10:
            raise ValueError(f"latency: got {self.latency_s:g} s; must be 0 to 10 s")

    @classmethod
    def parse(cls, text: str) -> "Link":
        """Read "1gbit", "10gbit+0.1ms", "none+2ms"; ValueError says what is allowed."""
        rate, plus, latency = text.partition("+")
        return cls(parse_rate(rate), parse_latency(latency) if plus else 0.0)

    def __str__(self) -> str:
        rate = "unshaped" if self.rate_bits is None else f"{self.rate_bits / 1e9:g} Gbit/s"
        return f"{rate}, latency {1e3 * self.latency_s:g} ms"


def parse_rate(text: str) -> float | None:
    """Read "100mbit", "1gbit", "2.5gbit" or "none" as bits per second."""
    if text == "none":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg])bit", text.lower())
    if match is None:
        raise ValueError(f"rate: got {text!r}; must be like 100mbit, 1gbit, 2.5gbit, or none")
    return float(match[1]) * {"k": 1e3, "m": 1e6, "g": 1e9}[match[2]]


def parse_latency(text: str) -> float:
    """Read "0ms", "1.5ms", "200us" or "0.1s" as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", text.lower())
    if match is None:
        raise ValueError(f"latency: got {text!r}; must be like 200us, 1.5ms or 0.1s")
    return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[match[2]]


def check_tools() -> None:
    """Raise ClusterError where there is no root or no iproute2."""
    if os.geteuid() != 0:
        raise ClusterError("hosts are network namespaces, which only root can make")
    missing = [tool for tool in ("ip", "tc", "unshare") if shutil.which(tool) is None]
    if missing:
        raise ClusterError(f"no {', '.join(missing)} on this machine: install iproute2 and util-linux")


def new_names(hosts: int) -> tuple[str, ...]:
    """Return the names of a switch and of hosts, which hold this process's id: no other cluster has them."""
    prefix = f"lockstep-{os.getpid()}-{next(_CLUSTERS)}"
    return (f"{prefix}-switch", *(f"{prefix}-h{number}" for number in range(1, hosts + 1)))


def address(host: int) -> str:
    """Return the address of a host, counted from 0."""
    return f"10.77.0.{host + 1}"


def has_netem() -> bool:
    """Say whether this kernel can add a latency, by trying."""
    command = ["unshare", "--net", *["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def ports(hosts: int) -> tuple[str, ...]:
    """Return the names of the switch's ports."""
    return tuple(f"port{number}" for number in range(1, hosts + 1))


def make(names: Sequence[str], link: Link, *, bridge: bool = True) -> None:
    """Make a switch and hosts of these names.

    Parameters
    ----------
    bridge
        Join the switch's ports, and add the latency; else both are left to a delay line.

    Raises
    ------
    ClusterError
        With what the kernel said. What has been made by then is left for `destroy`.
    """
    try:
        _write_hosts_files(names[1:])
    except OSError as error:
        raise ClusterError(f"{error.filename}: cannot be written: {error.strerror}") from error
    for command in make_commands(names, link, bridge=bridge):
        run(command)


def _write_hosts_files(hosts: Sequence[str]) -> None:
    """Let hosts know each other's names; `ip netns exec` lays these files over those in /etc."""
    known = "".join(f"{address(host)} {name}\n" for host, name in enumerate(hosts))
    for name in hosts:
        folder = Path("/etc/netns") / name
        folder.mkdir(parents=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{known}")


def make_commands(names: Sequence[str], link: Link, *, bridge: bool = True) -> list[list[str]]:
    """Return the commands that make the namespaces and the links; see `make`."""
    switch, *hosts = names
    lines = [f"ip netns add {switch}"]
    burst_s = _BURST_S if bridge else _DELAYED_BURST_S
    if bridge:
        lines += [f"ip -n {switch} link add br0 type bridge", f"ip -n {switch} link set br0 up"]
    for host, (name, port) in enumerate(zip(hosts, ports(len(hosts)), strict=True)):
        lines += [
            f"ip netns add {name}",
            f"ip -n {switch} link add {port} type veth peer name {INTERFACE} netns {name}",
            f"ip -n {switch} link set {port}{' master br0' if bridge else ''} up",
            f"ip -n {name} addr add {address(host)}/{SUBNET.partition('/')[2]} dev {INTERFACE}",
            f"ip -n {name} link set {INTERFACE} up",
            f"ip -n {name} link set lo up",
        ]
        netem = bridge and link.latency_s > 0
        if netem:
            lines.append(
                f"tc -n {switch} qdisc add dev {port} root handle 1: "
                f"netem delay {1e6 * link.latency_s:.0f}us limit 100000"
            )
        if link.rate_bits is not None:
            burst = max(_LEAST_BURST_BYTES, round(link.rate_bits / 8 * burst_s))
            bucket = f"tbf rate {link.rate_bits:.0f}bit burst {burst}b latency {1e3 * _QUEUE_S:.0f}ms"
            piece = burst * 9 // 20  # at least two to a bucket, or it stands empty between
            if piece < _LONGEST_PIECE:
                lines.append(f"ip -n {name} link set {INTERFACE} gso_max_size {piece}")
            lines.append(f"tc -n {name} qdisc add dev {INTERFACE} root {bucket}")
            place = "parent 1:1" if netem else "root"
            lines.append(f"tc -n {switch} qdisc add dev {port} {place} {bucket}")
    return [line.split() for line in lines]


def inside(name: str, command: Sequence[str]) -> list[str]:
    """Return the command that runs another one on a host, which then has the host's name."""
    # The name of a host is written to /proc where the program hostname may be missing.
    script = 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"'
    return ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", script, name, *command]


def remote_shell(hosts: Sequence[str]) -> str:
    """Return a shell script that stands in for ssh: ``script HOST COMMAND...``."""
    script = 'echo "$0" > /proc/sys/kernel/hostname && eval "$@"'
    return (
        "#!/bin/sh\n"
        f'case "$1" in {"|".join(hosts)}) ;; *) echo "$1: no such host" >&2; exit 255 ;; esac\n'
        f'host=$1; shift\nexec ip netns exec "$host" unshare --uts sh -c \'{script}\' "$host" "$@"\n'
    )


def destroy(names: Iterable[str]) -> None:
    """End all processes on these hosts and remove the hosts; nothing stops it halfway, no Ctrl-C either."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        for name in names:
            end_processes(name)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        with suppress(OSError):  # other hosts are there
            Path("/etc/netns").rmdir()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_processes(name: str) -> None:
    """Kill what runs on a host, and wait until it is gone."""
    deadline = time.monotonic() + _GONE_S
    while (running := _processes(name)) and time.monotonic() < deadline:
        for process in running:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def remove_leftovers(folder: Path) -> list[str]:
    """Remove clusters whose owner is gone: it was killed before it could. Return the names of what was there.

    Their temporary folders are looked for in `folder`.
    """
    shown = subprocess.run(["ip", "-j", "netns", "list"], capture_output=True, text=True, check=False).stdout
    names = [each["name"] for each in json.loads(shown or "[]")]
    left = sorted(filter(_is_orphan, names))
    folders = [path for path in folder.glob("lockstep-*") if path.is_dir() and _is_orphan(path.name)]
    destroy(left)
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
    return left + [str(path) for path in folders]


def _is_orphan(name: str) -> bool:
    owner = _NAME.match(name)
    return owner is not None and not psutil.pid_exists(int(owner[1]))


def _processes(name: str) -> list[int]:
    shown = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(word) for word in shown.stdout.split()]


def run(command: Sequence[str]) -> None:
    """Run a command that makes something.

    Raises
    ------
    ClusterError
        With what it said, if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = " ".join(done.stderr.split())
    hint = "; this kernel has no tbf, which a rate needs" if "qdisc kind is unknown" in said else ""
    raise ClusterError(f"{' '.join(command)}: {said}{hint}")
