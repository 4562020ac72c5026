"""The main thread of a simulated rank, a state machine.

=============  ========================  ============================================================
State          Event                     Transition
=============  ========================  ============================================================
``Ready``      GO_ON                     Run operations. To submit a job and to end a step take no
                                         time. A pass occupies cores: ``Computing``. A wait for a job
                                         that has not ended: ``Waiting``. No operation left:
                                         ``Ended``.
``Computing``  COMPUTED                  ``Ready``, and on as with GO_ON.
``Waiting``    the job has ended         ``Ready``; GO_ON now. The rank calls `release` once the
                                         processor time of the job's last turn is spent.
``Waiting``    the job updates weights   ``Updating``, with overlap off only: the main thread runs
                                         jobs itself, so that it does not wait meanwhile.
``Updating``   the update is done        ``Waiting``.
``Ended``      none
=============  ========================  ============================================================
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from comm.comm_thread import Request
from engine.planner.design import Design
from engine.planner.simulation.communication_thread import CommunicationThread
from engine.planner.simulation.instructions import Event, Instruction, Occupy, Schedule
from engine.planner.simulation.program import Compute, EndStep, Operation, Submit, Wait
from engine.profile.recorder import COMPUTE, PASS, STEP, WAITS, Span


@dataclass(frozen=True, slots=True)
class Ready:
    """It runs operations, or GO_ON is scheduled for now."""


@dataclass(frozen=True, slots=True)
class Computing:
    """A pass over a layer occupies its cores."""

    operation: Compute
    since: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """It is held up by a job."""

    ticket: Request
    since: float


@dataclass(frozen=True, slots=True)
class Updating:
    """The job that it waits for updates weights, on the main thread itself."""

    ticket: Request


@dataclass(frozen=True, slots=True)
class Ended:
    """All operations are done."""


State = Ready | Computing | Waiting | Updating | Ended


@final
class MainThread:
    """Runs a rank's operations in order.

    Parameters
    ----------
    spans
        The rank's; passes, waits and steps are appended.
    slowdown
        Returns the factor by which the next pass takes longer.
    """

    def __init__(
        self,
        operations: Iterable[Operation],
        design: Design,
        communication: CommunicationThread,
        *,
        clock: Callable[[], float],
        spans: list[Span],
        slowdown: Callable[[], float],
    ):
        self.state: State = Ready()
        self.computing_seconds = 0.0
        """Of all passes, had each thread had a core of its own."""
        self.step_ended_s = 0.0
        """End of the last step."""
        self._operations = iter(operations)
        self._design, self._communication = design, communication
        self._clock, self._spans, self._slowdown = clock, spans, slowdown

    def go_on(self) -> list[Instruction]:
        """Take GO_ON: run operations up to one that takes time."""
        assert self._is_ready()
        instructions: list[Instruction] = []
        for operation in self._operations:
            match operation:
                case Compute():
                    self._compute(operation, instructions)
                case Submit():
                    instructions.append(self._communication.submit(operation))
                    if not self._design.overlap:
                        self._wait(operation.ticket, instructions)
                case Wait():
                    self._wait(operation.ticket, instructions)
                case EndStep():
                    self._end_step(operation.number)
            if not self._is_ready():
                return instructions
        self.state = Ended()
        return instructions

    def computed(self) -> list[Instruction]:
        """Take COMPUTED: note the pass and go on."""
        assert isinstance(self.state, Computing)
        operation = self.state.operation
        if operation.direction:
            about = {"layer": operation.node, PASS: operation.direction}
            name = f"{operation.node} {operation.direction}"
            self._spans.append(Span(name, COMPUTE, self.state.since, self._clock(), about))
        self.state = Ready()
        return self.go_on()

    def release(self) -> list[Instruction]:
        """Go on if the job that the thread waits for has ended."""
        if not isinstance(self.state, Waiting) or not self.state.ticket.has_ended():
            return []
        self._note_wait(self.state)
        self.state = Ready()
        return [Schedule(self._clock(), Event.GO_ON)]

    def begin_update(self) -> None:
        """Interrupt a wait: the job that it is for updates weights."""
        assert isinstance(self.state, Waiting)
        self._note_wait(self.state)
        self.state = Updating(self.state.ticket)

    def end_update(self) -> None:
        """Resume the wait."""
        assert isinstance(self.state, Updating)
        self.state = Waiting(self.state.ticket, self._clock())

    def _is_ready(self) -> bool:
        return isinstance(self.state, Ready)

    def _compute(self, operation: Compute, instructions: list[Instruction]) -> None:
        if not operation.seconds:
            return
        seconds = operation.seconds * self._slowdown()
        self.computing_seconds += seconds
        self.state = Computing(operation, self._clock())
        threads = self._design.threads + self._communication.polling_threads()
        instructions.append(Occupy(seconds, threads, Event.COMPUTED))

    def _wait(self, ticket: Request, instructions: list[Instruction]) -> None:
        if not ticket.has_ended():
            self.state = Waiting(ticket, self._clock())
            instructions.append(Schedule(self._clock(), Event.POLL))

    def _end_step(self, number: int) -> None:
        start, now = self.step_ended_s, self._clock()
        self._spans.append(Span(f"step {number}", COMPUTE, start, now, {STEP: number}))
        self.step_ended_s = now

    def _note_wait(self, wait: Waiting) -> None:
        now = self._clock()
        if now > wait.since:
            self._spans.append(Span(wait.ticket.name, WAITS, wait.since, now))
