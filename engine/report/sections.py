"""The sections of the page that need no script: what the runs are, and tables of their numbers."""

from collections.abc import Iterator, Sequence

from engine.config.wording import counted, printable
from engine.report import comparison, figures, time_spent
from engine.report.comparison import Row
from engine.report.fields import numbers, texts
from engine.report.markup import Content, Markup, join, tag
from engine.report.run_record import RunRecord
from engine.report.time_spent import LayerTime, layer_times
from layers.work import PASSES

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

_HEADLINES = ("test accuracy", "test loss", "loss of the last step", "samples/s", "time in all")


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


def notices(lines: Sequence[tuple[str, str]]) -> Markup | None:
    """Return what a reader must know first, each with the name of its run or an empty text."""
    if not lines:
        return None
    items = [tag("li", tag("b", f"{name}: ") if name else None, printable(line)) for name, line in lines]
    return tag("div", tag("h2", "To note"), tag("ul", *items), class_="notices", role="note")


def warnings_of(run: RunRecord) -> Iterator[str]:
    """Yield what is unusual about a run, then what it has warned of."""
    if not run.results:
        yield "has no results yet: it goes on still, or was cut short"
    elif run.state == "interrupted":
        yield "was interrupted; it goes on with --resume"
    if not len(run.steps):
        yield "has taken no step"
    if run.damaged:
        yield f"{counted(run.damaged, 'line')} of its metrics cannot be read and are left out"
    lost = sum(value != value for value in run.steps.values["loss"])  # noqa: PLR0124 -- NaN
    if lost:
        yield f"the loss of {counted(int(lost), 'step')} is not a finite number: gaps in the curve"
    yield from texts(run.results, "warnings")


def summary(records: Sequence[RunRecord]) -> Markup:
    """Return the results: large for one run, a column for each of several."""
    rows = comparison.results(records)
    if len(records) > 1:
        about = "Rows in bold differ."
        return section("results", "Results", about, _rows_table(records, rows, "Results of the runs"))
    (told,) = ({row.name: row.values[0] for row in rows},)
    large = [
        tag("div", tag("dt", name), tag("dd", told.pop(name)), class_="figure")
        for name in _HEADLINES
        if name in told
    ]
    small = [tag("div", tag("dt", name), tag("dd", value)) for name, value in told.items()]
    return section(
        "results", "Results", None,
        tag("dl", *large, class_="figures") if large else None,
        tag("dl", *small, class_="facts"),
    )  # fmt: skip


def time_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the parts of a step: a bar for each run, all to one scale, and the numbers."""
    shown = [place for place, run in enumerate(records) if time_spent.step_seconds(run)]
    if not shown:
        return None
    longest = max(time_spent.step_seconds(records[place]) or 0.0 for place in shown)
    bars = []
    for place in shown:
        run, seconds = records[place], time_spent.step_seconds(records[place])
        segments = [_segment(name, each, longest) for name, each in time_spent.parts(run).items()]
        label = tag("div", run_name(records, place), tag("b", figures.duration(seconds)), class_="bar-label")
        bars.append(tag("div", label if len(records) > 1 else None, tag("div", *segments, class_="bar")))
    head = [tag("th", "part of a step", scope="col")]
    for place in shown:
        head.append(
            tag("th", run_name(records, place) if len(records) > 1 else "ms", scope="col", class_="n")
        )
        head.append(tag("th", "share", scope="col", class_="n"))
    body = [
        tag(
            "tr", tag("th", _key(name), scope="row"), *_time_cells([records[p] for p in shown], name, longest)
        )
        for name in time_spent.PARTS
    ]
    caption = tag("caption", "Milliseconds of a step, means over steps and ranks", class_="hidden")
    table = tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *body))
    about = (
        f"A step takes {figures.duration(longest)}: mean over all but the first few steps, and over ranks."
        if len(records) == 1
        else "Milliseconds of a step: means over all but the first few steps, and over ranks."
    )
    return section(
        "time", "Where the time went", about,
        tag("div", *bars, class_="bars"), _scrolling(table), _exposed(records, shown),
    )  # fmt: skip


def _segment(name: str, seconds: float, longest: float) -> Markup | None:
    if seconds <= 0:
        return None
    hint = f"{LABELS[name]}: {figures.duration(seconds)}"
    return tag("i", class_=f"part {name}", style=f"width:{100 * seconds / longest:.3f}%", title=hint)


def _key(name: str) -> Markup:
    return join([_mark(name), LABELS[name]])


def _mark(name: str) -> Markup:
    return tag("span", class_=f"key part {name}", aria_hidden="true")


def _time_cells(records: Sequence[RunRecord], name: str, longest: float) -> Iterator[Markup]:
    for run in records:
        seconds, step = time_spent.parts(run).get(name), time_spent.step_seconds(run)
        yield tag("td", figures.milliseconds(seconds, longest), class_="n")
        yield tag("td", figures.percent(seconds / step if seconds is not None and step else None), class_="n")


def _exposed(records: Sequence[RunRecord], shown: Sequence[int]) -> Markup | None:
    """Return the exposed communication by layer."""
    found = list[Content]()
    for place in shown:
        layers = time_spent.exposed_by_layer(records[place])
        if not layers:
            continue
        longest = max(layers.values())
        rows = [
            tag(
                "tr",
                tag("th", printable(name), scope="row"),
                tag("td", figures.milliseconds(each, longest), class_="n"),
            )
            for name, each in layers.items()
        ]
        caption = tag(
            "caption", run_name(records, place) if len(records) > 1 else "ms of a step", class_="left"
        )
        found.append(_scrolling(tag("table", caption, tag("tbody", *rows), class_="narrow")))
    if not found:
        return None
    return tag(
        "details", tag("summary", "Exposed communication by layer"), tag("div", *found, class_="columns")
    )


def layers_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the layers of each run: measured beside predicted, as bars and as numbers."""
    shown = [(place, rows) for place, run in enumerate(records) if (rows := layer_times(run))]
    if not shown:
        return None
    blocks = []
    for place, rows in shown:
        body = _layers(records[place], rows)
        if len(records) == 1:
            blocks.append(body)
        else:
            head = tag("summary", run_name(records, place))
            blocks.append(tag("details", head, body, open=place == shown[0][0], class_="run"))
    about = (
        "Each layer's time in a step: above, what was measured; below, hatched, what the planner predicts "
        "from this machine's peak and memory, measured at the end of the run."
    )
    return section("layers", "Layers: measured and predicted", about, *blocks)


