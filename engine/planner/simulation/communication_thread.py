"""The communication thread of a simulated rank, a state machine around the engine's own scheduler.

===========  =====  ===================================================================================
State        Event  Transition
===========  =====  ===================================================================================
``Polling``  POLL   Take turns of `comm.scheduler.Scheduler`, in no time, until a turn costs processor
                    time: ``Paying``, which occupies a core; or until no job progresses: still ``Polling``.
``Paying``   POLL   None; PAID polls again.
``Paying``   PAID   ``Polling``, and on as with POLL.
===========  =====  ===================================================================================

POLL comes when a job is submitted, when the main thread begins to wait, when a message arrives, and, while
there are jobs, when one may have stalled (`comm.scheduler.STALL_S`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from comm.comm_thread import Request
from comm.job import Job
from comm.scheduler import STALL_S, Scheduler
from engine.planner.cluster import Software
from engine.planner.design import Design
from engine.planner.simulation.instructions import Event, Instruction, Occupy, Schedule
from engine.planner.simulation.messages import Ledger
from engine.planner.simulation.program import Submit
from engine.profile.recorder import COMMUNICATION, COMPUTE, PASS, UPDATE, Span
from engine.training.bucket import USUAL_FORM
from engine.training.update import Update
from layers.layer import Array

_SOON_S = 1e-9  # by how much later a stall is looked for than the scheduler's limit, so that it has passed


@dataclass(frozen=True, slots=True)
class Polling:
    """It takes a turn when something may have changed."""


@dataclass(frozen=True, slots=True)
class Paying:
    """What its jobs have computed, copied and posted occupies a core."""

    since: float
    updates: bool
    """Whether part of it is an update of weights."""


State = Polling | Paying


@final
class CommunicationThread:
    """Advances jobs, and spends the processor time that they cost.

    Parameters
    ----------
    ledger
        Of the rank's communicators.
    spans
        The rank's; jobs, rounds and updates are appended.
    updates_cost
        Whether updates of weights take time.
    """

    def __init__(
        self,
        design: Design,
        software: Software,
        ledger: Ledger,
        *,
        clock: Callable[[], float],
        spans: list[Span],
        updates_cost: bool,
    ):
        self.state: State = Polling()
        self.job_ended_s = 0.0
        """End of the last job."""
        self._design, self._software, self._ledger = design, software, ledger
        self._clock, self._spans, self._updates_cost = clock, spans, updates_cost
        self._scheduler = Scheduler(
            bytes_in_flight=design.bytes_in_flight,
            on_span=self._note_span,
            on_failure=_raise,
            clock=clock,
        )
        self._updates = False  # whether the ledger's processor time is partly for updates
        self._stall_check_s = 0.0  # the last one scheduled

    def submit(self, operation: Submit) -> Schedule:
        """Take on a job."""
        after = operation.after
        self._scheduler.add(
            self._charged(operation.job),
            partial(self._end_job, operation.ticket),
            name=operation.name,
            priority=operation.priority if self._design.prioritised else 0,
            may_start=None if after is None else after.has_ended,
        )
        return Schedule(self._clock(), Event.POLL)

    def polling_threads(self) -> float:
        """Return the share of a core that looking for messages takes while the main thread computes."""
        return self._software.polling if self._design.overlap and self._scheduler.busy else 0.0

    def turn(self) -> list[Instruction] | None:
        """Advance one job and begin to pay for what it costs; return None if no job can progress."""
        assert isinstance(self.state, Polling)
        if not self._scheduler.turn():
            return None
        instructions: list[Instruction] = [*self._ledger.arrivals]
        self._ledger.arrivals.clear()
        if self._ledger.processor_s:
            self.state = Paying(self._clock(), self._updates)
            instructions.append(Occupy(self._ledger.processor_s, 1, Event.PAID))
            self._ledger.processor_s, self._updates = 0.0, False
        return instructions

    def paid(self) -> None:
        """Take PAID: note an update; the thread may poll again."""
        assert isinstance(self.state, Paying)
        if self.state.updates:
            row = COMMUNICATION if self._design.overlap else COMPUTE
            self._spans.append(Span(UPDATE, row, self.state.since, self._clock(), {PASS: UPDATE}))
        self.state = Polling()

    def check_for_stall(self) -> list[Instruction]:
        """Schedule a look at jobs without progress, if there are any and none is scheduled."""
        if not self._scheduler.busy or self._stall_check_s > self._clock():
            return []
        self._stall_check_s = self._clock() + STALL_S + _SOON_S
        return [Schedule(self._stall_check_s, Event.POLL)]

    @property
    def update(self) -> Update:
        """Charges for updates of weights, and for norms, where training would make them."""
        streams = self._design.form.streams
        return Update(
            apply=lambda piece: self._charge_update(piece.weights, streams),
            direct=lambda piece: self._charge_update(piece.weights, streams),
            add_squares=lambda values, _: self._charge_update(values, 1),
        )

    def _charge_update(self, values: Array, streams: int) -> None:
        """Charge for values that so many times are read or written."""
        if self._updates_cost:
            share = streams / USUAL_FORM.streams
            self._ledger.processor_s += share * values.nbytes / self._software.update_bytes_per_s
            self._updates = True

    def _charged(self, job: Job) -> Job:
        """Yield a job's rounds, with the processor time of their additions in the place of the additions."""
        for each in job:
            if each is None or each.then is None:
                yield each
            else:
                received = sum(message.array.nbytes for message in each.receives)
                seconds = (received + each.bytes_read) / self._software.add_bytes_per_s
                self._ledger.bytes_sent += each.bytes_read  # to this rank, and as much from it
                yield replace(each, then=partial(self._charge, seconds))

    def _charge(self, seconds: float) -> None:
        self._ledger.processor_s += seconds

    def _end_job(self, ticket: Request, error: BaseException | None) -> None:
        ticket.end(error)
        self.job_ended_s = self._clock()

    def _note_span(self, name: str, start: float, end: float, about: dict[str, Any]) -> None:
        self._spans.append(Span(name, COMMUNICATION, start, end, about))


def _raise(error: BaseException) -> None:
    raise error
