"""Measuring the communication alone changes nothing."""

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommThread
from comm.threads import run_ranks
from comm.tree import Tree
from engine.data.dataset import DataSource
from engine.run import communication_cost
from engine.run.session import run_session
from engine.run.trainer import Trainer
from engine.training.rank_settings import settings_of
from tests.engine.cluster import Samples, changed, make_trainer
from tests.engine.graphs import GRAPHS

STEP_JOBS = ("gather loss", "reduce conv1..fc3", "update conv1..fc3")


def measured(ranks: int, run_seconds: float):
    """Train, measure, and return (seconds, state before, state after) of each rank."""
    graph = GRAPHS["chain"]()
    data = DataSource(Samples.draw(graph.input_shape, graph.output_shape[0], 64), None)

    def rank(world):
        jobs = list[str]()

        def note(name, _start, _end, about):
            if about["kind"] == "job":
                jobs.append(name)

        queue = CommThread(on_span=note)
        collectives = Collectives(world.split(0), Tree.of(ranks, 8))
        recipe = changed()
        trainer = make_trainer(recipe, settings_of(recipe, 1), graph, data, collectives, queue)
        trainer.rank.initialise(recipe.seed)
        run_session(trainer)
        before = state(trainer)
        jobs.clear()
        seconds = communication_cost.communication_alone(
            trainer.rank, trainer.context, world, run_seconds=run_seconds
        )
        counted = tuple(jobs.count(job) for job in STEP_JOBS)
        after = state(trainer)
        queue.close()
        return seconds, counted, before, after

    return run_ranks(ranks, rank)


def state(trainer: Trainer) -> dict[str, np.ndarray]:
    parameters = trainer.rank.parameters
    return parameters.gather_weights() | parameters.gather_moments(keep=True)


def test_weights_and_velocities_stay_the_same_bits():
    for _, _, before, after in measured(3, run_seconds=1e6):
        assert any(array.any() for array in before.values())
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array, err_msg=name)


def test_the_jobs_of_a_step_are_repeated_as_long_as_the_run_was_long():
    for run_seconds, repetitions in ((1e6, communication_cost.REPETITIONS), (0.0, 1)):
        results = measured(2, run_seconds)
        assert {counted for _, counted, _, _ in results} == {(repetitions,) * len(STEP_JOBS)}
        assert len({seconds for seconds, *_ in results}) == 1
        assert results[0][0] > 0


def test_one_rank_has_nothing_to_measure():
    ((seconds, counted, _, _),) = measured(1, run_seconds=1e6)
    assert seconds is None
    assert set(counted) == {0}
