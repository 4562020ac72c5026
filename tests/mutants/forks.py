"""Forks: run tests in a process of their own, which has everything imported that its parent has."""

import contextlib
import io
import os
import pickle
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def in_fork(work: Callable[[], T]) -> T:
    """Return what `work` returns in a child process: this one imports nothing and starts no thread."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with open(writing, "wb") as pipe:  # noqa: PTH123  a descriptor
                pickle.dump(work(), pipe)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123
        content = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the child process failed, see above")
    result: T = pickle.loads(content)
    return result


def run_tests(files: Iterable[str], plugins: Sequence[Any], *options: str) -> int:
    """Run files of tests in this process and return pytest's exit code; what it prints is dropped."""
    folder = tempfile.mkdtemp(prefix="mutants-")
    quiet = ("-q", "--no-header", "--no-summary", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return int(pytest.main([*quiet, f"--basetemp={folder}", *options, *files], [*plugins]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget(packages: Iterable[str], root: Path) -> None:
    """Remove packages, and what tests have written and imported, so that the next import reads them again."""
    wanted, kept = set(packages), (sys.prefix, sys.base_prefix, str(root))
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None) or sys.prefix
        is_ours = name.split(".")[0] in wanted and name != "tests" and not name.startswith("tests.mutants")
        if is_ours or not file.startswith(kept):
            del sys.modules[name]
