"""What comes along with the report: files that a wheel must hold, and whose they are."""

import re
import tomllib
from pathlib import Path

from engine.report import document, list_page, page, run_page

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "engine/report"


def test_a_wheel_holds_all_that_a_page_is_made_of():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "engine"
    ]
    held = {path for pattern in listed for path in (ROOT / "engine").glob(pattern)}
    beside = {path for path in FOLDER.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert beside | {FOLDER / document.PLOT_LICENCE} <= held
    scripts = (*page.SCRIPTS, *run_page.SCRIPTS, *list_page.SCRIPTS)
    assert {FOLDER / name for name in (*document.STYLES, *scripts)} <= held


def test_the_version_of_the_library_is_said_where_it_is_used():
    (version,) = re.findall(r"uPlot \(v([\d.]+)\)", (FOLDER / "vendor/uPlot.iife.min.js").read_text()[:200])
    assert (FOLDER / "vendor/README.md").read_text().startswith(f"uPlot {version}, ")
    assert f"uPlot {version}." in document.footer().text
    assert "The MIT License" in document.footer().text


def test_our_scripts_write_no_markup_and_fetch_nothing_but_on_served_pages():
    ways = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "import(")
    served = {f"{FOLDER}/{name}" for name in (*run_page.SCRIPTS, *list_page.SCRIPTS)}
    for script in (FOLDER / "page").glob("*.js"):
        text = script.read_text()
        may_fetch = str(script) in served - {f"{FOLDER}/{name}" for name in page.SCRIPTS}
        for way in (*ways, *(() if may_fetch else ("fetch(", "DOMParser"))):
            assert way not in text, (script.name, way)
