"""A program that starts MPI and says what it is: one of its own, as MPI may end or hold who starts it."""

import json
from typing import Any

from comm import terminal

MARK = "lockstep-mpi: "
"""Before the answer: libraries and launchers print lines of their own."""
_FLOATS = 1024


def main() -> None:
    """Print what MPI is, on rank 0."""
    from comm.launcher import launched_rank  # noqa: PLC0415

    facts = _facts()
    if launched_rank() == 0:
        terminal.show(MARK + json.dumps(facts))


def answer_in(printed: str) -> dict[str, Any] | None:
    """Return what a probe has said among other lines; None if it did not come so far."""
    for line in printed.splitlines():
        _, mark, text = line.partition(MARK)
        if mark:
            answer: dict[str, Any] = json.loads(text)
            return answer
    return None


def _facts() -> dict[str, Any]:
    try:
        from comm import mpi  # noqa: PLC0415 -- it needs numpy

        facts = mpi.describe()
        world = mpi.world()
        shares = world.size > 1 and world.share(_FLOATS) is not None
    except (ImportError, RuntimeError) as error:  # no MPI library, or another one than the launcher's
        return {"error": " ".join(str(error).split())}
    return {**facts, "survives": world.survives, "shares": shares}


if __name__ == "__main__":
    main()
