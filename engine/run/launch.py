"""From a start to a finished run: train, and go on without ranks that die, if that is possible."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comm import failure
from comm.clock import Alignment, read_clock
from comm.collectives import Collectives
from comm.communicator import Communicator
from comm.losses import RankLostError
from engine.config.errors import UserError
from engine.config.user_code import no_exit
from engine.profile.trace_file import write_trace
from engine.run.beginning import end_if_asked
from engine.run.building import MakeCollectives, build_trainer
from engine.run.callbacks import Callback
from engine.run.environment import Surroundings, environment
from engine.run.failures import RunEndedError
from engine.run.late_ranks import StoppedWatch
from engine.run.memory_check import no_memory
from engine.run.recovery import Begun, begin_anew, go_on
from engine.run.results import say_goodbye
from engine.run.session import run_session
from engine.run.start import Start
from engine.run.survival import Survival
from engine.training.buddies import Recovered
from layers.layer import Array


@dataclass(frozen=True)
class Finished:
    """A run that is over, on one of its ranks."""

    results: dict[str, Any]
    """The content of `run.json`."""
    folder: Path
    """On the host of rank 0, which alone writes there."""
    weights: dict[str, Array]
    """In standard layout by name; empty unless they were asked for."""


def run(
    world: Communicator,
    resolve: Callable[[], Start],
    *,
    collectives: MakeCollectives | None = None,
    survival: Survival | None = None,
) -> dict[str, Any]:
    """Train what `resolve` returns, as a command that ends with the run, and return the results (collective).

    What one rank alone finds where it cannot save with the others ends the process on all ranks, exit code 2.

    Parameters
    ----------
    survival
        Of `world`, for a caller that wants to know who is left in the end.

    Raises
    ------
    UserError
        On all ranks, with the same message: before the first step, any rank's mistake in what was given; then
        what ended the run, when what was done has been saved.
    """
    survival = survival or Survival(world)
    watch = StoppedWatch(lambda: survival.world)

    def resolved() -> Start:
        start = resolve()
        watch.lost_after = start.recipe.lost_after
        return start

    begun, recovered = None, None
    try:
        with watch.watching():
            while True:
                try:
                    begun = _begun(survival, begun, recovered, resolved)
                    recovered = None
                    with ending_together(survival.world):
                        finished = _train(
                            survival,
                            begun,
                            make_collectives=collectives or Collectives,
                            looked_after=watch.paused,
                        )
                    break
                except RankLostError as error:
                    recovered = survival.recover(error)
                gc.collect()  # before memory is allocated for the ranks that are left
    finally:
        if begun is not None:
            begun.places.release()
    places = begun.places
    if places.folder is not None:
        say_goodbye(begun.prepared.start.shown(places.folder), finished.results, places.trace)
    return finished.results


def _begun(
    survival: Survival, begun: Begun | None, recovered: Recovered | None, resolve: Callable[[], Start]
) -> Begun:
    """Begin a run; let the ranks that are left go on with it, or begin it where some had not (collective)."""
    if survival.losses and all(survival.world.gather_objects(begun is not None)):
        assert begun is not None
        return go_on(survival, begun, recovered, resolve)
    if begun is not None:
        begun.places.undo()
    return begin_anew(survival, resolve)


@contextmanager
def ending_together(world: Communicator) -> Iterator[None]:
    """End the process on all ranks, exit code 2, by what this one alone finds in the middle of a run."""
    try:
        with no_exit("run"):
            yield
    except RunEndedError:
        raise
    except UserError as error:
        failure.fail(world, str(error))
    except MemoryError as error:
        failure.fail(world, no_memory(error))


def run_in_process(
    world: Communicator, resolve: Callable[[], Start], *, callbacks: Sequence[Callback] = ()
) -> Finished:
    """Train what `resolve` returns, in a program that goes on afterwards, and keep the weights (collective).

    Raises
    ------
    UserError
        As in `run`; with one rank also what fails in the middle of the run. Several ranks end together then,
        as the others wait for this one; so they do when one dies.
    """
    survival = Survival(world)
    begun = begin_anew(survival, resolve)
    try:
        with no_exit("run"):
            return _train(survival, begun, callbacks=callbacks, keep_weights=True)
    except RunEndedError:
        raise
    except (UserError, MemoryError) as error:
        message = str(error) if isinstance(error, UserError) else no_memory(error)
        if world.size > 1:
            failure.fail(world, message)
        raise UserError(message) from error
    except Exception as error:  # a bug, or code of the user's
        if world.size > 1:  # the others wait for this rank: a program that catches the error must not go on
            failure.abort_all(world, error)
        raise
    finally:
        begun.places.release()


def _train(
    survival: Survival,
    begun: Begun,
    *,
    make_collectives: MakeCollectives = Collectives,
    callbacks: Sequence[Callback] = (),
    keep_weights: bool = False,
    looked_after: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Finished:
    world, prepared, cores, places = survival.world, begun.prepared, begun.cores, begun.places
    recipe = prepared.start.recipe
    trainer = build_trainer(
        world, prepared, cores, places.folder, check_folder=places.check, make_collectives=make_collectives
    )
    rank, recorder, queue = trainer.rank, trainer.recorder, trainer.rank.queue
    survival.watch(queue, rank.buddies)
    started = read_clock(world) if recipe.trace else None
    if not survival.losses:
        end_if_asked(world, places.undo)
    try:
        around = Surroundings(environment(world, cores), places.warnings, survival.records())
        results = run_session(trainer, callbacks, around=around, looked_after=looked_after)
        with rank.averaged():
            weights = rank.parameters.gather_weights() if keep_weights else {}
    except BaseException:
        if world.size == 1:  # nobody is waited for: the thread must not outlive the run
            queue.close()
        raise
    queue.close()
    if started is not None:
        table = results["where_the_time_went"]
        cost = table["communication_alone_seconds"] if table else None
        alignment = Alignment(started, read_clock(world))
        write_trace(places.trace, world, recorder, alignment, communication_alone=cost)
    if not world.agreed(True):  # the others would wait for this rank to go on with them
        raise RankLostError("a rank has died at the end of the run")
    return Finished(results, begun.folder, weights)
