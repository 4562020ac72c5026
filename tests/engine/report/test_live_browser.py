"""Live pages in a real browser: what a run writes appears without a reload."""

import json
import shutil

import pytest

from engine.report.figures import NOTHING
from tests.engine.report.browser import chromium
from tests.engine.report.test_followed_run import lines_of
from tests.engine.report.test_server import serving
from tests.engine.report.written import RESULTS, write_run

LOSS = "#chart-loss canvas"
NAMES = "[...document.querySelectorAll('table.runs tbody th')].map((at) => at.textContent).join()"
SAID = "return document.querySelector('dd[data-live={}]').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def told(browser, name):
    return browser.ask(SAID.format(name))


def append(folder, lines):
    with (folder / "metrics.jsonl").open("ab") as file:
        file.writelines(lines)


def test_a_run_begins_grows_and_ends_on_one_page(browser, tmp_path):
    whole, folder = write_run(tmp_path / "whole"), tmp_path / "run"
    lines = lines_of(whole)
    folder.mkdir()
    (folder / ".lockstep.lock").touch()
    with serving(folder) as server:
        browser.visit(server.address)
        browser.ask("window.first = true")
        assert told(browser, "step") == NOTHING
        assert browser.ask("return document.querySelector('#chart-loss').textContent") == "nothing to draw"
        append(folder, [*lines[:20], lines[20][:30]])
        shutil.copy(whole / "recipe.toml", folder)
        browser.wait(f"{SAID.format('step')} === '19 of 40'")
        few = browser.pixels(LOSS)
        browser.ask("document.getElementById('log').click()")
        append(folder, [lines[20][30:], *lines[21:]])
        browser.wait(f"{SAID.format('step')} === '40 of 40'")
        assert browser.ask("return document.getElementById('log').getAttribute('aria-pressed')") == "true"
        browser.ask("document.getElementById('log').click()")
        grown = browser.pixels(LOSS)
        assert few > 500
        assert grown != few
        assert browser.ask("return document.getElementById('layers')") is None
        (folder / "run.json").write_text(json.dumps(RESULTS))
        browser.wait("return document.getElementById('layers') !== null")
        assert browser.ask("return document.querySelector('p .state').textContent") == "done"
        browser.wait("return document.querySelector('p .state').className === 'state over'")
        assert browser.pixels(LOSS) > 500
        assert browser.ask("return document.querySelectorAll('#curves, #now').length") == 2
        assert browser.ask("return window.first") is True, "the page was not loaded again"
        assert browser.ask("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints() == []


def test_what_one_looks_at_stays_while_the_curves_grow(browser, tmp_path):
    lines = lines_of(write_run(tmp_path / "whole"))
    folder = write_run(tmp_path / "run", steps=20, results=None)
    picture = f"return document.querySelector('{LOSS}').toDataURL()"
    tip = "document.querySelector('#chart-loss .tip').style.display"
    with serving(folder) as server:
        browser.visit(server.address)
        whole = browser.ask(picture)
        browser.keys("#chart-loss", "+")
        zoomed = browser.ask(picture)
        browser.ask(
            "const at = document.querySelector('#chart-loss .u-over'), box = at.getBoundingClientRect();"
            "at.dispatchEvent(new MouseEvent('mousemove', { clientX: box.left + 300, clientY: box.top + 40,"
            " bubbles: true }))"
        )
        append(folder, lines[22:])
        browser.wait(f"{SAID.format('step')} === '40 of 40'")
        assert browser.ask(f"return {tip}") == "block"
        assert browser.ask("return document.getElementById('whole').hidden") is False
        assert browser.ask(picture) == zoomed
        browser.keys("#chart-loss", "0")
        assert browser.ask(picture) not in (whole, zoomed)
    assert browser.complaints() == []


def test_a_list_shows_new_runs_and_loses_those_that_are_gone(browser, tmp_path):
    odd = "<b>\"'&amp;"
    write_run(tmp_path / "a")
    with serving(tmp_path) as server:
        browser.visit(server.address)
        browser.ask("window.first = true")
        assert browser.ask(f"return {NAMES}") == "a"
        write_run(tmp_path / odd, results=None)
        browser.wait(f"return {NAMES} === {json.dumps(f'{odd},a')}")
        state = "return document.querySelector('table.runs tbody .state').textContent"
        browser.wait(f"{state} === 'running'")
        shutil.rmtree(tmp_path / "a")
        browser.wait(f"return {NAMES} === {json.dumps(odd)}")
        assert browser.ask("return window.first") is True
        browser.ask("document.querySelector('table.runs a').click()")
        browser.wait("return document.querySelector('#now') !== null")
        assert browser.ask("return document.querySelector('h1').textContent") == odd
        assert browser.pixels(LOSS) > 500
    assert browser.complaints() == []


def test_a_server_that_is_gone_is_said_and_one_that_is_back_is_asked_again(browser, tmp_path):
    folder = write_run(tmp_path / "run", results=None)
    said = "return document.getElementById('connection').textContent"
    with serving(folder) as server:
        port = server.server_port
        browser.visit(server.address)
    browser.wait(f"{said}.includes('not up to date')")
    browser.complaints()
    with serving(folder, port=port):
        browser.wait(f"{said} === ''")
