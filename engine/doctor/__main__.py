"""The command ``python -m engine.doctor``: whether this machine is ready to train, and what to mend."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from comm import terminal
from comm.launcher import launched_rank
from engine.config.command_line import Parser
from engine.config.wording import counted
from engine.doctor.examination import examine
from engine.doctor.finding import NOTE, PROBLEM, Finding
from engine.doctor.mpi_start import probe_mpi
from engine.doctor.python_checks import PACKAGE, version_of
from engine.host.stop_signals import listening

_EPILOG = """\
examples:
  python -m engine.doctor                       what is here, and what mends it where something is wrong
  python -m engine.doctor --json > doctor.json  the same for a bug report
  srun -N 1 -n 2 python -m engine.doctor        of a node of a cluster: it speaks once

Each line is ok, a note (training works, perhaps slower or with less) or a problem. Nothing is changed, but
two ranks are started for a moment as lockstep run does; under mpirun or srun the ranks that are there take
part. What is printed holds no list of variables, and the home folder as ~.

Exit codes: 0 no problem, 1 a problem, 2 a mistake in the command line.
"""
_WIDTH = 17


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        kernels=False,
        prog="python -m engine.doctor",
        description="Say whether this machine is ready to train, and what to mend.",
        epilog=_EPILOG,
    )
    parser.add_argument("--json", action="store_true", help="print one document, for a bug report")
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    if launched_rank() != 0:
        probe_mpi(())  # with rank 0, which reports it
        return 0
    found = []
    about = f"lockstep {version_of(PACKAGE) or '(a checkout)'} on {platform.system()} {platform.machine()}"
    if not options.json:
        terminal.show(about)
    for finding in examine():
        found.append(finding)
        if not options.json:
            terminal.show(without_home("\n".join(_lines(finding))))
    problems = sum(each.state == PROBLEM for each in found)
    notes = sum(each.state == NOTE for each in found)
    if options.json:
        document = {
            "lockstep": version_of(PACKAGE),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "problems": problems,
            "notes": notes,
            "checks": [each.to_json() for each in found],
        }
        terminal.show(without_home(json.dumps(document, indent=2)))
    else:
        terminal.show(_verdict(problems, notes))
    return 1 if problems else 0


def without_home(text: str) -> str:
    """Return a text with ~ in place of the home folder, which holds a name."""
    with suppress(RuntimeError):  # there is none
        home = str(Path.home())
        if len(home) > 1:
            return re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text)
    return text


def _lines(finding: Finding) -> list[str]:
    first = f"  {finding.state:<7}  {finding.check:<{_WIDTH}} {finding.found}"
    return [first, *([f"  {'':<7}  {'':<{_WIDTH}} -> {finding.mend}"] if finding.mend else ())]


def _verdict(problems: int, notes: int) -> str:
    beside = f", {counted(notes, 'note')}" if notes else ""
    return f"{counted(problems, 'problem')}{beside}" if problems else f"ready to train{beside}"


if __name__ == "__main__":
    sys.exit(main())
