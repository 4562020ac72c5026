"""A campaign: forks that each import one mutant and run the tests that may notice it."""

import contextlib
import gc
import importlib.abc
import importlib.util
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.mutants.changes import Change
from tests.mutants.coverage import Coverage
from tests.mutants.forks import forget, in_fork, run_tests
from tests.mutants.project import Project

_MEMORY_BYTES = 8 << 30  # of a mutant: one that never stops allocating must not take the machine along
_POLL_S = 0.01
_TRACING = 2.0  # so many times longer a test takes while its lines are noted


@dataclass(frozen=True)
class Limits:
    """When to give up on a mutant."""

    hang_s: float = 6.0
    """A test that takes this much longer than `hang_factor` times its usual time hangs."""
    hang_factor: float = 6.0
    budget_s: float = 60.0
    """Usual time of the tests that are run, in all; the likely and the quick ones go first."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    outcome: str
    """`killed`, `hang`, `survived`, or `uncovered` where no test reaches the line."""
    by: str = ""
    """The test that failed, or what else ended it."""
    tests: int = 0
    seconds: float = 0.0


class Campaign:
    """Runs mutants; made in a process without threads, which has imported none of the project's packages.

    Making it runs the tests twice without a mutant, first here, so that kernels get loaded, then in a fork
    and in the order of their times: tests that fail then, because they depend on others, are left out.
    """

    def __init__(self, project: Project, coverage: Coverage, changes: Sequence[Change], limits: Limits):
        self._project, self._coverage, self._limits = project, coverage, limits
        traced = {test: reached.seconds / _TRACING for test, reached in coverage.items()}
        needed = {test for change in changes for test in self._ordered(change, traced)}
        self.seconds: dict[str, float] = {}
        self.failing: list[str] = []
        if needed:
            self._run_without_mutant(needed)

    def run(self, changes: Iterable[Change], jobs: int) -> Iterator[tuple[Change, Verdict]]:
        """Yield each change with its verdict, as they come."""
        waiting, running = iter(changes), list[_Fork]()
        is_over = False
        while running or not is_over:
            while len(running) < jobs and not is_over:
                change = next(waiting, None)
                if change is None:
                    is_over = True
                    break
                tests = self._ordered(change, self.seconds)
                if tests:
                    running.append(self._start(change, tests))
                else:
                    yield change, Verdict("uncovered")
            for fork in running[:]:
                verdict = fork.poll()
                if verdict is not None:
                    running.remove(fork)
                    yield fork.change, verdict
            time.sleep(_POLL_S)

    def _tests_of(self, change: Change) -> list[str]:
        """Return the tests that reach a change; what runs at import, all that use the file may notice."""
        found = []
        for test, reached in self._coverage.items():
            lines = reached.lines.get(change.file, ())
            if lines and (change.at_import or not change.lines.isdisjoint(lines)):
                found.append(test)
        return found

    def _ordered(self, change: Change, seconds: Mapping[str, float]) -> list[str]:
        """Return the tests to run: those of the file's own test file first, then the quick ones."""
        mirror = f"test_{Path(change.file).name}"
        tests = [test for test in self._tests_of(change) if test in seconds]
        tests.sort(key=lambda test: (Path(test.split("::")[0]).name != mirror, seconds[test], test))
        total, kept = 0.0, []
        for test in tests:
            total += seconds[test]
            if kept and total > self._limits.budget_s:
                break
            kept.append(test)
        return kept

    def _run_without_mutant(self, tests: set[str]) -> None:
        cores, watch = os.sched_getaffinity(0), _Watch(sorted(tests))
        code = run_tests(_files_of(tests), [watch])
        if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            raise RuntimeError(f"pytest ended with {code} without any mutant; run it on {self._project.root}")
        os.sched_setaffinity(0, cores)  # tests of pinning leave the main thread where they like
        forget(self._project.packages, self._project.root)
        gc.collect()
        gc.freeze()
        passed = {test: s for test, s in watch.seconds.items() if test not in watch.failed}
        ordered = sorted(passed, key=lambda test: (passed[test], test))
        alone = in_fork(lambda: _failing(ordered))
        self.failing = [*watch.failed, *alone]
        self.seconds = {test: s for test, s in passed.items() if test not in alone}

    def _start(self, change: Change, tests: list[str]) -> "_Fork":
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        folder = Path(tempfile.gettempdir()) / f"mutant-{os.getpid()}-{time.monotonic_ns()}"
        child = os.fork()
        if child == 0:
            os.close(reading)
            _be_mutant(self._project, change, tests, writing, folder)
        os.close(writing)
        return _Fork(
            change, child, reading, [self.seconds[test] for test in tests], tests, self._limits, folder
        )


