"""Coverage: which lines of the targets each test reaches, and how long it takes."""

import json
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.mutants.forks import in_fork, run_tests
from tests.mutants.project import Project

_WORTH_A_FORK = 40  # files of tests: an interrupted first run starts again from the last ones


@dataclass
class Reached:
    """What one test reaches: lines by file."""

    seconds: float = 0.0
    lines: dict[str, list[int]] = field(default_factory=dict)


Coverage = dict[str, Reached]
"""By the test's id."""


def measure(project: Project, cache: Path) -> Coverage:
    """Return what each test reaches. Tests and targets that did not change are not run again."""
    sources, known = project.sources_digest(), {}
    if cache.exists():
        stored = json.loads(cache.read_text("utf-8"))
        if stored["sources"] == sources:
            known = stored["files"]
    files = {file: project.digest(file) for file in project.test_files()}
    known = {file: entry for file, entry in known.items() if files.get(file) == entry["digest"]}
    missing = [file for file in files if file not in known]
    while missing:
        now, missing = missing[:_WORTH_A_FORK], missing[_WORTH_A_FORK:]
        print(f"coverage: tracing {len(now)} files of tests, {len(missing)} more to come", flush=True)
        traced = in_fork(lambda now=now: _trace(project, now))
        for file in now:
            tests = {test: reached for test, reached in traced.items() if test.split("::")[0] == file}
            known[file] = {"digest": files[file], "tests": tests}
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps({"sources": sources, "files": known}), "utf-8")
    return {test: Reached(**reached) for entry in known.values() for test, reached in entry["tests"].items()}


def _trace(project: Project, files: list[str]) -> dict[str, Any]:
    tracer = _Tracer(project)
    code = run_tests(files, [tracer])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise RuntimeError(f"pytest ended with {code} without any mutant; run it on {' '.join(files)}")
    return tracer.tests


class _Tracer:
    """A plugin of pytest that notes the lines of the targets that run during each test, on any thread."""

    def __init__(self, project: Project):
        self._names = {str(project.root / file): file for file in project.targets}
        self._reached: set[tuple[str, int]] = set()
        self.tests: dict[str, Any] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._reached = set()
        start = time.perf_counter()
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            lines: dict[str, list[int]] = {}
            for path, line in sorted(self._reached):
                lines.setdefault(self._names[path], []).append(line)
            self.tests[item.nodeid] = {"seconds": time.perf_counter() - start, "lines": lines}

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in self._names:
            return None
        self._reached.add((frame.f_code.co_filename, frame.f_lineno))
        return self._note

    def _note(self, frame: FrameType, event: str, arg: Any) -> Any:
        self._reached.add((frame.f_code.co_filename, frame.f_lineno))
        return self._note
