"""The command ``python -m engine.cache``: show the compiled kernels on disk, or remove them."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from comm import terminal
from engine.config.command_line import Parser
from engine.config.wording import counted
from engine.host.stop_signals import listening

if TYPE_CHECKING:
    from layers.kernels.cache_folder import Version

_EPILOG = """\
Kernels are compiled when they are first needed on a machine and kept in a folder: in NUMBA_CACHE_DIR if that
variable is set, else in XDG_CACHE_HOME, else in ~/.cache; without a home folder in a temporary one. Another
release of the engine or of numba, or another kind of CPU, has a version of its own; versions that nobody
has used for 60 days, and those beyond 16, are removed when a new one is made. All may be removed at any time.
"""
_DAY_S = 86_400.0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.cache",
        description="Show where compiled kernels are kept, and how much room they take.",
        epilog=_EPILOG,
    )
    parser.add_argument("--clear", action="store_true", help="remove them all, of every version")
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    from layers.kernels.cache_folder import base_folder, remove, versions  # noqa: PLC0415 -- after --help

    base = base_folder()
    if base is None:
        terminal.show("kernel cache: none, as no folder can be written; set NUMBA_CACHE_DIR")
        return 0
    terminal.show(f"kernel cache: {base}")
    found = versions(base)
    if options.clear:
        for version in found:
            remove(version.folder)
        left = versions(base)
        terminal.show(
            f"removed {counted(len(found) - len(left), 'version')}, {_size(_total(found) - _total(left))}"
        )
        if left:
            terminal.say(f"error: {counted(len(left), 'version')} cannot be removed")
        return 2 if left else 0
    for line in _table(found):
        terminal.show(line)
    return 0


def _table(found: "Sequence[Version]") -> list[str]:
    from layers.kernels.jit import cache_folder  # noqa: PLC0415 -- imports numba

    rows = []
    for version in found:
        about = ", ".join(f"{name} {value}" for name, value in version.about.items()) or "unknown"
        used = "now" if version.folder == cache_folder() else _age(time.time() - version.used)
        rows.append(f"  {version.folder.name}  {_size(version.bytes):>9}  {used:>13}  {about}")
    if not rows:
        return ["  empty"]
    heading = f"  {'version':<16}  {'size':>9}  {'used':>13}  compiled by and for"
    return [heading, *rows, f"{counted(len(found), 'version')}, {_size(_total(found))}"]


def _total(found: "Sequence[Version]") -> int:
    return sum(version.bytes for version in found)


def _age(seconds: float) -> str:
    days = int(seconds / _DAY_S)
    return f"{counted(days, 'day')} ago" if days > 0 else "today"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
