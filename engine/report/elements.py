"""Elements that several sections have: headings, the names and colours of runs, tables, lists of facts."""

from collections.abc import Sequence

from engine.report.comparison import Row
from engine.report.markup import Content, Markup, join, tag
from engine.report.run_record import RunRecord

COLOURS = 8
"""Of runs; then they come again."""

LABELS = {
    "forward": "forward",
    "backward_weights": "backward weights",
    "backward_data": "backward data",
    "update": "update",
    "communication": "communication",
    "wait_for_communication": "exposed communication",
    "wait_for_data": "wait for data",
    "load": "load",
    "rest": "rest",
}
"""Of parts of a step, as elsewhere in the engine."""


def section(name: str, title: str, about: Content, *content: Content) -> Markup:
    """Return a section with its heading and a line that says how to read it."""
    head = tag("h2", title, id=f"{name}-title")
    return tag(
        "section",
        tag("header", head, tag("p", about, class_="about") if about else None),
        *content,
        id=name,
        aria_labelledby=f"{name}-title",
    )


def swatch(place: int) -> Markup:
    """Return the mark of a run's colour."""
    return tag("span", class_=f"swatch run-{place % COLOURS}", aria_hidden="true")


def run_name(records: Sequence[RunRecord], place: int) -> Markup:
    """Return a run's name with its colour, where there are several."""
    name = tag("span", records[place].name, class_="run-name")
    return join([swatch(place), name]) if len(records) > 1 else name


def mark(name: str) -> Markup:
    """Return the colour of a part of a step."""
    return tag("span", class_=f"key part {name}", aria_hidden="true")


def key(name: str) -> Markup:
    """Return the colour of a part of a step, and its name."""
    return join([mark(name), LABELS[name]])


def heading(*content: Content, numeric: bool = True, wide: bool = False, hint: str | None = None) -> Markup:
    """Return the head of a column."""
    return tag("th", *content, scope="col", class_="n" if numeric else "wide" if wide else None, title=hint)


def row_name(*content: Content) -> Markup:
    """Return the head of a row."""
    return tag("th", *content, scope="row")


def figure(text: str) -> Markup:
    """Return a cell with a number."""
    return tag("td", text, class_="n")


def grid(
    caption: Content,
    head: Sequence[Markup],
    body: Sequence[Markup],
    foot: Markup | None = None,
    *,
    class_: str | None = None,
    is_said: bool = False,
) -> Markup:
    """Return a table; its caption is for who hears the page, unless `is_said`."""
    return tag(
        "table",
        tag("caption", caption, class_="left" if is_said else "hidden"),
        tag("thead", *head) if head else None,
        tag("tbody", *body),
        tag("tfoot", foot) if foot else None,
        class_=class_,
    )  # fmt: skip


def scrolling(table: Markup) -> Markup:
    """Return a table that scrolls by itself where the page is narrow; with the keyboard too."""
    return tag("div", table, class_="scrolling", tabindex="0", role="group", aria_label="table")


def facts(rows: Sequence[Row], *, long: bool = False) -> Markup | None:
    """Return what all runs have in common, or what the only run says."""
    items = [tag("div", tag("dt", row.name), tag("dd", row.values[0])) for row in rows]
    return tag("dl", *items, class_="facts long" if long else "facts") if items else None


def compared(
    records: Sequence[RunRecord], rows: Sequence[Row], caption: str, *, marks: bool = True
) -> Markup:
    """Return rows with a column for each run; those that differ are marked, if `marks`."""
    head = [heading(numeric=False)]
    head += [heading(run_name(records, place), numeric=False) for place in range(len(records))]
    body = [
        tag(
            "tr", row_name(row.name), *(tag("td", value) for value in row.values),
            class_="differs" if marks and row.differs else None,
        )
        for row in rows
    ]  # fmt: skip
    return scrolling(grid(caption, [tag("tr", *head)], body, class_="compare"))
