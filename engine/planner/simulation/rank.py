"""One rank of a cluster in simulation: a main thread, and a communication thread."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, final

from comm.job import Job
from comm.scheduler import STALL_S, Scheduler
from engine.planner.costs import Costs
from engine.planner.design import Design, Members
from engine.planner.simulation.events import Cores
from engine.planner.simulation.messages import Medium, SimulatedCommunicator
from engine.planner.simulation.program import (
    Compute,
    EndStep,
    Operation,
    Submit,
    Ticket,
    Wait,
    record,
)
from engine.profile.recorder import COMMUNICATION, COMPUTE, PASS, STEP, UPDATE, WAITS, Span
from layers.layer import Array

_SOON_S = 1e-9  # later than a limit that has to be over


@final
class SimulatedRank:
    """A main thread that goes through its operations, and a communication thread that polls a scheduler."""

    def __init__(
        self,
        rank: int,
        design: Design,
        costs: Costs,
        medium: Medium,
        cores: Cores,
        *,
        steps: int,
        slower: Callable[[], float],
        computes: bool,
    ):
        self.spans, self.bytes_sent, self.computing_seconds = list[Span](), 0, 0.0
        self.has_ended, self.ended_s = False, 0.0  # of the last step and the last job
        self._design, self._events, self._cores = design, medium.events, cores
        self._software, self._slower, self._computes = costs.cluster.software, slower, computes
        self._scheduler = Scheduler(
            bytes_in_flight=design.bytes_in_flight,
            on_span=self._note_communication,
            on_failure=_give_up,
            clock=self._events.clock,
        )
        group, part = divmod(rank, design.plan.parts)
        members = Members(
            *(
                SimulatedCommunicator(medium, self, rank, name, ranks)
                for name, ranks in (
                    ("world", range(design.ranks)),
                    (f"group {group}", range(rank - part, rank - part + design.plan.parts)),
                    (f"part {part}", range(part, design.ranks, design.plan.parts)),
                )
            )
        )
        operations = record(design, costs, members, self._update, steps=steps)
        if not computes:
            operations = [each for each in operations if not isinstance(each, Compute)]
        self._operations: Iterator[Operation] = iter(operations)
        self._step_start = 0.0
        self._computing = False
        self._waits_for: Ticket | None = None
        self._wait_start = 0.0
        self._released = False
        self._owed = self._owed_update = 0.0  # processor time of the thread since it last paid
        self._paying = False
        self._stall_check = 0.0

    # the main thread

    def go_on(self) -> None:
        """Run operations up to one that takes time."""
        for operation in self._operations:
            if self._takes_time(operation):
                return
        self.has_ended = True

    def _takes_time(self, operation: Operation) -> bool:
        """Start an operation; say whether `go_on` will be called when it is done."""
        match operation:
            case Compute():
                return self._compute(operation)
            case Submit():
                self._submit(operation)
                return not self._design.overlap and self._wait(operation.ticket)
            case Wait():
                return self._wait(operation.ticket)
            case EndStep():
                self._end_step(operation.number)
                return False

    def _compute(self, operation: Compute) -> bool:
        if not operation.seconds:
            return False
        seconds = operation.seconds * self._slower()
        self.computing_seconds += seconds
        self._computing = True
        polls = self._design.overlap and self._scheduler.busy
        threads = self._design.threads + (self._software.polling if polls else 0.0)
        self._cores.start(seconds, threads, partial(self._computed, operation, self._events.now))
        return True

    def _computed(self, operation: Compute, start: float) -> None:
        self._computing = False
        if operation.direction:
            about = {"layer": operation.node, PASS: operation.direction}
            name = f"{operation.node} {operation.direction}"
            self.spans.append(Span(name, COMPUTE, start, self._events.now, about))
        self.go_on()

    def _submit(self, operation: Submit) -> None:
        after = operation.after
        self._scheduler.add(
            self._charged(operation.job),
            partial(self._end_job, operation.ticket),
            name=operation.name,
            priority=operation.priority if self._design.prioritised else 0,
            may_start=None if after is None else after.has_ended,
        )
        self._events.at(self._events.now, self._poll)

    def _wait(self, ticket: Ticket) -> bool:
        if ticket.has_ended():
            return False
        self._waits_for, self._wait_start = ticket, self._events.now
        self._events.at(self._events.now, self._poll)
        return True

    def _end_step(self, number: int) -> None:
        now = self._events.now
        self.spans.append(Span(f"step {number}", COMPUTE, self._step_start, now, {STEP: number}))
        self._step_start = self.ended_s = now

    # the communication thread

    def _poll(self) -> None:
        """Let the scheduler do what it can; processor time is paid for before it goes on."""
        if self._paying:
            return
        while self._scheduler.turn():
            if self._owed:
                self._pay()
                return
            self._release()
        self._release()
        if self._scheduler.busy and self._stall_check <= self._events.now:
            self._stall_check = self._events.now + STALL_S + _SOON_S
            self._events.at(self._stall_check, self._poll)

    def _pay(self) -> None:
        self._paying = True
        owed, updated = self._owed, self._owed_update
        self._owed = self._owed_update = 0.0
        start = self._events.now
        inline = not self._design.overlap
        if updated and inline:
            self._end_wait()

        def paid() -> None:
            self._paying = False
            if updated:
                row = COMPUTE if inline else COMMUNICATION
                self.spans.append(Span(UPDATE, row, start, self._events.now, {PASS: UPDATE}))
                self._wait_start = self._events.now if inline else self._wait_start
            self._release()
            self._poll()

        self._cores.start(owed, 1, paid)

    def _end_job(self, ticket: Ticket, error: BaseException | None) -> None:
        assert error is None
        ticket.end(None)
        self.ended_s = self._events.now
        self._released = self._released or ticket is self._waits_for

    def _release(self) -> None:
        """Let the main thread go on if what it waits for has ended."""
        if self._released:
            self._end_wait()
            self._released, self._waits_for = False, None
            self._events.at(self._events.now, self.go_on)

    def _end_wait(self) -> None:
        if self._waits_for is not None and self._events.now > self._wait_start:
            self.spans.append(Span(self._waits_for.name, WAITS, self._wait_start, self._events.now))

    def _charged(self, job: Job) -> Job:
        """Let a job cost processor time where it would compute."""
        for step in job:
            if step is None or step.then is None:
                yield step
            else:
                received = sum(message.array.nbytes for message in step.receives)
                seconds = (received + step.bytes_read) / self._software.add_bytes_per_s
                self.bytes_sent += step.bytes_read  # to this rank, and as much from it
                yield replace(step, then=partial(self.charge, seconds))

    def _update(self, weights: Array, _gradients: Array, _velocity: Array) -> None:
        if self._computes:
            seconds = weights.nbytes / self._software.update_bytes_per_s
            self._owed += seconds
            self._owed_update += seconds

    def charge(self, seconds: float) -> None:
        """Add to the processor time of the communication thread."""
        self._owed += seconds

    def arrives(self, moment: float) -> None:
        """Look at messages when they have come, or somewhat later while nobody waits for them."""
        late = self._software.poll_s if self._computing and self._design.overlap else 0.0
        self._events.at(moment + late, self._poll)

    def _note_communication(self, name: str, start: float, end: float, about: dict[str, Any]) -> None:
        self.spans.append(Span(name, COMMUNICATION, start, end, about))


def _give_up(error: BaseException) -> None:
    raise error
