"""Jobs that run as late as they may: who forgets to wait computes with what was there before."""

import pytest

from comm.comm_thread import CommandQueue, Request
from comm.job import Job
from comm.scheduler import run_job
from engine.graph import Graph, GraphBuilder
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine import cluster
from tests.engine.cluster import changed, train
from tests.toy_layer import Scale


class LatestRequest(Request):
    """A request whose job runs when somebody waits for it."""

    def __init__(self, queue: "LatestQueue", name: str, job: Job, after: Request | None):
        super().__init__(queue, name)
        self._job, self._after = job, after

    def wait(self) -> None:
        if not self.has_ended():
            if self._after is not None:
                self._after.wait()
            run_job(self._job)
            self.end(None)
        super().wait()


class LatestQueue(CommandQueue):
    """Runs a job when it is waited for, or when one is that follows it; else when the queue is closed."""

    def __init__(self, **_hooks: object) -> None:
        super().__init__()
        self._requests: list[LatestRequest] = []

    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        self._requests.append(LatestRequest(self, name, job, after))
        return self._requests[-1]

    def close(self) -> None:
        for request in self._requests:
            request.wait()


def network() -> Graph:
    """Return a network with state, and with a layer that a plan may split."""
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(16, 3, padding=1))
    net.add("scale1", Scale())
    net.add("relu1", ReLU())
    net.add("flatten", Flatten())
    net.add("fc2", Linear(128))
    net.add("relu2", ReLU())
    net.add("fc3", Linear(10, gain=1.0))
    return net.graph()


@pytest.mark.parametrize("plan", ["data", "fc2=2"])
@pytest.mark.parametrize("bucket_floats", [0, 1 << 20])
def test_jobs_that_run_as_late_as_they_may_change_no_bit(monkeypatch, plan, bucket_floats):
    graph, recipe = network(), changed(overlap=False, steps=3, plan=plan)
    at_once, _ = train(2, graph, recipe, bucket_floats=bucket_floats)
    monkeypatch.setattr(cluster, "InlineCommThread", LatestQueue)
    late, _ = train(2, graph, recipe, bucket_floats=bucket_floats)
    for name in ("weights_sha256", "state_sha256", "final_loss"):
        assert late[name] == at_once[name]
