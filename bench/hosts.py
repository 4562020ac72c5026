"""The command ``python -m bench.hosts``: a cluster on one machine, with links of a chosen speed.

with cluster(hosts=2, rate_bits=1e9) as hosts:
    hosts.mpirun([sys.executable, "-m", "engine.train", "digits"])
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from bench import delay_line, namespaces
from bench.launch import SHARING
from bench.link import MESSAGES, LinkFigures
from bench.namespaces import ClusterError, Link, parse_latency, parse_rate
from engine.host.mpirun import AS_ROOT, find_mpirun, is_open_mpi

PLACEHOLDER = "{mpirun}"
_GRACE_S = 5.0
_CHECK_S = 0.2  # of each stream that is measured before a command
_REPOSITORY = Path(__file__).parent.parent

_EPILOG = """\
examples:
  python -m bench.hosts --hosts 2 --rate 1gbit                  what plain TCP gets on such links
  python -m bench.hosts --hosts 2 --rate 1gbit -- python -m engine.train digits
  python -m bench.hosts --hosts 4 --rate 10gbit --latency 0.1ms -- python -m engine.train vgg_a --threads 1
  python -m bench.hosts --hosts 2 -- sh -c 'for n in 1 2 3; do {mpirun} python -m engine.train; done'
  python -m bench.hosts --clean                                 remove what a killed command has left

Each host is a network namespace with a name, an address and a link of its own; processes, memory and
files are this machine's. COMMAND runs under mpirun on all hosts, or as it is on the first host where {mpirun}
stands in it. When it ends, or at Ctrl-C, all is removed. The exit code is COMMAND's; 2 where hosts cannot be
made: that needs root, iproute2 and Open MPI. A latency is netem's; where the kernel has none, a process holds
every frame (bench.delay_line) and takes a part of a core: at 1 Gb/s a fifth.
"""


@dataclass(frozen=True)
class Cluster:
    """Hosts that are up; made by `cluster`."""

    names: tuple[str, ...]
    """Host names, which are the names of the namespaces too."""
    link: Link
    folder: Path
    """Temporary, gone with the cluster."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of the hosts."""
        return tuple(namespaces.address(host) for host in range(len(self.names)))

    def mpirun_arguments(self, ranks_per_host: int = 1) -> list[str]:
        """Return mpirun and its arguments, to be run on the first host; consecutive ranks share a host.

        Raises
        ------
        ClusterError
            If there is no Open MPI.
        """
        try:
            mpirun = find_mpirun()
        except FileNotFoundError as error:
            raise ClusterError(str(error)) from error
        if not is_open_mpi(mpirun):
            raise ClusterError(f"{mpirun} is not Open MPI's, whose way to start remote ranks is needed")
        near = ",sm" if ranks_per_host > 1 else ""
        slots = ",".join(f"{name}:{ranks_per_host}" for name in self.names)
        return [
            mpirun,
            "--prtemca", "plm_ssh_agent", str(self.folder / "on-host"),
            "--prtemca", "prte_if_include", namespaces.SUBNET,
            "--mca", "btl", f"tcp,self{near}",
            "--mca", "btl_tcp_if_include", namespaces.SUBNET,
            *SHARING,
            "--host", slots, "-n", str(ranks_per_host * len(self.names)),
        ]  # fmt: skip

    def mpirun(
        self,
        command: Sequence[str],
        *,
        ranks_per_host: int = 1,
        threads: int = 1,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float | None = None,
        capture: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on all hosts; see `run`. `threads` is OMP_NUM_THREADS of each rank."""
        env = {"OMP_NUM_THREADS": str(threads), **(env or {})}
        whole = [*self.mpirun_arguments(ranks_per_host), *command]
        return self.run(whole, env=env, cwd=cwd, timeout_s=timeout_s, capture=capture)

    def run(
        self,
        command: Sequence[str],
        *,
        host: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float | None = None,
        capture: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on one host.

        Parameters
        ----------
        env
            Variables to set besides the present ones; ranks that mpirun starts get them too.
        capture
            Return what it prints; otherwise it is printed.

        Raises
        ------
        subprocess.TimeoutExpired
            If it does not end in time; nothing runs on the hosts then.
        """
        process = self.start(command, host=host, env=env, cwd=cwd, capture=capture)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):  # the terminal has told the command too
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_S)
            for name in self.names:
                namespaces.end_processes(name)
            process.communicate()
            raise
        return subprocess.CompletedProcess([*command], process.returncode, out, err)

    def start(
        self,
        command: Sequence[str],
        *,
        host: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        capture: bool = True,
    ) -> subprocess.Popen[str]:
        """Start a command on one host, and do not wait for it; the cluster's end ends it."""
        pipe = subprocess.PIPE if capture else None
        return subprocess.Popen(
            namespaces.inside(self.names[host], command),
            stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd=cwd,
            # MPI's session folders come to lie where they vanish with the cluster.
            env={**os.environ, **AS_ROOT, "TMPDIR": str(self.folder), **(env or {})},
        )  # fmt: skip

    def measure(self, *, seconds: float = 1.0) -> LinkFigures:
        """Return what TCP streams between the first two hosts get, of `seconds` each."""
        end = [sys.executable, "-m", "bench.link"]
        about = [self.addresses[1], str(seconds)]
        listener = self.start([*end, "listen", *about], host=1, cwd=_REPOSITORY)
        limit_s = 60 + 4 * seconds
        try:
            done = self.run([*end, "connect", *about], cwd=_REPOSITORY, timeout_s=limit_s)
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"a TCP stream between two hosts did not end within {limit_s:g} s") from error
        if done.returncode:
            raise ClusterError(f"a TCP stream between two hosts failed: {done.stderr.strip()}")
        listener.communicate()
        return LinkFigures(**json.loads(done.stdout))


