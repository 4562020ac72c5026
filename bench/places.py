"""Where a benchmark runs: "2x1" is 2 ranks of 1 thread on this machine, "2x1@1gbit" 2 hosts on such links.

A latency may follow the rate: "4x1@10gbit+0.1ms".
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.hosts import cluster
from bench.launch import launcher
from bench.link import LinkFigures
from bench.namespaces import INTERFACE, Link, address
from engine.host.mpirun import AS_ROOT

REPOSITORY = Path(__file__).parent.parent
TIMEOUT_S = 1800.0


class RunError(RuntimeError):
    """A run failed; its last words."""


@dataclass(frozen=True)
class Place:
    """Ranks, threads of each, and the links between hosts of one rank each; None: one machine."""

    ranks: int
    threads: int
    link: Link | None
    name: str

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read "1x2", "2x1@1gbit", "4x1@10gbit+0.1ms"; ValueError says what is allowed."""
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?:@(.+))?", text)
        if match is None:
            raise ValueError(f"place: got {text!r}; must be RANKSxTHREADS or RANKSxTHREADS@RATE: 2x1@1gbit")
        link = Link.parse(match[3]) if match[3] else None
        return cls(int(match[1]), int(match[2]), link, text)

    @property
    def alone(self) -> "Place":
        """The same ranks without a network between them."""
        return Place(self.ranks, self.threads, None, f"{self.ranks}x{self.threads}")

    @property
    def master(self) -> str:
        """Address of rank 0."""
        return "127.0.0.1" if self.link is None else address(0)

    @property
    def interface(self) -> str:
        """Network interface that leads to the other ranks."""
        return "lo" if self.link is None else INTERFACE

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """Run a command on all ranks and return what it printed.

        Raises
        ------
        RunError
            If it fails, or does not end in time.
        ClusterError
            If hosts cannot be made.
        """
        try:
            done = self._run(command, {"OMP_NUM_THREADS": str(self.threads), **(environment or {})})
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{' '.join(command)} at {self.name}: no end within {TIMEOUT_S:g} s") from error
        except FileNotFoundError as error:  # no mpirun
            raise RunError(str(error)) from error
        if done.returncode:
            words = "\n".join(done.stderr.splitlines()[-15:])
            raise RunError(f"{' '.join(command)} at {self.name}: exit code {done.returncode}\n{words}")
        return done.stdout

    def _run(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        if self.link is not None:
            with cluster(
                hosts=self.ranks, rate_bits=self.link.rate_bits, latency_s=self.link.latency_s
            ) as hosts:
                return hosts.mpirun(
                    command, threads=self.threads, env=environment, cwd=REPOSITORY, timeout_s=TIMEOUT_S
                )
        if self.ranks > 1:
            command = [*launcher(), "-n", str(self.ranks), *command]
        process = subprocess.Popen(
            command, env={**os.environ, **AS_ROOT, **environment}, cwd=REPOSITORY,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            process.terminate()  # mpirun then ends the ranks, which a kill would leave behind
            process.communicate()
            raise
        return subprocess.CompletedProcess([*command], process.returncode, out, err)

    def measure(self) -> LinkFigures | None:
        """Return what a TCP stream gets between two hosts of this place; None on one machine."""
        if self.link is None:
            return None
        with cluster(hosts=2, rate_bits=self.link.rate_bits, latency_s=self.link.latency_s) as hosts:
            return hosts.measure()
