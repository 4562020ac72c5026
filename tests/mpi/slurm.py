"""A Slurm of this test's own: munged, slurmctld and two slurmd as root, on free ports of this machine."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mpi.launch import REPOSITORY

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")
SBIN = "/usr/sbin"
STARTS_S = 60.0

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
JobRequeue=1
KillWait=10
MpiDefault=none
ReturnToService=2
SchedulerParameters=requeue_delay=1,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
SlurmdTimeout=300
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class MissingError(RuntimeError):
    """There is no Slurm here, or it does not start."""


@dataclass(frozen=True)
class Slurm:
    """A Slurm that is up."""

    folder: Path
    daemons: Mapping[str, subprocess.Popen[bytes]]
    """The processes by name; those of nodes by the node's."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        return subprocess.run(
            command, env={**self.environment, **(env or {})}, cwd=REPOSITORY, capture_output=True, text=True,
            check=False, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def lose(self, node: str) -> None:
        """Let a node vanish with all that runs on it."""
        self.daemons[node].kill()
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=gone")


@contextmanager
def slurm(folder: Path, nodes: Sequence[str] = ("n1", "n2"), cpus: int = 4) -> Iterator[Slurm]:
    """Start a Slurm whose nodes are all this machine; end it afterwards.

    Raises
    ------
    MissingError
        It cannot be started here.
    """
    path = f"{os.environ['PATH']}{os.pathsep}{SBIN}"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        raise MissingError(f"no {', '.join(missing)} here: Debian's packages slurm-wlm and munge bring them")
    if os.geteuid() != 0:
        raise MissingError("a Slurm of this test's own must be started by root")
    made = Slurm(folder, {})
    _write_configuration(folder, nodes, cpus)
    with ExitStack() as stack:
        daemons = dict[str, subprocess.Popen[bytes]]()

        def start(name: str, *command: str) -> None:
            daemons[name] = subprocess.Popen(
                [shutil.which(command[0], path=path) or "", *command[1:]],
                env=made.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            stack.callback(_end, daemons[name])

        start("munged", "munged", "--foreground", "--force", *_munge_files(folder))
        start("slurmctld", "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        for node in nodes:
            start(node, "slurmd", "-D", "-f", str(folder / "slurm.conf"), "-N", node)
        made = Slurm(folder, daemons)
        _wait_until_idle(made, len(nodes))
        stack.callback(made.run, "scancel", "--user=root", "--signal=KILL", "--full")
        yield made


def _write_configuration(folder: Path, nodes: Sequence[str], cpus: int) -> None:
    for name in ("state", *(f"spool-{node}" for node in nodes)):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    lines = [
        f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={_free_port()} "
        f"CPUs={cpus} RealMemory=1000"
        for node in nodes
    ]
    text = _CONFIGURATION.format(
        host=socket.gethostname(), controller=_free_port(), folder=folder, nodes="\n".join(lines)
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")


def _munge_files(folder: Path) -> list[str]:
    return [
        f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed",
    ]  # fmt: skip


def _wait_until_idle(made: Slurm, nodes: int) -> None:
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until:
        states = made.run("sinfo", "--noheader", "--Node", "--format=%T").stdout.split()
        if states == ["idle"] * nodes:
            return
        time.sleep(0.2)
    logs = [log.read_text()[-500:] for log in made.folder.glob("slurm*.log")]
    raise MissingError(f"Slurm's nodes do not come up here: {' '.join(' '.join(logs).split())}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