def _files_of(tests: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(test.split("::")[0] for test in tests))


def _failing(tests: list[str]) -> list[str]:
    _limit_memory()
    watch = _Watch(tests)
    run_tests(_files_of(tests), [watch])
    return watch.failed


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))


def _be_mutant(project: Project, change: Change, tests: list[str], pipe: int, folder: Path) -> None:
    """Run the tests on a mutant and end the process."""
    code = 99
    try:
        os.setsid()  # programs that tests start end with it
        _limit_memory()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        source = change.applied((project.root / change.file).read_text("utf-8"))
        sys.meta_path.insert(0, _Finder(change.file, project.root / change.file, source))
        options = ("--maxfail=1", f"--basetemp={folder}", "-p", "no:faulthandler")
        code = run_tests(_files_of(tests), [_Watch(tests, pipe)], *options)
    finally:
        os._exit(code)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from the mutant's source."""

    def __init__(self, file: str, path: Path, source: str):
        self._name = file.removesuffix(".py").replace("/", ".")
        self._path, self._code = path, compile(source, str(path), "exec")

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Watch:
    """A plugin of pytest: selects and orders tests, times them, tells a pipe which one runs or failed."""

    def __init__(self, tests: Sequence[str], pipe: int | None = None):
        self._places, self._pipe = {test: place for place, test in enumerate(tests)}, pipe
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._places]
        items[:] = sorted(chosen, key=lambda item: self._places[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._tell("s", nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)
            self._tell("f", report.nodeid)

    def _tell(self, what: str, nodeid: str) -> None:
        if self._pipe is not None:
            os.write(self._pipe, f"{what}{self._places[nodeid]}\n".encode())


@dataclass
class _Fork:
    """A mutant that runs."""

    change: Change
    process: int
    pipe: int
    usual: list[float]
    tests: list[str]
    limits: Limits
    folder: Path
    started: float = field(default_factory=time.monotonic)
    _since: float = field(default_factory=time.monotonic)
    _current: int = -1
    _failed: int = -1
    _begun: int = 0

    def poll(self) -> Verdict | None:
        """Return the verdict once there is one."""
        ended, status = os.waitpid(self.process, os.WNOHANG)
        self._read()
        usual = self.usual[self._current] if self._current >= 0 else 3.0  # importing and collecting
        is_late = time.monotonic() - self._since > self.limits.hang_s + self.limits.hang_factor * usual
        if not ended and not is_late:
            return None
        self._end(ended)
        at = self.tests[self._current] if self._current >= 0 else "import"
        if not ended:
            return self._verdict("hang", at)
        if os.WIFSIGNALED(status):
            return self._verdict("killed", f"signal {os.WTERMSIG(status)} in {at}")
        if os.WEXITSTATUS(status) == 0:
            return self._verdict("survived")
        return self._verdict("killed", self.tests[self._failed] if self._failed >= 0 else at)

    def _read(self) -> None:
        try:
            told = os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return
        for line in told.decode().splitlines():
            self._since = time.monotonic()
            if line[0] == "f":
                self._failed = int(line[1:])
            else:
                self._current, self._begun = int(line[1:]), self._begun + 1

    def _end(self, ended: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        if not ended:
            os.waitpid(self.process, 0)
        os.close(self.pipe)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _verdict(self, outcome: str, by: str = "") -> Verdict:
        return Verdict(outcome, by, self._begun, round(time.monotonic() - self.started, 2))
