"""Command: make mutants, run their tests, and say which survive."""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.mutants.campaign import Campaign, Limits, Verdict
from tests.mutants.changes import Change
from tests.mutants.coverage import measure
from tests.mutants.known import PATH, Known, read_known, stale
from tests.mutants.project import TARGETS, TESTS, Project

GOAL = 92.0  # percent of the mutants that are not on the list
_TELL_EVERY_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if a mutant survives that is not on the list."""
    options = _parser().parse_args(arguments)
    project = Project(options.root.resolve(), tuple(options.targets), tuple(options.tests))
    os.chdir(project.root)
    sys.path.insert(0, str(project.root))
    everything, known = project.changes(), read_known(options.known)
    chosen = _choose(everything, options)
    if options.list:
        for change in chosen:
            print(_described(change), "(known)" if any(each.holds(change) for each in known) else "")
        print(f"{len(chosen)} mutants of {len(everything)}")
        return 0
    for each in stale(known, everything):
        print(f"{options.known.name}: no such change any more: {each.file}, {each.scope}: {each.line}")
    coverage = measure(project, options.work / "coverage.json")
    results = _Results(options.work / "results.jsonl", project)
    todo = [change for change in chosen if options.again or not results.is_known(change)]
    random.Random(options.seed).shuffle(todo)  # so that also an interrupted campaign has seen a fair sample
    limits = Limits(hang_s=options.hang, budget_s=options.budget)
    print(
        f"{len(chosen)} mutants, {len(chosen) - len(todo)} of them done before; running tests once",
        flush=True,
    )
    campaign = Campaign(project, coverage, todo, limits)
    for test in campaign.failing:
        print(f"left out, as it fails without any mutant: {test}")
    _run(campaign, todo, results, options.jobs)
    return _report(chosen, results, known)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--file", action="append", default=[], help="only files that contain this text")
    parser.add_argument("--match", default="", help="only changes whose description contains this text")
    parser.add_argument("--sample", type=int, help="so many, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--list", action="store_true", help="list the changes and end")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests for one mutant")
    parser.add_argument("--hang", type=float, default=6.0, help="seconds too long that a test may take")
    parser.add_argument("--again", action="store_true", help="run also those whose result is known")
    parser.add_argument(
        "--work", type=Path, default=Path("build/mutants"), help="folder of coverage and results"
    )
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="folder of the code")
    parser.add_argument("--targets", nargs="+", default=TARGETS, help="files to change")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files or folders of tests")
    parser.add_argument("--known", type=Path, default=PATH, help="list of those that may survive")
    return parser


def _choose(changes: list[Change], options: argparse.Namespace) -> list[Change]:
    if options.file:
        changes = [change for change in changes if any(text in change.file for text in options.file)]
    changes = [change for change in changes if options.match in _described(change)]
    if options.sample is not None and options.sample < len(changes):
        places = random.Random(options.seed).sample(range(len(changes)), options.sample)
        changes = [changes[place] for place in sorted(places)]
    return changes


def _described(change: Change) -> str:
    return f"{change.file}:{change.number} {change.scope}: {change.what}"


class _Results:
    """File of verdicts, one a line, so that an interrupted campaign goes on where it was."""

    def __init__(self, path: Path, project: Project):
        self._path, self._project = path, project
        self._tests = project.digest(*project.test_files())
        self.verdicts: dict[tuple[str, ...], Verdict] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            self._take(json.loads(line))

    def _take(self, entry: dict[str, Any]) -> None:
        """Believe an old verdict if it would be the same now; tests that were added may kill a survivor."""
        key, verdict = tuple(entry["key"]), Verdict(**entry["verdict"])
        self.verdicts.pop(key, None)
        file = self._project.root / key[0]
        same_code = file.exists() and entry["code"] == self._project.digest(key[0])
        if same_code and (verdict.outcome in {"killed", "hang"} or entry["tests"] == self._tests):
            self.verdicts[key] = verdict

    def is_known(self, change: Change) -> bool:
        return change.key in self.verdicts

    def add(self, change: Change, verdict: Verdict) -> None:
        self.verdicts[change.key] = verdict
        code = self._project.digest(change.file)
        entry = {"key": change.key, "verdict": asdict(verdict), "code": code, "tests": self._tests}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _run(campaign: Campaign, changes: list[Change], results: _Results, jobs: int) -> None:
    counts: Counter[str] = Counter()
    started = told = time.monotonic()
    for change, verdict in campaign.run(changes, jobs):
        results.add(change, verdict)
        counts[verdict.outcome] += 1
        now, done = time.monotonic(), counts.total()
        if verdict.outcome in {"survived", "uncovered"}:
            print(
                f"{verdict.outcome}: {_described(change)} ({verdict.tests} tests, {verdict.seconds} s)",
                flush=True,
            )
        if now - told > _TELL_EVERY_S:
            told, left = now, (now - started) / done * (len(changes) - done)
            print(f"{done}/{len(changes)}: {dict(counts)}; {left / 60:.0f} min left", flush=True)


def _report(changes: list[Change], results: _Results, known: list[Known]) -> int:
    counts: Counter[str] = Counter()
    listed, alive = Counter[str](), []
    for change in changes:
        verdict = results.verdicts[change.key]
        entry = next((each for each in known if each.holds(change)), None)
        if verdict.outcome in {"survived", "uncovered"} and entry is not None:
            listed[entry.kind] += 1
            continue
        counts[verdict.outcome] += 1
        if verdict.outcome in {"survived", "uncovered"}:
            alive.append(change)
    killed, unlisted = counts["killed"] + counts["hang"], counts.total()
    of_unlisted, of_all = 100 * killed / max(unlisted, 1), 100 * killed / max(len(changes), 1)
    print(f"\n{len(changes)} mutants: {counts['killed']} killed, {counts['hang']} hang and count as killed,")
    print(f"{listed.total()} on the list ({dict(listed)}), {len(alive)} survive or are reached by no test")
    print(f"killed: {of_unlisted:.1f} % of those not on the list, {of_all:.1f} % of all; goal {GOAL:.0f} %")
    for change in alive:
        print(f"  {_described(change)}")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
