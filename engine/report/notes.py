"""What a reader must know of a run before its numbers: how far it came, what is missing, its warnings."""

from collections.abc import Iterator

import numpy as np

from engine.config.wording import counted, printable
from engine.report import figures
from engine.report.fields import number, tables, text, texts, whole
from engine.report.run_record import RunRecord


def notes(run: RunRecord) -> Iterator[str]:
    """Yield what is unusual about a run, then what it has warned of."""
    if not run.results:
        yield "has no results yet: it goes on still, or was cut short"
    elif run.state == "interrupted":
        yield "was interrupted; it goes on with --resume"
    if not len(run.steps):
        yield "has taken no step"
    if run.damaged:
        yield f"{counted(run.damaged, 'line')} of its metrics cannot be read and are left out"
    lost = int(np.isnan(run.steps.values["loss"]).sum())
    if lost:
        yield f"the loss of {counted(lost, 'step')} is not a finite number: gaps in the curve"
    for change in tables(run.results, "history"):
        step, what = whole(change, "step"), text(change, "what")
        if step is not None and what is not None:
            was, now = (text(change, name) or figures.plain(number(change, name)) for name in ("from", "to"))
            yield printable(f"went on after step {step:,} with another {what}: {now}, before {was}")
    yield from map(printable, texts(run.results, "warnings"))
