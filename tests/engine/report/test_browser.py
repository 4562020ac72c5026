"""The page in a real browser: nothing fails, everything is drawn, wide and narrow, light and dark."""

import json

import pytest

from engine.report.__main__ import main
from tests.engine.report.browser import DARK, LIGHT, chromium
from tests.engine.report.test_markup import NASTY
from tests.engine.report.test_page import ODD, nasty_run
from tests.engine.report.test_timeline import traced_run
from tests.engine.report.written import write_run

CHARTS = [f"#chart-{name} canvas" for name in ("loss", "accuracy", "samples_per_second", "rate")]
TIMELINE = ".timeline canvas"

FIRST_PAINT_MS, DRAWN_MS = 2000, 8000  # some hundred ms; generous, as other programs may keep the cores busy


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Return a page of two runs, one of them with a trace."""
    folder = tmp_path_factory.mktemp("page")
    run, trace = traced_run(folder / "traced")
    other, out = write_run(folder / "other", seed=1), folder / "page.html"
    assert main([str(run.folder), str(other), "--trace", str(trace), "--out", str(out)]) == 0
    return out


def page_of(folder, *runs, name="page.html"):
    out = folder / name
    assert main([*map(str, runs), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("width", [390, 1400])
def test_all_is_drawn_and_nothing_is_wider_than_the_window(browser, full, width, theme):
    browser.show(full, width=width, theme=theme)
    for canvas in (*CHARTS, TIMELINE):
        assert browser.pixels(canvas) > 500, canvas
    assert browser.ask("return document.documentElement.scrollWidth") == width
    dark = browser.ask("return getComputedStyle(document.body).backgroundColor").startswith("rgb(1")
    assert dark == (theme == DARK)
    assert browser.complaints() == []


def test_the_switch_changes_the_theme_and_the_charts(browser, full):
    colours = []
    for theme in (LIGHT, DARK):
        browser.show(full, theme=theme)
        for _ in range(2):
            colours.append(
                browser.ask(
                    "return [getComputedStyle(document.body).color, _pixel()]".replace("_pixel()", _PIXEL)
                )
            )
            browser.ask("document.getElementById('theme').click()")
        browser.ask("localStorage.clear()")
    light, switched_to_dark, dark, switched_to_light = colours
    assert light == switched_to_light
    assert dark == switched_to_dark
    assert light[0] != dark[0]
    assert light[1] != dark[1], "the canvas is painted in other colours"
    assert browser.complaints() == []


_PIXEL = "document.querySelector('#chart-loss canvas').toDataURL()"


def test_runs_and_lines_can_be_hidden_and_shown(browser, full):
    browser.show(full)
    loss = CHARTS[0]
    before = browser.pixels(loss)
    for button in ("[data-run='0']", "[data-line='raw']", "[data-line='mean']", "[data-line='test']"):
        browser.ask("document.querySelector(arguments[0]).click()", button)
        assert (
            browser.ask("return document.querySelector(arguments[0]).getAttribute('aria-pressed')", button)
            == "false"
        )
        after = browser.pixels(loss)
        assert after < before, button
        before = after
    assert browser.ask("return document.querySelector('#chart-loss').textContent") == "nothing to draw"
    assert browser.complaints() == []


def test_log_epochs_and_smoothing_redraw_the_curves(browser, full):
    browser.show(full)
    seen = {browser.ask(f"return {_PIXEL}")}
    for number, script in enumerate((
        "document.getElementById('log').click()",
        "document.getElementById('by-epoch').click()",
        "const at = document.getElementById('smoothing'); at.value = 90;"
                "at.dispatchEvent(new Event('input'))",
    ), start=2):  # fmt: skip
        browser.ask(script)
        seen.add(browser.ask(f"return {_PIXEL}"))
        assert len(seen) == number, script
    assert browser.ask("return document.getElementById('smoothing-said').textContent") == "0.90"
    assert browser.complaints() == []


def test_charts_are_steered_by_the_keyboard(browser, full):
    browser.show(full)
    whole = browser.ask(f"return {_PIXEL}")
    browser.keys("#chart-loss", "+", "ArrowRight")
    assert browser.ask(f"return {_PIXEL}") != whole
    assert browser.ask("return document.getElementById('whole').hidden") is False
    browser.keys("#chart-loss", "0")
    assert browser.ask("return document.getElementById('whole').hidden") is True
    browser.ask("document.activeElement.blur()")
    assert browser.ask(f"return {_PIXEL}") == whole
    assert browser.complaints() == []


def test_the_timeline_is_steered_by_keys_wheel_and_buttons_and_says_what_it_shows(browser, full):
    browser.show(full)
    picture = f"return document.querySelector('{TIMELINE}').toDataURL()"
    whole = browser.ask(picture)
    browser.keys(TIMELINE, "ArrowDown")
    hint = browser.ask("return document.querySelector('.hint').textContent")
    assert "ms, from" in hint
    assert "(rank 0" in hint
    browser.keys(TIMELINE, "+", "ArrowRight")
    zoomed = browser.ask(picture)
    assert zoomed != whole
    browser.ask("document.querySelector(\"[data-zoom='all']\").click()")
    browser.ask(
        "const at = document.querySelector(arguments[0]), box = at.getBoundingClientRect();"
        "at.dispatchEvent(new WheelEvent('wheel', { deltaY: -400, ctrlKey: true, clientX: box.left + 700,"
        " clientY: box.top + 5, cancelable: true }));"
        "at.dispatchEvent(new PointerEvent('pointerleave'))",
        TIMELINE,
    )
    assert browser.ask(picture) not in (whole, zoomed)
    browser.keys(TIMELINE, "0")
    assert browser.ask(picture) == whole
    assert browser.complaints() == []


def test_pointing_at_a_curve_names_its_values(browser, full):
    browser.show(full)
    browser.ask(
        "const at = document.querySelector('#chart-loss .u-over'), box = at.getBoundingClientRect();"
        "at.dispatchEvent(new MouseEvent('mousemove', { clientX: box.left + 300, clientY: box.top + 40,"
        " bubbles: true }))"
    )
    tip = browser.ask("return document.querySelector('#chart-loss .tip').textContent")
    assert tip.startswith("step ")
    assert "traced, each step" in tip
    assert "other, mean of an epoch" in tip
    assert browser.complaints() == []


def test_every_button_has_a_name_and_every_chart_is_told_in_words(browser, full):
    browser.show(full)
    unnamed = browser.ask(
        "return [...document.querySelectorAll('button, [role=img], input, a')].filter((at) =>"
        " !(at.getAttribute('aria-label') || at.textContent.trim() || at.labels?.length))"
        ".map((at) => at.outerHTML)"
    )
    assert unnamed == []
    told = browser.ask("return document.getElementById('chart-loss').getAttribute('aria-label')")
    assert "other: 40 steps, from " in told
    assert browser.ask("return document.querySelectorAll('table:not(:has(caption))').length") == 0


@pytest.mark.parametrize("odd", ODD)
def test_odd_runs_break_nothing(browser, tmp_path, odd):
    browser.show(page_of(tmp_path, write_run(tmp_path / "odd", **ODD[odd])))
    assert browser.complaints() == []
    assert browser.ask("return document.querySelectorAll('section').length") >= 2


def test_losses_that_are_not_finite_are_gaps(browser, tmp_path):
    folder = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "step" and line["step"] > 20:
            line["loss"] = None
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    whole = page_of(tmp_path, write_run(tmp_path / "whole"), name="whole.html")
    hide = "document.querySelector(\"[data-line='test']\").click()"
    counts = []
    for page in (whole, page_of(tmp_path, folder)):
        browser.show(page)
        browser.ask(hide)
        browser.ask("document.getElementById('log').click()")
        counts.append(browser.pixels(CHARTS[0]))
    assert 500 < counts[1] < counts[0]
    assert browser.complaints() == []


def test_no_text_of_a_user_is_run(browser, tmp_path):
    folders = [nasty_run(tmp_path / str(number), text) for number, text in enumerate(NASTY)]
    browser.show(page_of(tmp_path, *folders))
    assert browser.ask("return document.querySelectorAll('img').length") == 0
    assert browser.complaints() == []


def test_a_hundred_thousand_steps_are_small_and_quick(browser, tmp_path):
    out = page_of(tmp_path, write_run(tmp_path / "long", steps=100_000, steps_per_epoch=1000))
    browser.show(out)
    paint = browser.ask("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    drawn = float(browser.ask("return document.documentElement.dataset.drawn"))
    size = out.stat().st_size
    print(f"100,000 steps: {size / 1e6:.2f} MB, first paint {paint:.0f} ms, all drawn after {drawn:.0f} ms")
    assert size < 3_000_000
    assert paint < FIRST_PAINT_MS
    assert drawn < DRAWN_MS
    for canvas in CHARTS:
        assert browser.pixels(canvas) > 500
    assert browser.complaints() == []
