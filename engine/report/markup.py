"""HTML by functions. All text is escaped here, so that no name of a user's can become markup."""

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_VOID = {"br", "col", "input", "link", "meta"}


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already; made by this module alone, or from files that come with it."""

    text: str


Content = Markup | str | None
"""Text to be escaped, HTML, or nothing."""


def tag(name: str, /, *content: Content, **attributes: str | bool | None) -> Markup:
    """Return an element.

    Parameters
    ----------
    attributes
        ``class_`` is class, other underscores become hyphens; True is one without a value, False and None
        are left out.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(content).text}</{name}>")


def join(content: Iterable[Content], between: str = "") -> Markup:
    """Return pieces one after the other."""
    return Markup(between.join(_text(each) for each in content if each is not None))


def data(value: Any, name: str) -> Markup:
    """Return a block of JSON for scripts; nothing in it can end the block or begin a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # other than in strings JSON has none of them
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')


def _attribute(name: str, value: str | bool | None) -> str:
    if value is False or value is None:
        return ""
    key = name.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{html.escape(_clean(value))}"'


def _text(content: Content) -> str:
    return content.text if isinstance(content, Markup) else html.escape(_clean(content or ""))


def _clean(text: str) -> str:
    """Return text that UTF-8 can hold: half of a surrogate pair, as JSON may have it, is replaced."""
    return text.encode("utf-8", "replace").decode()
