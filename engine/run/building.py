"""Build one rank's trainer: its queue, its rank with weights, its kernel threads."""

import socket
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from comm import failure, terminal
from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, CommThread, InlineCommThread
from comm.communicator import Communicator
from comm.grid import Grid
from comm.losses import RankLostError
from engine.config.recipe import FLOATS_PER_KIB, Recipe
from engine.host.affinity import Cores, data_threads, machine_name
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import timed
from engine.run.compiling import compilation_said
from engine.run.prepare import Prepared
from engine.run.saver import Task
from engine.run.trainer import Trainer
from engine.training.rank import build_rank
from engine.training.rank_settings import settings_of
from layers.kernels.float_mode import set_float_mode
from layers.kernels.threads import Threads

_SMALL_FLOATS = 1 << 18
"""Parameters of a network whose gradients move between the ranks of a host in a fraction of a millisecond."""

MakeCollectives = Callable[..., Collectives]
"""What a benchmark puts in place of the class `Collectives`."""


def build_trainer(
    world: Communicator,
    prepared: Prepared,
    cores: Cores,
    folder: Path | None,
    *,
    check_folder: Callable[[], None],
    make_collectives: MakeCollectives = Collectives,
) -> Trainer:
    """Return this rank's trainer, ready for its first step (collective).

    Parameters
    ----------
    folder, check_folder
        As in `Trainer`.
    """
    recipe = prepared.start.recipe
    threads = threads_of(world, recipe, cores)
    recorder = Recorder(keep=bool(recipe.trace))
    set_float_mode()  # the communication thread, which updates weights, inherits it
    spare_core = cores.available >= (threads + 1) * cores.ranks
    alone_here = cores.ranks == world.size
    small = prepared.graph.parameter_count() <= _SMALL_FLOATS
    queue = _queue(
        world, recipe, recorder, spare_core=spare_core, patient=alone_here and small and not spare_core
    )
    try:
        collectives = make_collectives(
            world.split(0),
            prepared.tree,
            chunk_floats=recipe.chunk_kib * FLOATS_PER_KIB,
            shared_memory=recipe.shared_memory,
        )
        rank = build_rank(
            prepared.graph,
            settings_of(
                recipe,
                threads,
                data_threads=recipe.data_threads or data_threads(cores.available // cores.ranks, threads),
                survives=prepared.survives,
            ),
            prepared.plan,
            Grid.of(collectives, prepared.plan.parts),
            queue,
            wrap=partial(timed, recorder=recorder),
            hosts=_hosts(world) if prepared.survives else (),
        )
    except RankLostError as error:
        queue.abandon(error)
        raise
    with compilation_said() if world.rank == 0 else nullcontext():
        workers = Threads(threads, cores.pinned(threads))
    trainer = Trainer(
        rank,
        Task(
            recipe,
            prepared.data,
            prepared.code,
            prepared.model_code,
            init=prepared.init,
            history=prepared.start.state.history if prepared.start.state else (),
            started_in=prepared.start.started_in,
            notes=prepared.notes,
        ),
        workers,
        control=world,
        recorder=recorder,
        folder=folder,
        check_folder=check_folder,
    )
    if prepared.start.state is None:
        taken = prepared.initial.taken if prepared.initial else {}
        rank.initialise(recipe.seed, taken)
        taken.clear()
    else:
        trainer.restore(
            prepared.start.state, prepared.tensors, saved_step=prepared.saved_step, record=prepared.record
        )
        prepared.tensors.clear()
    return trainer


def _hosts(world: Communicator) -> list[str]:
    """Return what names the host of each rank, also where several are simulated on a machine (collective)."""
    return world.gather_objects(f"{machine_name()} {socket.gethostname()}")


def threads_of(world: Communicator, recipe: Recipe, cores: Cores) -> int:
    """Return the kernel threads of a rank."""
    return recipe.threads or cores.threads(beside=recipe.overlap and world.size > 1)


def _queue(
    world: Communicator, recipe: Recipe, recorder: Recorder, *, spare_core: bool, patient: bool
) -> CommandQueue:
    on_failure = failure.abort_on_error(world)
    on_span = recorder.communication if recorder.keep else None
    if recipe.overlap:
        try:
            return CommThread(spare_core=spare_core, patient=patient, on_failure=on_failure, on_span=on_span)
        except RuntimeError:  # as many threads as the system allows
            terminal.say("warning: no communication thread can be started here: nothing is overlapped")
    return InlineCommThread(on_failure=on_failure, on_span=on_span)
