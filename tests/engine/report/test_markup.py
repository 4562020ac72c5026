"""HTML by functions."""

import json
from html.parser import HTMLParser

import pytest

from engine.report.markup import data, join, tag

NASTY = [
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"' onmouseover=alert(1) x='",
    "<!-- -->", "]]>", "&lt;b&gt;", "\u2028\u2029\x00", "\ud800", "`${alert(1)}`",
]  # fmt: skip


class Reader(HTMLParser):
    """Collects elements, their attributes and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("nasty", NASTY)
def test_no_text_becomes_markup(nasty):
    read = Reader(tag("p", nasty, title=nasty).text)
    clean = nasty.replace("\ud800", "?")
    assert read.tags == [("p", {"title": clean})]
    assert read.text == clean


@pytest.mark.parametrize("nasty", NASTY)
def test_no_text_ends_a_block_of_data(nasty):
    block = data({nasty: [nasty]}, "data").text
    inside = block.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert not {"<", ">", "&"} & set(inside)
    assert json.loads(inside) == {nasty: [nasty]}


def test_attributes_are_named_as_in_html_and_false_ones_left_out():
    made = tag("button", "x", None, class_="a", aria_label="b", hidden=True, title=None, open=False)
    assert made.text == '<button class="a" aria-label="b" hidden>x</button>'
    assert join(["<", tag("br")], "-").text == "&lt;-<br>"


def test_data_refuses_what_json_lacks():
    with pytest.raises(ValueError, match="not JSON compliant"):
        data({"x": float("nan")}, "data")
