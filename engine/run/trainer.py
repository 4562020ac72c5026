"""The training loop of one rank: steps, evaluation, checkpoints."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue
from comm.communicator import Communicator
from comm.grid import Grid
from comm.threads import alone
from engine.config.recipe import FLOATS_PER_KIB, Recipe
from engine.config.wording import counted
from engine.data.augment import Augment
from engine.data.dataset import DataSource
from engine.data.loader import Batch, Loader
from engine.data.sampler import Sampler
from engine.graph import Graph
from engine.graph.parallel.overlapped_exchange import hide_exchanges
from engine.graph.passes.convolution import set_convolutions
from engine.host.aligned_arrays import blocks, touch
from engine.host.peak_memory import peak_resident_bytes
from engine.host.stop_signals import stop_signals
from engine.host.unpinned import run_anywhere
from engine.planner.auto import resolve
from engine.profile.breakdown import Breakdown, combine
from engine.profile.recorder import Recorder
from engine.profile.step_clock import StepClock, Timing, median
from engine.profile.timed_layer import time_layers
from engine.run.checkpoint import State, save_checkpoint
from engine.run.communication_cost import communication_alone
from engine.run.evaluator import evaluate
from engine.run.log import RunLog
from engine.run.run_folder import writing
from engine.training.all_passes import assemble
from engine.training.loss import Loss
from engine.training.memory import Memory
from engine.training.optimizer import SGD
from engine.training.rank_parameters import Model
from engine.training.schedule import Schedule
from engine.training.step import train_step
from layers.kernels.jit import cache_is_cold
from layers.kernels.threads import Threads
from layers.layer import Array, Context

_TOUCHED_BYTES = 1 << 26  # by one thread at a time


@dataclass
class Progress:
    """How far a run has come; the results are the same on all ranks."""

    step: int
    saved_step: int
    evaluated_step: int = -1
    interrupted: bool = False
    results: dict[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("final_loss", "test_loss", "test_accuracy"))
    )
    timings: list[Timing] = field(default_factory=list)


class Trainer:
    """One rank's part of a run.

    Parameters
    ----------
    collectives, queue
        How this rank talks to the others; only jobs of `queue` may use `collectives`.
    cores : tuple of int or None
        The cores that the kernel threads stay on, this one too until the end of `train`.
    folder : Path or None
        The run's folder; only rank 0 has one.
    control
        For the main thread's own small agreements; None: this rank tells of its own time only.
    recorder
        Where this rank's time goes.
    bucket_floats
        See `Model`; None: what the recipe says.
    """

    def __init__(
        self,
        recipe: Recipe,
        graph: Graph,
        data: DataSource,
        collectives: Collectives,
        queue: CommandQueue,
        *,
        threads: int,
        cores: tuple[int, ...] | None = None,
        folder: Path | None = None,
        control: Communicator | None = None,
        recorder: Recorder | None = None,
        bucket_floats: int | None = None,
    ):
        self.recipe, self.data, self.folder = recipe, data, folder
        self.collectives, self.queue = collectives, queue
        self.control, self.recorder = control or alone(), recorder or Recorder()
        self.recorder.watch(queue)
        self._parameters = graph.parameter_count()
        cut = set_convolutions(graph, recipe.conv, recipe.conv_feature_leaves)
        ranks = collectives.communicator.size
        self.plan = resolve(recipe.plan, cut, ranks=ranks, batch=recipe.batch, cluster=recipe.cluster)
        grid = Grid.of(collectives, self.plan.parts)
        self.sampler = Sampler(len(data.train), recipe.batch, recipe.seed)
        self.total_steps = recipe.total_steps(self.sampler.steps_per_epoch)
        graph = time_layers(assemble(graph, recipe, self.plan, grid, queue), self.recorder)
        graph = hide_exchanges(graph)
        if bucket_floats is None:
            bucket_floats = recipe.bucket_kib * FLOATS_PER_KIB
        self.model = Model(graph, grid, queue, bucket_floats=bucket_floats)
        self.memory = Memory(self.model, recipe.batch, grid, threads)
        self.loss = Loss(self.memory, recipe.batch, collectives, queue)
        self.context = Context(Threads(threads, cores), seed=recipe.seed)
        self.optimizer = SGD(**vars(recipe.optimizer))
        self.schedule = _schedule(recipe, self.sampler.steps_per_epoch, self.total_steps)
        self.progress = Progress(0, 0)

    def initialise(self) -> None:
        """Start from the seed.

        The rest of the memory is touched for the first time meanwhile: to find it takes the system about as
        long as one thread takes to draw the largest layer.
        """
        arrays = (*self.memory.arrays(), *self.model.arrays())
        work = self.model.draws(self.recipe.seed)
        work += [partial(touch, block) for block in blocks(arrays, _TOUCHED_BYTES)]
        with ThreadPoolExecutor(self.context.threads.count, initializer=run_anywhere) as pool:
            done = [pool.submit(each) for each in work]
        for each in done:
            each.result()

    def restore(self, state: State, tensors: dict[str, Array]) -> None:
        """Start from a checkpoint."""
        self.model.restore(tensors)
        self.progress = Progress(state.step, state.step)

    def train(self) -> dict[str, Any]:
        """Run all steps that are left and return what `run.json` holds (collective).

        The first SIGINT or SIGTERM of any rank ends the run after the step that all ranks are in, with
        a checkpoint; the result then has ``interrupted: true``. When all steps are done it changes
        nothing. A second one raises KeyboardInterrupt.
        """
        started, first = time.perf_counter(), self.progress.step
        with (
            RunLog(self.folder, total_steps=self.total_steps, first_step=first) as log,
            closing(self.context.threads),
            stop_signals() as stop,
        ):
            self._say_hello(log)
            self._run_steps(log, stop)
            self._finish(log)
            seconds = time.perf_counter() - started
            results = self._describe(seconds, self._where_the_time_went(seconds))
            log.finish(results)
        return results

    def _run_steps(self, log: RunLog, stop: list[int]) -> None:
        first = self.progress.step
        left = islice(self.sampler.training(first), self.total_steps - first)
        shares = (share.rows(self.memory.mine) for share in left)
        augment, seed = Augment.parse(self.recipe.augment), self.recipe.seed
        seen = self.recorder
        with Loader(
            self.data.train, shares, augment=augment, seed=seed, on_wait=seen.wait_for_data, on_load=seen.load
        ) as loader:
            clock = StepClock(self.queue, lambda: loader.wait_seconds, seen)
            for batch, minibatch in zip(loader, self.sampler.training(first), strict=False):  # endless
                self.memory.minibatch[:] = minibatch.samples
                self._step(batch, clock, log, stop=bool(stop))
                if self.progress.interrupted:
                    break
                if self._end_of_step(log):
                    clock.restart()

    def _finish(self, log: RunLog) -> None:
        """Save and evaluate what the last step has left to do."""
        progress = self.progress
        self.model.wait()
        if progress.saved_step != progress.step and (self._saves() or progress.interrupted):
            self._save()
        if progress.evaluated_step != progress.step and not progress.interrupted:
            self._evaluate(log)

    def _step(self, batch: Batch, clock: StepClock, log: RunLog, *, stop: bool) -> None:
        """Train on one minibatch; all ranks learn whether one of them wants to stop."""
        progress, context = self.progress, self.context
        rate = self.schedule.at(progress.step)
        context.step = progress.step

        def update(weights: Array, gradients: Array, velocity: Array) -> None:
            with self.recorder.updating():
                self.optimizer.update(weights, gradients, velocity, rate)

        train_step(self.model, self.memory, batch, self.loss, context, update, stop=stop)
        outcome = self.loss.wait()
        timing = clock.lap(progress.step + 1)
        progress.timings.append(timing)
        progress.step += 1
        progress.interrupted = outcome.stop and progress.step < self.total_steps
        progress.results["final_loss"] = outcome.loss / self.recipe.batch
        log.step(
            {
                "step": progress.step,
                "epoch": batch.epoch,
                "loss": progress.results["final_loss"],
                "accuracy": outcome.correct / self.recipe.batch,
                "rate": rate,
                "seconds": timing.step,
                "exposed_communication_seconds": timing.exposed_communication,
                "data_wait_seconds": timing.data_wait,
                "samples_per_second": self.recipe.batch / timing.step,
            }
        )

    def _end_of_step(self, log: RunLog) -> bool:
        """Save and evaluate where the recipe says so; return whether anything was done.

        In this order: an unreadable test image costs no training.
        """
        step, recipe = self.progress.step, self.recipe
        epoch, inside = divmod(step, self.sampler.steps_per_epoch)
        evaluates = inside == 0 and _due(epoch, recipe.evaluate_every)
        saves = _due(step, recipe.checkpoint_steps) or (inside == 0 and _due(epoch, recipe.checkpoint_every))
        if saves:
            self._save()
        if evaluates:
            self._evaluate(log)
        return evaluates or saves

    def _saves(self) -> bool:
        return self.recipe.checkpoint_every > 0 or self.recipe.checkpoint_steps > 0

    def _evaluate(self, log: RunLog) -> None:
        self.progress.evaluated_step = self.progress.step
        if self.data.test is None:
            return
        with self.recorder.doing("evaluation"):
            own = self.model, self.memory, self.loss, self.context
            loss, accuracy = evaluate(*own, self.data.test, self.recipe.batch, self.collectives, self.queue)
        self.progress.results |= {"test_loss": loss, "test_accuracy": accuracy}
        epoch = self.progress.step / self.sampler.steps_per_epoch
        log.epoch({"epoch": epoch, "step": self.progress.step, **self.progress.results})

    def _save(self) -> None:
        """Write a checkpoint (collective: the velocities come from all ranks)."""
        with self.recorder.doing("checkpoint"):
            self.model.wait()
            velocities = self.model.standard_velocities(keep=self.folder is not None)
            weights = self.model.standard(keep=self.folder is not None)
            if self.folder is not None:
                state = State(self.progress.step, self.recipe.to_toml(), self.data.identity)
                with writing(self.folder):
                    save_checkpoint(self.folder, state, weights, velocities)
        self.progress.saved_step = self.progress.step

    def _say_hello(self, log: RunLog) -> None:
        recipe = self.recipe
        log.say(
            f"{recipe.model} on {recipe.data}: {self._parameters:,} parameters, "
            f"minibatch {recipe.batch} in {recipe.leaves} leaves, "
            f"steps {self.progress.step} to {self.total_steps}; "
            f"{counted(self.collectives.communicator.size, 'rank')} x "
            f"{counted(self.context.threads.count, 'thread')}, overlap {'on' if recipe.overlap else 'off'}, "
            f"plan {self.plan}"
        )
        if self.sampler.dropped:
            log.say(
                f"{len(self.data.train)} training samples: {self.sampler.steps_per_epoch} steps an epoch; "
                f"the {self.sampler.dropped} samples of the incomplete last minibatch are dropped, "
                "others each epoch"
            )
        if cache_is_cold():
            log.say("compiling kernels (first run on this machine)")

    def _where_the_time_went(self, run_seconds: float) -> Breakdown | None:
        cost = None
        if not self.progress.interrupted:
            with self.recorder.doing("communication alone"):
                cost = communication_alone(
                    self.model, self.memory, self.loss, self.context, self.control, run_seconds=run_seconds
                )
        return combine(self.control.gather_objects(self.recorder.steady()), cost)

    def _describe(self, seconds: float, breakdown: Breakdown | None) -> dict[str, Any]:
        recipe, progress = self.recipe, self.progress
        timing = median(progress.timings)
        held = self.control.gather_objects((self.model.parameter_bytes, peak_resident_bytes()))
        return {
            "model": recipe.model,
            "data": recipe.data,
            "ranks": self.collectives.communicator.size,
            "threads": self.context.threads.count,
            "batch": recipe.batch,
            "leaves": recipe.leaves,
            "plan": str(self.plan),
            "overlap": recipe.overlap,
            "seed": recipe.seed,
            "steps": progress.step,
            "epochs": progress.step / self.sampler.steps_per_epoch,
            "parameters": self._parameters,
            "samples_per_second": recipe.batch / timing.step if timing else None,
            **progress.results,
            "interrupted": progress.interrupted,
            "weights_sha256": self.model.weights_sha256(),
            "step_seconds_median": timing.step if timing else None,
            "exposed_communication_seconds_median": timing.exposed_communication if timing else None,
            "data_wait_seconds_median": timing.data_wait if timing else None,
            "seconds_total": seconds,
            "parameter_bytes_by_rank": [parameters for parameters, _ in held],
            "peak_resident_bytes_by_rank": [peak for _, peak in held],
            "where_the_time_went": breakdown.to_json() if breakdown else None,
        }


def _schedule(recipe: Recipe, steps_per_epoch: int, total: int) -> Schedule:
    fields = recipe.schedule
    return Schedule(
        kind=fields.kind,
        rate=fields.rate,
        warmup=round(fields.warmup_epochs * steps_per_epoch),
        milestones=tuple(round(milestone * steps_per_epoch) for milestone in fields.milestones),
        factor=fields.factor,
        total=total,
    )


def _due(count: int, every: int) -> bool:
    return every > 0 and count % every == 0
