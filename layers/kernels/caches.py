"""The data caches of this host, and what kernels keep in them. No choice made from here changes a bit."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FLOAT = 4
L1_SHARE = 7 / 12  # of the cache for dy: 28 of 48 KB measured best, the rest holds rows of x and partial sums


@dataclass(frozen=True)
class Caches:
    """Sizes of one core's data caches in bytes; of a shared cache, the core's part."""

    l1: int
    l2: int
    l3: int


@lru_cache(maxsize=1)
def caches() -> Caches:
    """Read the cache sizes of the first core; what the system hides is assumed as on a small server core."""
    found = {1: 32 * 1024, 2: 512 * 1024, 3: 2048 * 1024}
    for name, level in (("LEVEL1_DCACHE", 1), ("LEVEL2_CACHE", 2), ("LEVEL3_CACHE", 3)):
        found[level] = _sysconf(f"SC_{name}_SIZE") or found[level]
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level = (index / "type").read_text().strip(), int((index / "level").read_text())
            size = _bytes((index / "size").read_text().strip())
            sharers = _count((index / "shared_cpu_list").read_text().strip())
        except (OSError, ValueError):  # a virtual machine may hide any of them
            continue
        if kind in ("Data", "Unified") and level in found and size > 0:
            found[level] = size // max(1, sharers)
    return Caches(found[1], found[2], found[3])


def _sysconf(name: str) -> int:
    return max(0, os.sysconf(name)) if name in os.sysconf_names else 0


def _bytes(text: str) -> int:
    """Read a size such as ``48K`` or ``32M``."""
    units = {"K": 1024, "M": 1024**2, "G": 1024**3}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def _count(cores: str) -> int:
    """Count the cores of a list such as ``0-3,8``."""
    ends = [part.partition("-")[::2] for part in cores.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, last in ends)


def band_rows(columns: int, width: int, cache_bytes: int = 0) -> int:
    """Return the rows of dy that backward_weights keeps in L1 while it goes over the taps; at least 1.

    Parameters
    ----------
    columns : int
        Of a row of dy.
    width : int
        Output channels of a tile.
    cache_bytes : int
        0: L1_SHARE of this host's first-level cache.
    """
    return max(1, (cache_bytes or int(L1_SHARE * caches().l1)) // (FLOAT * width * columns))
