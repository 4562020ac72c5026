"""One rank of a cluster in simulation: events in, instructions out.

It runs what `program.record` has taken down on two threads, each a state machine: `main_thread` and
`communication_thread` show their states and transitions. What passes between the two is here.

========  ====================  =============================================================
Event     Handled by            Then
========  ====================  =============================================================
GO_ON     main thread           Jobs that it submits make the communication thread poll.
COMPUTED  main thread           The same.
POLL      communication thread  After every turn that costs no processor time, the main
                                thread goes on if the job that it waits for has ended.
PAID      communication thread  The same, and the communication thread polls.
========  ====================  =============================================================

`simulator` keeps the clock, carries out the instructions and delivers events.
"""

from collections.abc import Callable
from typing import assert_never, final

from engine.planner.costs import Costs
from engine.planner.design import Design, Members
from engine.planner.simulation.communication_thread import CommunicationThread, Paying
from engine.planner.simulation.instructions import Event, Instruction, Schedule
from engine.planner.simulation.main_thread import Computing, Ended, MainThread
from engine.planner.simulation.messages import Fabric, Ledger, SimulatedCommunicator
from engine.planner.simulation.program import Compute, record
from engine.profile.recorder import Span


@final
class SimulatedRank:
    """A main thread and a communication thread.

    Parameters
    ----------
    steps
        Training steps to run.
    slowdown
        See `MainThread`.
    computes
        False: communication alone, without passes and updates.
    """

    def __init__(
        self,
        rank: int,
        design: Design,
        costs: Costs,
        fabric: Fabric,
        *,
        steps: int,
        slowdown: Callable[[], float],
        computes: bool = True,
    ):
        self.spans: list[Span] = []
        self._design, self._software = design, costs.cluster.software
        self._ledger = Ledger()
        self._communication = CommunicationThread(
            design,
            self._software,
            self._ledger,
            clock=fabric.clock,
            spans=self.spans,
            updates_cost=computes,
        )
        members = _members(rank, design, fabric, self._ledger)
        operations = record(design, costs, members, self._communication.update, steps=steps)
        self._main = MainThread(
            (each for each in operations if computes or not isinstance(each, Compute)),
            design,
            self._communication,
            clock=fabric.clock,
            spans=self.spans,
            slowdown=slowdown,
        )

    @property
    def has_ended(self) -> bool:
        """Whether the main thread has no operation left."""
        return isinstance(self._main.state, Ended)

    @property
    def ended_s(self) -> float:
        """End of the last step or job, whichever is later."""
        return max(self._main.step_ended_s, self._communication.job_ended_s)

    @property
    def computing_seconds(self) -> float:
        """See `MainThread.computing_seconds`."""
        return self._main.computing_seconds

    @property
    def bytes_sent(self) -> int:
        """Bytes sent since the start, and bytes that others read in this rank's memory."""
        return self._ledger.bytes_sent

    def handle(self, event: Event) -> list[Instruction]:
        """Take an event that happens now; return what is to be done, in this order."""
        match event:
            case Event.GO_ON:
                return self._main.go_on()
            case Event.COMPUTED:
                return self._main.computed()
            case Event.POLL:
                return self._poll()
            case Event.PAID:
                return self._paid()
            case _:
                assert_never(event)

    def expect_message(self, moment: float) -> Instruction:
        """Return when to poll for a message: later than it arrives if the thread polls seldom just now.

        It does so while the main thread computes; with overlap off, nothing computes beside a job.
        """
        late = self._design.overlap and isinstance(self._main.state, Computing)
        return Schedule(moment + (self._software.poll_s if late else 0.0), Event.POLL)

    def _poll(self) -> list[Instruction]:
        instructions: list[Instruction] = []
        communication = self._communication
        if isinstance(communication.state, Paying):
            return instructions
        while (turn := communication.turn()) is not None:
            instructions += turn
            if isinstance(communication.state, Paying):
                if communication.state.updates and not self._design.overlap:
                    self._main.begin_update()
                return instructions
            instructions += self._main.release()
        instructions += self._main.release()
        instructions += communication.check_for_stall()
        return instructions

    def _paid(self) -> list[Instruction]:
        state = self._communication.state
        self._communication.paid()
        if isinstance(state, Paying) and state.updates and not self._design.overlap:
            self._main.end_update()
        return [*self._main.release(), *self._poll()]


def _members(rank: int, design: Design, fabric: Fabric, ledger: Ledger) -> Members:
    """Return the communicators of a rank: the world, its model group and its data group."""

    def of(name: str, ranks: range) -> SimulatedCommunicator:
        return SimulatedCommunicator(fabric, ledger, rank, name, ranks)

    parts = design.plan.parts
    group, part = divmod(rank, parts)
    return Members(
        of("world", range(design.ranks)),
        of(f"group {group}", range(rank - part, rank - part + parts)),
        of(f"part {part}", range(part, design.ranks, parts)),
    )
