"""What every page of a report has: its head, top, styles and scripts, and what it is allowed to do."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from engine.report.markup import Content, Markup, data, tag

STYLES = ("vendor/uPlot.min.css", "page/page.css")
PLOT_LICENCE = "vendor/LICENSE"


def document(
    title: str,
    about: Content,
    sections: Iterable[str],
    content: Sequence[Content],
    values: Any,
    scripts: Sequence[str],
    *,
    fetches: bool = False,
) -> str:
    """Return a whole page, which holds all that it needs.

    Parameters
    ----------
    sections
        Their names, for the navigation.
    content
        Of the page's main part.
    values
        The JSON that the scripts read.
    scripts
        Their files in this package.
    fetches
        The page may ask the server that it came from; else it is allowed to fetch nothing at all.
    """
    texts = [_file(name) for name in scripts]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(texts, fetches=fetches)),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,") if fetches else None,  # which browsers ask servers for
        tag("title", f"{title}: Lockstep report"),
        tag("style", Markup("\n".join(_file(name) for name in STYLES))),
    )
    body = tag(
        "body",
        tag("a", "To the content", href="#content", class_="skip"),
        _top(title, about, sections),
        tag("main", *content, id="content", tabindex="-1"),
        footer(),
        data(values, "data"),
        *(tag("script", Markup(each)) for each in texts),
    )
    return tag("html", head, body, lang="en").text


def _top(title: str, about: Content, sections: Iterable[str]) -> Markup:
    links = [tag("a", name, href=f"#{name}") for name in sections]
    theme = tag("button", "theme", type="button", id="theme", aria_label="switch between light and dark")
    return tag(
        "header",
        tag(
            "div",
            tag("p", "Lockstep report", class_="brand"),
            tag("h1", title),
            tag("p", about, class_="about"),
            theme,
        ),
        tag("nav", *links, aria_label="sections"),
        class_="top",
    )


def footer() -> Markup:
    """Return who made the page, and the licence of what it holds of others."""
    licence = tag("details", tag("summary", "licence of uPlot"), tag("pre", _file(PLOT_LICENCE)))
    return tag("footer", tag("p", "Made by lockstep report. Curves by uPlot 1.6.32."), licence)


def _file(name: str) -> str:
    return resources.files("engine.report").joinpath(name).read_text("utf-8").strip()


def _policy(scripts: Sequence[str], *, fetches: bool) -> str:
    """Return what the page may do: run its own scripts, and nothing else that is not asked for."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts
    )
    own = "connect-src 'self'; " if fetches else ""
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; {own}"
        "base-uri 'none'; form-action 'none'"
    )
