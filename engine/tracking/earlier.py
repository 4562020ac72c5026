"""Lines of `metrics.jsonl` that a tracker has missed: it was killed with the run, or is new to it."""

import json
from collections.abc import Iterator
from contextlib import suppress

from engine.config.files import open_file
from engine.tracking.tracker import About, Line


def missed(about: About, first: int) -> Iterator[Line]:
    """Yield the lines from a step on up to that after which the run has begun; OSError as it comes."""
    if first > about.step or not about.metrics.exists():
        return
    with open_file(about.metrics) as file:
        for text in file:
            with suppress(ValueError, KeyError, TypeError, RecursionError):  # one that no run wrote whole
                record = json.loads(text)
                if first <= int(record["step"]) <= about.step:
                    yield Line.of(str(record["kind"]), record)