def _layers(run: RunRecord, rows: Sequence[LayerTime]) -> Markup:
    longest = max(max(row.measured_seconds or 0.0, row.predicted_seconds or 0.0) for row in rows) or 1.0
    peak = time_spent.peak_flops_per_s(run)
    legend = tag("p", *(tag("span", _key(name)) for name in PASSES), class_="legend")
    head = tag(
        "tr",
        tag("th", "layer", scope="col"),
        tag("th", tag("span", "ms of a step", class_="hidden"), scope="col", class_="wide"),
        tag("th", "measured", tag("small", " ms"), scope="col", class_="n"),
        tag("th", "predicted", tag("small", " ms"), scope="col", class_="n"),
        tag("th", "ratio", scope="col", class_="n", title="measured over predicted"),
        tag(
            "th",
            "of peak",
            scope="col",
            class_="n",
            title="FLOP of the direct algorithm, of the measured peak",
        ),
    )
    body = [_layer(row, longest, peak) for row in rows]
    total = LayerTime(
        "all layers", "", sum(row.flop for row in rows),
        _sums([row.measured for row in rows]), _sums([row.predicted for row in rows]),
    )  # fmt: skip
    flop = sum(row.flop * len(row.measured) for row in rows)
    foot = tag(
        "tr",
        tag("th", total.name, scope="row"),
        tag("td"),
        *_layer_cells(total, longest, _share(flop, total, peak)),
    )
    caption = tag("caption", f"Layers of {run.name}: measured and predicted milliseconds", class_="hidden")
    table = tag(
        "table", caption, tag("thead", head), tag("tbody", *body), tag("tfoot", foot), class_="layers"
    )
    return join([legend, table, _passes_table(run, rows, longest)])


def _layer(row: LayerTime, longest: float, peak: float | None) -> Markup:
    bars = [
        tag("div", *(_segment(name, each, longest) for name, each in seconds.items()), class_=f"bar {kind}")
        for kind, seconds in (("measured", row.measured), ("predicted", row.predicted))
    ]
    name = tag("th", tag("span", printable(row.name)), tag("small", printable(row.kind)), scope="row")
    share = _share(row.flop * len(row.measured), row, peak)
    return tag("tr", name, tag("td", *bars, class_="wide"), *_layer_cells(row, longest, share))


def _share(flop: float, row: LayerTime, peak: float | None) -> float | None:
    seconds = row.measured_seconds
    return flop / seconds / peak if flop and seconds and peak else None


def _layer_cells(row: LayerTime, longest: float, share: float | None) -> Iterator[Markup]:
    yield tag("td", figures.milliseconds(row.measured_seconds, longest), class_="n")
    yield tag("td", figures.milliseconds(row.predicted_seconds, longest), class_="n")
    yield tag("td", figures.NOTHING if row.ratio is None else f"{row.ratio:.2f}", class_="n")
    yield tag("td", figures.NOTHING if share is None else f"{share:.0%}".replace("%", " %"), class_="n")


def _sums(many: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(each.get(name, 0.0) for each in many) for name in PASSES} if any(many) else {}


