"""Python, and the packages that Lockstep needs."""

import platform
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module, metadata

from engine.config.errors import UserError
from engine.config.numba_settings import check_numba_settings
from engine.doctor.finding import NOTE, OK, PROBLEM, Finding

PACKAGE = "lockstep-sgd"
_SHOWN = ("numpy", "numba", "llvmlite", "mpi4py")  # decide bits and speed
_IMPORTED = (
    "numpy",
    "llvmlite.binding",
    "numba",
)  # each needs those before it; mpi4py's is a check of its own
_NAME = re.compile(r"[\w.-]+")
_LEAST = re.compile(r">=\s*([\w.]+)")


def python() -> Iterator[Finding]:
    """Say which Python runs, and where it lies."""
    found = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    if sys.prefix == sys.base_prefix:
        yield Finding("Python", OK, f"{found}, in no virtual environment")
    else:
        yield Finding("Python", OK, found)


def packages() -> Iterator[Finding]:
    """Say which versions are installed, which are too old, and what cannot be imported."""
    versions = [f"{name} {version_of(name) or 'missing'}" for name in _SHOWN]
    wrong = wrong_of(requirements(""))
    if wrong:
        yield Finding(
            "packages", PROBLEM, f"{', '.join(wrong)}; {', '.join(versions)}", f"pip install {PACKAGE}"
        )
    elif version_of(PACKAGE) is None:
        yield Finding(
            "packages",
            NOTE,
            f"{', '.join(versions)}; {PACKAGE} itself is not installed, so that nobody knows what it needs",
            f"pip install {PACKAGE}, or pip install --editable . in a checkout",
        )
    else:
        yield Finding("packages", OK, ", ".join(versions))
    yield from _settings()
    yield from _imports()


def version_of(name: str) -> str | None:
    """Return the version of an installed package; None without it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements(extra: str) -> list[str]:
    """Return what the package, or one of its extras, needs, such as "numpy>=2.0"; nothing if unknown."""
    try:
        listed = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []
    halves = [each.partition(";") for each in listed]
    return [need.strip() for need, _, marker in halves if _extra_in(marker) == extra]


def wrong_of(needed: Iterable[str]) -> list[str]:
    """Return of some requirements those that are not met, with what is there."""
    wrong = []
    for need in needed:
        name = _NAME.match(need)
        version = version_of(name[0]) if name else None
        least = _LEAST.search(need)
        if version is None:
            wrong.append(f"{name[0] if name else need} is missing")
        elif least and _numbers(version) < _numbers(least[1]):
            wrong.append(f"{need}: {version} is installed")
    return wrong


def _settings() -> Iterator[Finding]:
    try:
        check_numba_settings()
    except UserError as error:
        yield Finding("numba's settings", PROBLEM, str(error), "unset the variable")


def _imports() -> Iterator[Finding]:
    for name in _IMPORTED:
        try:
            import_module(name)
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            yield Finding(
                name,
                PROBLEM,
                f"cannot be imported: {said}",
                f"pip install --force-reinstall {name.partition('.')[0]}",
            )
            return


def _extra_in(marker: str) -> str:
    found = re.search(r"extra\s*==\s*['\"]([\w.-]+)", marker)
    return found[1] if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: enough to compare with a release."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))
