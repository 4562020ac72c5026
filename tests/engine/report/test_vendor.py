"""What comes along with the report: files that a wheel must hold, and whose they are."""

import re
import tomllib
from pathlib import Path

from engine.report import document, page

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "engine/report"


def test_a_wheel_holds_all_that_a_page_is_made_of():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "engine"
    ]
    held = {path for pattern in listed for path in (ROOT / "engine").glob(pattern)}
    beside = {path for path in FOLDER.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert beside | {FOLDER / document.PLOT_LICENCE} <= held
    assert {FOLDER / name for name in (*document.STYLES, *page.SCRIPTS)} <= held


def test_the_version_of_the_library_is_said_where_it_is_used():
    (version,) = re.findall(r"uPlot \(v([\d.]+)\)", (FOLDER / "vendor/uPlot.iife.min.js").read_text()[:200])
    assert (FOLDER / "vendor/README.md").read_text().startswith(f"uPlot {version}, ")
    assert f"uPlot {version}." in document.footer().text
    assert "The MIT License" in document.footer().text


def test_our_scripts_fetch_nothing_and_write_no_markup():
    for script in (FOLDER / "page").glob("*.js"):
        text = script.read_text()
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "fetch(",
            "import(",
        ):
            assert way not in text, (script.name, way)