def _passes_table(run: RunRecord, rows: Sequence[LayerTime], longest: float) -> Markup:
    """Return all numbers, pass by pass."""
    above = [tag("th", "", scope="col")]
    head = [tag("th", "layer", scope="col")]
    for name in PASSES:
        above.append(tag("th", LABELS[name], scope="colgroup", colspan="2", class_="n"))
        head += [tag("th", kind, scope="col", class_="n") for kind in ("measured", "predicted")]
    above.append(tag("th", "", scope="col"))
    head.append(tag("th", "GFLOP a pass", scope="col", class_="n"))
    body = []
    for row in rows:
        cells = [
            tag("td", figures.milliseconds(seconds.get(name), longest), class_="n")
            for name in PASSES
            for seconds in (row.measured, row.predicted)
        ]
        flop = f"{row.flop / 1e9:,.4g}" if row.flop else figures.NOTHING
        body.append(
            tag("tr", tag("th", printable(row.name), scope="row"), *cells, tag("td", flop, class_="n"))
        )
    caption = tag("caption", f"Milliseconds by layer and pass of {run.name}", class_="hidden")
    table = tag("table", caption, tag("thead", tag("tr", *above), tag("tr", *head)), tag("tbody", *body))
    return tag("details", tag("summary", "Numbers by pass"), _scrolling(table))


def memory_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the memory of each rank: all that its process used, and the parameters' part of it."""
    found = [
        (
            place,
            numbers(run.results, "peak_resident_bytes_by_rank"),
            numbers(run.results, "parameter_bytes_by_rank"),
        )
        for place, run in enumerate(records)
    ]
    found = [each for each in found if each[1]]
    if not found:
        return None
    most = max(max(peaks) for _, peaks, _ in found) or 1.0
    body = []
    for place, peaks, parameters in found:
        for rank, peak in enumerate(peaks):
            held = parameters[rank] if rank < len(parameters) else None
            bar = [
                tag("i", class_="part held", style=f"width:{100 * min(held or 0.0, peak) / most:.3f}%"),
                tag(
                    "i",
                    class_="part resident",
                    style=f"width:{100 * max(0.0, peak - (held or 0.0)) / most:.3f}%",
                ),
            ]
            name = join([run_name(records, place), ", "]) if len(records) > 1 else None
            body.append(
                tag(
                    "tr",
                    tag("th", name, f"rank {rank}", scope="row"),
                    tag("td", tag("div", *bar, class_="bar"), class_="wide"),
                    tag("td", figures.size(held), class_="n"),
                    tag("td", figures.size(peak), class_="n"),
                )
            )
    head = tag(
        "tr", tag("th", "", scope="col"), tag("th", "", scope="col", class_="wide"),
        tag("th", _mark("held"), "parameters", scope="col", class_="n"),
        tag("th", _mark("resident"), "most in all", scope="col", class_="n"),
    )  # fmt: skip
    caption = tag("caption", "Memory by rank", class_="hidden")
    about = "Parameters are weights, gradients and momentum; most in all is the largest resident memory."
    table = tag("table", caption, tag("thead", head), tag("tbody", *body), class_="layers memory")
    return section("memory", "Memory", about, table)


def recipe_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the recipes: what differs, then the rest."""
    rows = comparison.recipes(records)
    if not rows:
        return None
    differing = [row for row in rows if row.differs]
    same = [row for row in rows if not row.differs]
    if len(records) == 1:
        return section("recipe", "Recipe", None, _facts(rows))
    shown = (
        _rows_table(records, differing, "Fields of the recipe that differ", marks=False)
        if differing
        else tag("p", "All runs have the same recipe.")
    )
    rest = tag("details", tag("summary", f"{counted(len(same), 'field')} that do not differ"), _facts(same))
    return section("recipe", "Recipe: what differs", None, shown, rest if same else None)


def environment_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return what the runs ran on, and the hashes of what came out."""
    rows, hashes = comparison.environments(records), comparison.hashes(records)
    if not rows and not hashes:
        return None
    content = list[Content]()
    if len(records) == 1:
        content = [_facts(rows) if rows else None, _facts(hashes, long=True) if hashes else None]
    else:
        differing = [row for row in rows if row.differs]
        content = [
            _rows_table(records, [*differing, *hashes], "What differs of environments, and hashes"),
            _facts([row for row in rows if not row.differs]),
        ]
    return section("environment", "Environment and hashes", None, *content)


def _facts(rows: Sequence[Row], *, long: bool = False) -> Markup:
    """Return what all runs have in common."""
    items = [tag("div", tag("dt", row.name), tag("dd", row.values[0])) for row in rows]
    return tag("dl", *items, class_="facts long" if long else "facts")


def _rows_table(
    records: Sequence[RunRecord], rows: Sequence[Row], caption: str, *, marks: bool = True
) -> Markup:
    head = [tag("th", "", scope="col")]
    head += [tag("th", run_name(records, place), scope="col") for place in range(len(records))]
    body = [
        tag(
            "tr",
            tag("th", row.name, scope="row"),
            *(tag("td", value) for value in row.values),
            class_="differs" if marks and row.differs else None,
        )
        for row in rows
    ]
    return _scrolling(
        tag(
            "table",
            tag("caption", caption, class_="hidden"),
            tag("thead", tag("tr", *head)),
            tag("tbody", *body),
            class_="compare",
        )
    )


def _scrolling(table: Markup) -> Markup:
    """Return a table that scrolls by itself where the page is narrow; with the keyboard too."""
    return tag("div", table, class_="scrolling", tabindex="0", role="group", aria_label="table")
