"""The section of layers: measured beside predicted."""

from collections.abc import Iterator, Sequence

from engine.config.wording import printable
from engine.report import figures, time_spent
from engine.report.elements import LABELS, figure, grid, heading, key, row_name, run_name, scrolling, section
from engine.report.markup import Markup, join, tag
from engine.report.run_record import RunRecord
from engine.report.time_section import segment
from engine.report.time_spent import LayerTime, layer_times
from layers.work import PASSES

_MEASURED_ONLY = (
    "Each layer's mean time in a step. The planner predicts nothing for a run that was interrupted."
)
_BOTH = (
    "Each layer's mean time in a step: above, what was measured; below, hatched, what the planner predicts "
    "from this machine's peak and memory, measured at the end of the run. Of peak counts the FLOP of the "
    "direct algorithm: Winograd needs fewer, and may exceed it."
)
_SHARE = "FLOP of the direct algorithm a second, of the measured peak"


def layers_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the layers of each run, as bars and as numbers; of several runs the first one is open."""
    shown = [(place, rows) for place, run in enumerate(records) if (rows := layer_times(run))]
    if not shown:
        return None
    blocks = [_layers(records[place], rows) for place, rows in shown]
    if len(records) > 1:
        blocks = [
            tag(
                "details",
                tag("summary", run_name(records, place)),
                block,
                open=place == shown[0][0],
                class_="run",
            )
            for (place, _), block in zip(shown, blocks, strict=True)
        ]
    about = _BOTH if any(row.predicted for _, rows in shown for row in rows) else _MEASURED_ONLY
    return section("layers", "Layers: measured and predicted", about, *blocks)


def _layers(run: RunRecord, rows: Sequence[LayerTime]) -> Markup:
    longest = max(max(row.measured_seconds or 0.0, row.predicted_seconds or 0.0) for row in rows) or 1.0
    peak = time_spent.peak_flops_per_s(run)
    legend = tag("p", *(tag("span", key(name)) for name in PASSES), class_="legend")
    head = tag(
        "tr",
        heading("layer", numeric=False),
        heading(tag("span", "ms of a step", class_="hidden"), numeric=False, wide=True),
        heading("measured", tag("small", " ms")),
        heading("predicted", tag("small", " ms")),
        heading("ratio", hint="measured over predicted"),
        heading("of peak", hint=_SHARE),
    )
    total = time_spent.total(rows)
    foot = tag("tr", row_name("all layers"), tag("td"), *_cells(total, longest, peak))
    body = [_row(row, longest, peak) for row in rows]
    caption = f"Layers of {run.name}: measured and predicted milliseconds"
    return join([legend, grid(caption, [head], body, foot, class_="layers"), _by_pass(run, rows, longest)])


def _row(row: LayerTime, longest: float, peak: float | None) -> Markup:
    bars = [
        tag("div", *(segment(name, each, longest) for name, each in seconds.items()), class_=f"bar {kind}")
        for kind, seconds in (("measured", row.measured), ("predicted", row.predicted))
    ]
    name = row_name(tag("span", printable(row.name)), tag("small", printable(row.kind)))
    return tag("tr", name, tag("td", *bars, class_="wide"), *_cells(row, longest, peak))


def _cells(row: LayerTime, longest: float, peak: float | None) -> Iterator[Markup]:
    speed, ratio = row.flops_per_s, row.ratio
    yield figure(figures.milliseconds(row.measured_seconds, longest))
    yield figure(figures.milliseconds(row.predicted_seconds, longest))
    yield figure(figures.NOTHING if ratio is None else f"{ratio:,.2f}")
    yield figure(figures.NOTHING if speed is None or not peak else f"{100 * speed / peak:,.0f} %")


def _by_pass(run: RunRecord, rows: Sequence[LayerTime], longest: float) -> Markup:
    """Return all numbers, pass by pass."""
    groups = [tag("th", LABELS[name], scope="colgroup", colspan="2", class_="n") for name in PASSES]
    above = [heading(numeric=False), *groups, heading()]
    head = [
        heading("layer", numeric=False),
        *(heading(kind) for _ in PASSES for kind in ("measured", "predicted")),
    ]
    body = []
    for row in rows:
        cells = [
            figure(figures.milliseconds(seconds.get(name), longest))
            for name in PASSES
            for seconds in (row.measured, row.predicted)
        ]
        flop = figure(f"{row.flop_of_pass / 1e9:,.4g}" if row.flop_of_pass else figures.NOTHING)
        body.append(tag("tr", row_name(printable(row.name)), *cells, flop))
    caption = f"Milliseconds by layer and pass of {run.name}"
    table = grid(caption, [tag("tr", *above), tag("tr", *head, heading("GFLOP a pass"))], body)
    return tag("details", tag("summary", "Numbers by pass"), scrolling(table))
