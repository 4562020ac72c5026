"""The name of this machine's processor."""

import platform
from contextlib import suppress
from pathlib import Path

LIST = Path("/proc/cpuinfo")


def processor(listed: Path = LIST) -> str:
    """Return what the system calls the processor, or else the kind of machine."""
    with suppress(OSError):
        for line in listed.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
