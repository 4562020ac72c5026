"""What a run ran on: processors, and versions of what decides its speed and its bits."""

import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from comm import mpi
from comm.communicator import Communicator
from engine.host.affinity import Cores, machine_name
from engine.host.processor import processor
from layers.kernels.jit import fingerprint
from layers.kernels.target import TARGET


@dataclass(frozen=True)
class Surroundings:
    """What is known of a run before it begins, and kept with its results."""

    environment: dict[str, Any] = field(default_factory=dict)
    """See `environment`."""
    warnings: Sequence[str] = ()
    """What the user has been warned of."""
    losses: Sequence[dict[str, Any]] = ()
    """Ranks that have died meanwhile: see `engine.run.survival`."""


def environment(world: Communicator, cores: Cores) -> dict[str, Any]:
    """Return the facts about all ranks' machines (collective, the same on all ranks)."""
    own = (
        machine_name(), socket.gethostname(), processor(), cores.available, mpi.library(), TARGET.simd,
    )  # fmt: skip
    everyone = world.gather_objects(own)
    machines, hosts, processors, available, libraries, simds = zip(*everyone, strict=True)
    facts = fingerprint()  # equal on all ranks
    return {
        "machines": len(set(machines)),
        "hosts": len(set(hosts)),
        "processors": list(dict.fromkeys(processors)),
        "cores": max(available),
        "simd": ", ".join(dict.fromkeys(simds)),
        "system": f"{platform.system()} {platform.machine()}",
        "lockstep": _version("lockstep-sgd"),
        "python": platform.python_version(),
        "numpy": facts["numpy"],
        "numba": facts["numba"],
        "llvmlite": facts["llvmlite"],
        "mpi4py": _version("mpi4py"),
        "mpi": libraries[0],
        "kernel_sources": facts["kernel sources"],
    }


def _version(name: str) -> str | None:
    """Return the version of an installed package; None for a checkout that is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
