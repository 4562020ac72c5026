"""The section of where the time of a step went."""

from collections.abc import Iterator, Sequence

from engine.config.wording import printable
from engine.report import figures, time_spent
from engine.report.elements import LABELS, figure, grid, heading, key, row_name, run_name, scrolling, section
from engine.report.markup import Content, Markup, tag
from engine.report.run_record import RunRecord


def time_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the parts of a step: a bar for each run, all to one scale, and the numbers."""
    shown = [place for place, run in enumerate(records) if time_spent.step_seconds(run)]
    if not shown:
        return None
    longest = max(time_spent.step_seconds(records[place]) or 0.0 for place in shown)
    is_alone = len(records) == 1
    about = f"A step takes {figures.duration(longest)} on average" if is_alone else "Milliseconds of a step"
    about += ": all figures are means, over all but the first few steps, and over ranks."
    return section(
        "time", "Where the time went", about,
        tag("div", *(_bar(records, place, longest) for place in shown), class_="bars"),
        scrolling(_table(records, shown, longest)),
        *(_said(records, place) for place in shown),
        _exposed(records, shown),
    )  # fmt: skip


def segment(name: str, seconds: float, longest: float) -> Markup | None:
    """Return a part of a bar whose full length stands for `longest` seconds."""
    if seconds <= 0:
        return None
    hint = f"{LABELS[name]}: {figures.duration(seconds)}"
    return tag("i", class_=f"part {name}", style=f"width:{100 * seconds / longest:.3f}%", title=hint)


def _bar(records: Sequence[RunRecord], place: int, longest: float) -> Markup:
    parts = time_spent.parts(records[place])
    bar = tag("div", *(segment(name, each, longest) for name, each in parts.items()), class_="bar")
    seconds = figures.duration(time_spent.step_seconds(records[place]))
    label = tag("div", run_name(records, place), tag("b", seconds), class_="bar-label")
    return tag("div", label if len(records) > 1 else None, bar)


def _table(records: Sequence[RunRecord], shown: Sequence[int], longest: float) -> Markup:
    head = [heading("part of a step", numeric=False)]
    for place in shown:
        head += [heading(run_name(records, place) if len(records) > 1 else "ms"), heading("share")]
    body = [
        tag(
            "tr",
            row_name(key(name)),
            *(each for place in shown for each in _cells(records[place], name, longest)),
        )
        for name in time_spent.PARTS
    ]
    return grid("Milliseconds of a step, means over steps and ranks", [tag("tr", *head)], body)


def _cells(run: RunRecord, name: str, longest: float) -> Iterator[Markup]:
    seconds, step = time_spent.parts(run).get(name), time_spent.step_seconds(run)
    yield figure(figures.milliseconds(seconds, longest))
    yield figure(figures.percent(seconds / step if seconds is not None and step else None))


def _said(records: Sequence[RunRecord], place: int) -> Markup | None:
    """Return how even the ranks were, and how much of the communication was hidden."""
    lines = time_spent.said(records[place])
    if not lines:
        return None
    words = "; ".join(lines)
    if len(records) == 1:
        return tag("p", words[0].upper() + words[1:], class_="said")
    return tag("p", run_name(records, place), ": ", words, class_="said")


def _exposed(records: Sequence[RunRecord], shown: Sequence[int]) -> Markup | None:
    """Return the exposed communication by layer."""
    found = list[Content]()
    for place in shown:
        layers = time_spent.exposed_by_layer(records[place])
        if layers:
            longest = max(layers.values())
            rows = [
                tag("tr", row_name(printable(name)), figure(figures.milliseconds(each, longest)))
                for name, each in layers.items()
            ]
            caption = run_name(records, place) if len(records) > 1 else "ms of a step"
            found.append(scrolling(grid(caption, [], rows, class_="narrow", is_said=True)))
    if not found:
        return None
    return tag(
        "details", tag("summary", "Exposed communication by layer"), tag("div", *found, class_="columns")
    )
