"""The two threads of a simulated rank, without jobs of a network, for tests of their states."""

from comm.comm_thread import InlineCommThread, Request
from engine.graph.parallel.plan import Plan
from engine.planner.design import Design
from engine.planner.simulation.communication_thread import CommunicationThread
from engine.planner.simulation.messages import Ledger
from engine.planner.simulation.program import Submit
from engine.training.bucket import USUAL_FORM
from tests.engine.planner.clusters import cluster

THREADS = 3


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self):
        return self.now


def request(name="job"):
    return Request(InlineCommThread(), name)


def submit(job, ticket=None, *, priority=0, after=None):
    ticket = ticket or request()
    return Submit(job, ticket, ticket.name, priority, after)


def design(**changes):
    return Design("digits", 2, 64, 16, Plan(), THREADS, **changes)


def communication(
    clock, ledger=None, *, overlap=True, prioritised=True, updates_cost=True, form=USUAL_FORM, **software
):
    """Return a thread whose adds and updates take a second a byte; `software` are changes of that."""
    costs = cluster(**{"add_bytes_per_s": 1.0, "update_bytes_per_s": 1.0, **software}).software
    return CommunicationThread(
        design(overlap=overlap, prioritised=prioritised, form=form),
        costs,
        ledger or Ledger(),
        clock=clock,
        spans=[],
        updates_cost=updates_cost,
    )
