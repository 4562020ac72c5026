"""The command ``python -m engine.audit``: compute a step of a run again, alone or under mpirun or srun."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from comm import failure, terminal
from engine.config.command_line import Parser
from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.wording import counted
from engine.host.ranks import start_together
from engine.host.stop_signals import listening
from engine.host.uncollected import uncollected

if TYPE_CHECKING:
    from engine.run.recorded import Recorded
    from engine.run.replay import Replay
    from engine.run.start import Start

_EPILOG = """\
examples:
  python -m engine.audit runs/digits                  the last step of which the run has written a hash
  python -m engine.audit runs/vgg --step 1200         one in the middle, of a run with --hash-every
  mpirun -n 4 python -m engine.audit runs/vgg         on as many ranks as there are: the bits know no number

The step is computed from the newest whole checkpoint before it, or from the run's beginning, on this machine,
and the hashes of weights and state are compared with those that the run wrote down: in metrics.jsonl every
--hash-every steps, with each checkpoint, and in run.json at its end. The run's folder stays as it is.

Exit codes: 0 the hashes are the same; 1 they are not; 130 interrupted; 2 a mistake in what was given.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.audit",
        description="Compute a step of a run again, and say whether its weights have the same hash.",
        epilog=_EPILOG,
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--step", type=int, metavar="N", help="default: the last one of which the run has written a hash"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="kernel threads of each rank; 0, the default: its fair share"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    with uncollected():
        world = start_together()
    if world is None:
        return 2
    try:
        with uncollected():
            from engine.run.replay import replay  # noqa: PLC0415 -- imports numba: after --help
        found = replay(world, lambda: _resolve(options))
    except UserError as error:
        if world.rank == 0:
            failure.say_error(str(error))
        return 2
    if found is None:
        if world.rank == 0:
            failure.say_interrupted()
        return failure.INTERRUPTED
    if world.rank == 0:
        terminal.show(json.dumps(_as_json(found)) if options.json else _said(found))
    return 0 if found.is_same else 1


def _resolve(options: argparse.Namespace) -> "tuple[Start, Recorded]":
    from engine.run.recorded import chosen, recorded_hashes  # noqa: PLC0415 -- after --help
    from engine.run.replay_start import start_before  # noqa: PLC0415 -- as above

    run = expand(options.run, "run")
    recorded = chosen(recorded_hashes(run), options.step)
    changes = {} if options.threads is None else {"threads": options.threads}
    return start_before(run, recorded.step, changes), recorded


def _said(found: "Replay") -> str:
    recorded = found.recorded
    begun = f"the checkpoint of step {found.begun_at}" if found.begun_at else "the run's beginning"
    lines = [
        f"step {recorded.step}: computed again from {begun}, "
        f"{counted(recorded.step - found.begun_at, 'step')}",
        f"weights  {recorded.weights_sha256}  {recorded.source}",
        f"         {found.weights_sha256}  here",
    ]
    if recorded.state_sha256 is not None:
        lines += [f"state    {recorded.state_sha256}", f"         {found.state_sha256}  here"]
    return "\n".join([*lines, "the same" if found.is_same else "not the same"])


def _as_json(found: "Replay") -> dict[str, object]:
    recorded = found.recorded
    return {
        "step": recorded.step,
        "begun_at": found.begun_at,
        "source": recorded.source,
        "recorded": {"weights_sha256": recorded.weights_sha256, "state_sha256": recorded.state_sha256},
        "here": {"weights_sha256": found.weights_sha256, "state_sha256": found.state_sha256},
        "same": found.is_same,
    }


if __name__ == "__main__":
    sys.exit(main())
