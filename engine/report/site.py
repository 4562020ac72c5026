"""What is served under which address: the page of a run, or a list of runs with a page for each."""

import json
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import urlencode

from engine.report import list_page, run_page
from engine.report.followed_run import FollowedRun, is_run, names_in
from engine.report.runs_in_folder import RunsInFolder

TOKEN = "token"
"""The name of the secret in an address."""

_MOST_FOLLOWED = 16  # runs whose lines are held, those that were asked for last
_OF_A_RUN = re.compile(r"/run/([^/]+)/(data\.json)?")


@dataclass(frozen=True)
class Answer:
    """Something that was found."""

    kind: str
    """Of its content."""
    content: bytes


class Site:
    """The pages of a run, or of all runs in a folder.

    An address names a run by a key that a look into the folder has made; no path is made of an address.
    """

    def __init__(self, name: str, root: Path):
        self._name, self._root = name, root
        self._runs = RunsInFolder(root)
        self._followed = OrderedDict[str, FollowedRun]()
        self._lock = Lock()
        self._alone: FollowedRun | None = None

    def answer(self, path: str, query: Mapping[str, str]) -> Answer | None:
        """Return what is at a path, without its query; None where nothing is.

        Parameters
        ----------
        query
            "at" is the position that a page has been told; the token is carried on to the pages of runs.
        """
        if path in ("/", "/data.json"):
            run = self._run_of_root()
            if run is None:
                return self._list(query, is_page=path == "/")
            return _of_run(run, query, None, is_page=path == "/")
        found = _OF_A_RUN.fullmatch(path)
        run = None if found is None else self._listed(found[1])
        if found is None or run is None:
            return None
        return _of_run(run, query, f"../../{_secret(query)}", is_page=found[2] is None)

    def _run_of_root(self) -> FollowedRun | None:
        """Return the run whose folder was named, also where it has just begun, or is gone by now."""
        with self._lock:
            if self._alone is None and is_run(names_in(self._root)):
                self._alone = FollowedRun(self._name, self._root)
            return self._alone

    def _list(self, query: Mapping[str, str], *, is_page: bool) -> Answer:
        secret, now = _secret(query), time.time()

        def address(key: str) -> str:
            return f"run/{key}/{secret}"

        with self._runs.lock:
            self._runs.refresh()
            if is_page:
                return _page(list_page.list_page(self._runs, self._name, address, now))
            return _json(list_page.news(self._runs, query.get("at", ""), address, now))

    def _listed(self, key: str) -> FollowedRun | None:
        with self._lock:
            run = self._followed.get(key)
        if run is None:
            with self._runs.lock:
                self._runs.refresh()
                listed = self._runs.runs.get(key)
            if listed is None:
                return None
            run = FollowedRun(listed.name, listed.run.folder)
        with self._lock:
            run = self._followed.setdefault(key, run)
            self._followed.move_to_end(key)
            while len(self._followed) > _MOST_FOLLOWED:
                self._followed.popitem(last=False)
        return run


def _of_run(run: FollowedRun, query: Mapping[str, str], up: str | None, *, is_page: bool) -> Answer:
    with run.lock:
        run.refresh()
        if is_page:
            return _page(run_page.run_page(run, time.time(), up=up))
        return _json(run_page.news(run, query.get("at", ""), time.time()))


def _secret(query: Mapping[str, str]) -> str:
    return f"?{urlencode({TOKEN: query[TOKEN]})}" if TOKEN in query else ""


def _page(text: str) -> Answer:
    return Answer("text/html; charset=utf-8", f"<!DOCTYPE html>\n{text}\n".encode())


def _json(found: object) -> Answer:
    return Answer("application/json", json.dumps(found, allow_nan=False, separators=(",", ":")).encode())
