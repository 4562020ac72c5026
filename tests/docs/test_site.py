"""The site builds without a warning, needs no network, and has the whole Python interface."""

import json
import re
import subprocess
import sys

import lockstep
import pytest

from engine.lockstep_command import COMMANDS
from tests.docs.shell import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the site."""
    for name in ("mkdocs", "material", "mkdocstrings_handlers"):
        pytest.importorskip(name, reason=f"{name} is not installed: it comes with the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site):
    fetched = re.compile(r'<(?:script|img|iframe)[^>]* src="https?:|<link[^>]* href="https?:|url\(https?:')
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert not [page for page in pages if fetched.search(page.read_text("utf-8"))]


def test_the_search_knows_pages_commands_and_the_interface(site):
    found = {each["location"] for each in json.loads((site / "search/search_index.json").read_text())["docs"]}
    assert {"index.html", "comparison.html", "ARCHITECTURE.html#the-fixed-tree"} <= found
    assert {f"commands.html#lockstep-{name}" for name in COMMANDS} <= found
    assert "reference/training.html#lockstep.train" in found


def test_every_public_name_is_on_one_page_of_the_reference():
    pages = sorted((ROOT / "docs/reference").glob("*.md"))
    text = "".join(page.read_text("utf-8") for page in pages)
    named = re.findall(r"^::: lockstep\.(\w+)$", text, re.M)
    assert sorted(named) == sorted(lockstep.__all__)
