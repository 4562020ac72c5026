"""Sum the spans of one rank over its steady steps."""

from bisect import bisect_right
from collections.abc import Sequence

from engine.profile.recorder import COMPUTE, FOR_DATA, LAYER, PASS, STEP, WAITS, Span, StepSums, warm_steps


def steady_steps(spans: Sequence[Span]) -> list[Span]:
    """Return the spans of one rank's steady steps, in order."""
    steps = sorted((span for span in spans if STEP in span.attributes), key=lambda span: span.start)
    return steps[warm_steps(len(steps)) :]


def sum_spans(spans: Sequence[Span]) -> StepSums:
    """Add up one rank's spans in its steady steps."""
    steps, sums = steady_steps(spans), StepSums()
    starts = [step.start for step in steps]
    sums.busy.extend(step.end - step.start for step in steps)
    for span in spans:
        middle = (span.start + span.end) / 2
        number = bisect_right(starts, middle) - 1
        if number < 0 or middle > steps[number].end:  # between steps, such as evaluation
            continue
        seconds, single = span.end - span.start, StepSums()
        if STEP in span.attributes:
            single.steps, single.wall = 1, seconds
        elif span.row == COMPUTE and PASS in span.attributes:
            direction = str(span.attributes[PASS])
            single.compute[direction] = seconds
            if LAYER in span.attributes:
                single.layers[str(span.attributes[LAYER]), direction] = seconds
        elif span.row == WAITS and FOR_DATA in span.attributes:
            single.data = seconds
        elif span.row == WAITS:
            single.waits[span.name] = seconds
            sums.busy[number] -= seconds
        sums.add(single)
    return sums