@contextmanager
def cluster(*, hosts: int = 2, rate_bits: float | None = None, latency_s: float = 0.0) -> Iterator[Cluster]:
    """Make hosts, and remove them with all that runs on them, whatever happens.

    Parameters
    ----------
    rate_bits
        Bits per second of each host's link, in each direction; None: unshaped.
    latency_s
        One way, between any two hosts.

    Raises
    ------
    ClusterError
        If hosts cannot be made here.
    ValueError
        If an argument is out of its range.
    """
    link = Link(rate_bits, latency_s)
    if not 1 <= hosts <= namespaces.MOST_HOSTS:
        raise ValueError(f"hosts: got {hosts}; must be 1 to {namespaces.MOST_HOSTS}")
    namespaces.check_tools()
    names = namespaces.new_names(hosts)
    with tempfile.TemporaryDirectory(
        prefix=names[0].removesuffix("switch"), ignore_cleanup_errors=True
    ) as folder:
        shell = Path(folder) / "on-host"  # to a program called ssh, options would come first
        shell.write_text(namespaces.remote_shell(names[1:]))
        shell.chmod(0o700)
        delayed = link.latency_s > 0 and not namespaces.has_netem()
        try:
            namespaces.make(names, link, bridge=not delayed)
            with _delay_line(names, link) if delayed else nullcontext():
                yield Cluster(names[1:], link, Path(folder))
        finally:
            namespaces.destroy(names)


def _delay_line(names: Sequence[str], link: Link) -> AbstractContextManager[object]:
    return delay_line.running(names[0], namespaces.ports(len(names) - 1), latency_s=link.latency_s)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.hosts",
        usage="python -m bench.hosts [options] [-- COMMAND...]",
        description="Run a command on several hosts that are network namespaces of this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="default: measure a TCP stream")
    parser.add_argument("--hosts", type=int, default=2, metavar="N", help="default 2")
    parser.add_argument("--rate", default="none", metavar="R", help="of each link: 1gbit; default unshaped")
    parser.add_argument("--latency", default="0ms", metavar="T", help="one way: 0.1ms; default none")
    parser.add_argument("--ranks-per-host", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--clean", action="store_true", help="remove hosts whose command was killed")
    parser.add_argument("--json", action="store_true", help="print what a TCP stream gets as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _clean() if options.clean else _run(options)
    except (ClusterError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; all hosts are removed", file=sys.stderr)
        return 130


def leave_on_signals() -> None:
    """Make SIGTERM and SIGHUP raise SystemExit, so that a cluster is removed on the way out."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _clean() -> int:
    namespaces.check_tools()
    found = namespaces.remove_leftovers(Path(tempfile.gettempdir()))
    print(f"removed: {' '.join(found)}" if found else "nothing to remove")
    return 0


def _run(options: argparse.Namespace) -> int:
    rate_bits, latency_s = parse_rate(options.rate), parse_latency(options.latency)
    if options.ranks_per_host < 1:
        raise ValueError(f"ranks_per_host: got {options.ranks_per_host}; must be at least 1")
    with cluster(hosts=options.hosts, rate_bits=rate_bits, latency_s=latency_s) as hosts:
        if not options.command:
            _show(hosts, as_json=options.json)
            return 0
        mpirun = hosts.mpirun_arguments(options.ranks_per_host)
        if rate_bits is not None and len(hosts.names) > 1:
            print(f"{link_line(hosts.link, hosts.measure(seconds=_CHECK_S))}", file=sys.stderr, flush=True)
        command = expand(options.command, mpirun)
        return hosts.run(command, capture=False).returncode


def expand(command: Sequence[str], mpirun: Sequence[str]) -> list[str]:
    """Put mpirun and its arguments where the placeholder stands, or in front where it does not."""
    if not any(PLACEHOLDER in word for word in command):
        return [*mpirun, *command]
    as_text = " ".join(mpirun)
    return [
        part
        for word in command
        for part in (mpirun if word == PLACEHOLDER else [word.replace(PLACEHOLDER, as_text)])
    ]


def _show(hosts: Cluster, *, as_json: bool) -> None:
    if len(hosts.names) < 2:
        raise ValueError("hosts: a TCP stream needs 2")
    figures = hosts.measure()
    if as_json:
        print(json.dumps({"hosts": len(hosts.names), **asdict(hosts.link), **asdict(figures)}))
        return
    print(link_line(hosts.link, figures))


def link_line(link: Link, figures: LinkFigures) -> str:
    """Say what a link gives, and how long messages take on it; behind them what they would at its rate."""
    messages = []
    for size, seconds in zip(MESSAGES, figures.message_s, strict=True):
        messages.append(f"{size // 1000} kB {1e3 * seconds:.2f}")
        if link.rate_bits is not None:
            messages[-1] += f" ({8e3 * size / link.rate_bits + 1e3 * link.latency_s:.2f})"
    return (
        f"{link}: TCP gets {figures.one_way_bits_per_s / 1e9:.3f} Gbit/s one way, "
        f"{figures.both_ways_bits_per_s / 1e9:.3f} in each direction at once; "
        f"round trip {1e3 * figures.round_trip_s:.3f} ms; "
        f"messages, in ms{'' if link.rate_bits is None else ' (at this rate)'}: {', '.join(messages)}"
    )


if __name__ == "__main__":
    leave_on_signals()
    sys.exit(main())
