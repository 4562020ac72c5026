"""A page of the documentation as a script: the files that it shows, and the commands with their output.

Needs nothing of this project but pytest, so that it also runs where only a wheel is installed.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(python|toml|console)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"# (\S+\.(?:py|toml))\n")


@dataclass(frozen=True)
class File:
    """A file that the reader writes; its name stands in its first line."""

    name: str
    content: str


@dataclass(frozen=True)
class Command:
    """A command, and what it prints to stdout, with ``...`` for anything."""

    line: str
    output: str

    def pattern(self) -> str:
        """Return a regular expression of the output."""
        return ".*".join(map(re.escape, self.output.split("...")))


def steps(page: Path) -> list[File | Command]:
    """Return what a reader of the page does, in order."""
    found: list[File | Command] = []
    for kind, content in _BLOCK.findall(page.read_text("utf-8")):
        if kind == "console":
            for part in re.split(r"^\$ ", content, flags=re.M)[1:]:
                line, _, output = part.partition("\n")
                found.append(Command(line, output))
        else:
            named = _FILE.match(content)
            assert named, f"a block of {page.name} does not name its file"
            found.append(File(named[1], content))
    return found


def run(command: Command, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this Python's programs first; more ranks than cores are allowed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        command.line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
