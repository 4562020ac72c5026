"""The training loop of one rank: steps, evaluation, checkpoints."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from comm.communicator import Communicator
from engine.config.recipe import SKIP
from engine.data.augment import Augment
from engine.data.labels import loss_weights
from engine.data.loader import Batch, Loader
from engine.data.mix import Mix
from engine.data.sampler import Sampler
from engine.data.weighted_sampling import weighted_sampling
from engine.data.windows import Windows
from engine.host.stop_signals import StopRequest
from engine.profile.recorder import Recorder
from engine.profile.step_clock import StepClock
from engine.run import weight_checks
from engine.run.bad_samples import BadSamples
from engine.run.best import Best, Comparison
from engine.run.callbacks import Callbacks
from engine.run.evaluator import Evaluator
from engine.run.failures import Failures
from engine.run.log import RunLog
from engine.run.on_nan import OnNan
from engine.run.progress import Progress
from engine.run.reading import own_shares, read_minibatch
from engine.run.saver import Saver, Task
from engine.run.state import State
from engine.training.average import share_of
from engine.training.held import Tensors
from engine.training.loss import LostSamplesError
from engine.training.optimizer import averaging, optimizer_of
from engine.training.rank import Rank
from engine.training.schedule import schedule_of
from engine.training.step import train_step
from engine.training.update import Piece, Update
from layers.kernels.threads import Threads
from layers.layer import Context


@dataclass(frozen=True)
class Kept:
    """What the ranks know of a run beside weights and state, the same on all."""

    epoch_loss: float | None
    best: Best | None
    record: dict[str, Any] | None
    """Of the step; None before the first."""


class Trainer:
    """One rank's part of a run.

    Parameters
    ----------
    rank
        With its weights: initialised, or else `restore` follows.
    task
        The recipe and the data.
    threads
        The kernel threads.
    control
        For the main thread's own small agreements, beside the jobs of `rank.queue`.
    recorder
        Records where this rank's time goes; the layers of `rank` are timed by it.
    folder : Path or None
        The run's folder; only rank 0 has one.
    check_folder
        Raises UserError where that is another run's by now.
    """

    def __init__(
        self,
        rank: Rank,
        task: Task,
        threads: Threads,
        *,
        control: Communicator,
        recorder: Recorder,
        folder: Path | None = None,
        check_folder: Callable[[], None] = lambda: None,
    ):
        recipe, data = task.recipe, task.data
        self.rank, self.task, self.recipe, self.data = rank, task, recipe, data
        self.control, self.recorder, self.folder = control, recorder, folder
        self.check_folder = check_folder
        recorder.watch(rank.queue)
        self.context = Context(threads, seed=recipe.seed)
        self.class_weights = loss_weights(recipe.class_weights, data.train)
        rank.loss.weigh(self.class_weights)
        weighted = weighted_sampling(recipe.sampling, data.train)
        windows = Windows(recipe.shuffle_window, recipe.leaves) if recipe.shuffle_window else None
        self.sampler = Sampler(len(data.train), recipe.batch, recipe.seed, weighted, windows)
        self.total_steps = recipe.total_steps(self.sampler.steps_per_epoch)
        self.progress = Progress(0, 0)
        self._optimizer = optimizer_of(recipe.optimizer)
        self._schedule = schedule_of(recipe, self.sampler.steps_per_epoch, self.total_steps)
        self._evaluator = Evaluator(rank, self.context)
        self.failures = Failures(control)
        self.bad_samples = BadSamples()
        self._skips_bad = recipe.on_bad_sample == SKIP
        self.comparison = Comparison(recipe.metric, recipe.stop_after)
        self._saved_best: Best | None = None
        self._unlogged: dict[str, Any] | None = None
        self._is_asked_to_end: Callable[[], bool] = lambda: False
        self._is_last: Callable[[Mapping[str, Any]], bool] = self._look
        self.saver = Saver(rank, task, control, folder, check_folder=check_folder)
        self._on_nan = OnNan(recipe.on_nan, rank, control, self.saver.agreed_step)
        self._warn: Callable[[str], None] = lambda _line: None

    def restore(
        self,
        state: State,
        tensors: Tensors,
        *,
        saved_step: int | None = None,
        record: dict[str, Any] | None = None,
    ) -> None:
        """Start from a checkpoint, or from copies in memory.

        Parameters
        ----------
        saved_step
            Of the newest checkpoint on the disk, where that is not this one; 0: there is none.
        record
            Of the step, to be logged if nobody has.
        """
        self.rank.restore(tensors)
        saved = state.step if saved_step is None else saved_step
        self.progress = Progress(state.step, saved, epoch_loss=state.epoch_loss)
        self._saved_best = state.best
        self._unlogged = record

    def train(self, log: RunLog, called: Callbacks, stop: StopRequest) -> None:
        """Run all steps that are left, with evaluations and checkpoints (collective).

        A stop request of any rank, by signal or callback, ends the run after the step that all ranks are in,
        with a checkpoint; `progress.interrupted` says so. When all steps are done it changes nothing.

        So does what fails between steps, such as a sample that cannot be read; a full disk does
        so at the end only. A stop request cuts an evaluation short, which is made when the run goes on.

        Raises
        ------
        RunEndedError
            On all ranks: a rank has failed, or loss or weights are not finite. What was done is saved, unless
            it is not finite.
        """
        self._is_asked_to_end, self._warn = (lambda: stop.made or called.stopped), log.warn
        with self.saver.saving(self.progress.saved_step, warn=log.warn, say=log.say):
            if self._unlogged is not None:
                log.complete(self._unlogged)
            called.on_begin()
            self._keep_copies(self._unlogged, self._saved_best)
            self._catch_up(log, called)
            if not self.progress.stopped_early and not self.progress.interrupted:
                self._run_steps(log, called)
            self._finish(log, called)

    def train_until(
        self, is_last: Callable[[Mapping[str, Any]], bool], log: RunLog, stop: StopRequest
    ) -> None:
        """Run all steps, or until `is_last` says so of a step's record, and save nothing (collective).

        All ranks must answer alike, also for a loss that is not finite. A stop request ends the run as in
        `train`.

        Raises
        ------
        RunEndedError
            On all ranks: a rank has failed.
        """
        self._is_asked_to_end, self._is_last = (lambda: stop.made), is_last
        with self.saver.saving(self.progress.saved_step, warn=log.warn, say=log.say):
            self._run_steps(log, Callbacks((), self.rank))
        self.rank.parameters.wait()
        if (message := self.failures.agreed()) is not None:
            self.failures.end(f"{message}; after step {self.progress.step}")

    def _look(self, record: Mapping[str, Any]) -> bool:
        """Go on, or raise RunEndedError, as the recipe's `on_nan` says."""
        self._on_nan.look(record, self._warn)
        return False

    def _run_steps(self, log: RunLog, called: Callbacks) -> None:
        first = self.progress.step
        left = self.total_steps - first
        shares = own_shares(self.rank, islice(self.sampler.training(first), left))
        augment, seed, recorder = Augment.parse(self.recipe.augment), self.recipe.seed, self.recorder
        with Loader(
            self.data.train,
            shares,
            augment=augment,
            mix=Mix(self.recipe.mixup, self.recipe.cutmix),
            seed=seed,
            threads=self.rank.settings.data_threads,
            on_bad=self.bad_samples.note_training if self._skips_bad else None,
            substitutes=self._skips_bad,
            on_wait=recorder.wait_for_data,
            on_load=recorder.load,
        ) as loader:
            clock = StepClock(self.rank.queue, lambda: loader.wait_seconds, recorder)
            self.failures.keep(loader.failure())  # of the first minibatch: of all ranks one says so
            self._end_if_failed(called)
            for minibatch in islice(self.sampler.training(first), left):
                batches = self._read(loader)
                self.rank.memory.minibatch[:] = minibatch.keys
                wanted = self._is_asked_to_end() or self.failures.first is not None
                try:
                    record = self._step(batches, clock, minibatch.epoch, stop=wanted)
                except LostSamplesError:  # the weights are those after the last step, which can be saved
                    self.progress.interrupted = True
                    break
                self._keep_copies(record, self.comparison.regular)
                if self._check_copies_and_hash(record):
                    clock.restart()
                with self.failures.kept():
                    log.step(record)
                if self._is_last(record):
                    break
                self._tell(partial(called.on_step, record))
                self._tell_of_whole(called)
                if self.progress.interrupted or self._ends_alone():
                    break
                if self._end_of_step(log, called):
                    clock.restart()
                if self.progress.stopped_early or self.progress.interrupted or self._ends_alone():
                    break

    def _keep_copies(self, record: dict[str, Any] | None, best: Best | None) -> None:
        """Have what the ranks have now kept by buddies, at the start and where the recipe says so."""
        progress, buddies = self.progress, self.rank.buddies
        if buddies is not None and (not progress.laps or _due(progress.step, self.recipe.buddy_every)):
            buddies.submit(progress.step, Kept(progress.epoch_loss, best, record))

    def _read(self, loader: Loader) -> Iterable[Batch]:
        """Return the next minibatch, or its microbatches, each of which is valid until the next one."""
        if len(self.rank.memory.microbatches) > 1:
            return read_minibatch(self.rank, loader, self.failures)
        batch = next(loader)
        self.failures.keep(loader.failure())  # of the next minibatch: this one's step can save
        return (batch,)

    def _finish(self, log: RunLog, called: Callbacks) -> None:
        """Save and evaluate what the last step has left to do."""
        progress = self.progress
        is_finite = self._on_nan.may_save(progress.step, self._warn)
        self._end_if_failed(called)
        if is_finite and progress.saved_step != progress.step and (self._saves() or progress.interrupted):
            self._save()
        if progress.evaluated_step != progress.step and not progress.interrupted:
            if progress.laps or not self._is_logged(log):
                self._evaluate(log, called)
            else:
                self._measure()
        with self.failures.kept():
            self.saver.drain()
        self._tell_of_whole(called)
        self._end_if_failed(called)

    def _tell_of_whole(self, called: Callbacks) -> None:
        """Tell callbacks of checkpoints that are on the disk by now, and keep what has failed there.

        It is collective while one is being written.
        """
        self.failures.keep(self.saver.failure)
        for folder in self.saver.agree_on_whole():
            self._tell(partial(called.on_checkpoint, folder))

    def _tell(self, tell: Callable[[], None]) -> None:
        """Call a callback. Only alone its failure waits: other ranks may be in a collective call of it."""
        if self.control.size > 1:
            tell()
        elif self.failures.first is None:
            with self.failures.kept():
                tell()

    def _ends_alone(self) -> bool:
        """Say whether the run ends here, as no other rank must be asked."""
        return self.failures.first is not None and self.control.size == 1

    def _end_if_failed(self, called: Callbacks) -> None:
        """Save and end the run on all ranks where one has failed (collective)."""
        message = self.failures.agreed()
        if message is None:
            return
        step = self.progress.step
        if self.saver.agreed_step() != step:
            self._save()
        saved = self.saver.agreed_step()
        self._tell_of_whole(called)
        newest = f"; the newest checkpoint is that of step {saved}" if saved else ""
        done = "what was done is saved" if saved == step else f"it could not be saved{newest}"
        ending = done if step else "there was nothing to save"
        self.failures.end(f"{message}; after step {step}: {ending}")

    def _step(self, batches: Iterable[Batch], clock: StepClock, epoch: int, *, stop: bool) -> dict[str, Any]:
        """Train on one minibatch and return its record; all ranks learn whether one of them wants to stop."""
        progress, context = self.progress, self.context
        rate = self._schedule.at(progress.step)
        context.step = progress.step

        outcome = train_step(self.rank, batches, context, self._update(rate), stop=stop)
        norm = self.rank.parameters.gradient_norm()
        lap = clock.lap(progress.step + 1)
        progress.laps.append(lap)
        if progress.step % self.sampler.steps_per_epoch == 0:
            progress.epoch_loss = 0.0
        is_skipped = self.rank.parameters.is_skipped()
        if is_skipped:  # it has no finite loss, nor has the epoch
            progress.epoch_loss = None
        if progress.epoch_loss is not None:  # one step after the other: the same bits wherever a run goes on
            progress.epoch_loss += outcome.loss
        progress.step += 1
        progress.interrupted = outcome.stop and progress.step < self.total_steps
        progress.results["final_loss"] = outcome.loss / self.recipe.batch
        return {
            "step": progress.step,
            "epoch": epoch,
            "loss": progress.results["final_loss"],
            "accuracy": outcome.correct / self.recipe.batch,
            "rate": rate,
            **({} if norm is None else {"gradient_norm": norm}),
            **({"skipped": True} if is_skipped else {}),
            "seconds": lap.step,
            "exposed_communication_seconds": lap.exposed_communication,
            "data_wait_seconds": lap.data_wait,
            "samples_per_second": self.recipe.batch / lap.step,
        }

    def _check_copies_and_hash(self, record: dict[str, Any]) -> bool:
        """Compare the ranks' weights, and add their hash to a record, where the recipe says so (collective).

        Return whether anything was done.
        """
        step, recipe = record["step"], self.recipe
        verifies, hashes = _due(step, recipe.verify_every), _due(step, recipe.hash_every)
        if verifies or hashes:
            with self.recorder.doing("hash"):
                if verifies:
                    weight_checks.check_copies(self.rank, self.control, step, self.saver.agreed_step)
                if hashes:
                    record |= weight_checks.hashes(self.rank)
        return verifies or hashes

    def _update(self, rate: float) -> Update:
        """Return the update of this step, which notes its time."""
        step, recorder = self.progress.step, self.recorder
        update = self._optimizer.at(step, rate)
        if self.recipe.ema:
            update = averaging(update, share_of(self.recipe.ema, step))

        def timed(work: Callable[[Piece], None]) -> Callable[[Piece], None]:
            def apply(piece: Piece) -> None:
                with recorder.updating():
                    work(piece)

            return apply

        return replace(update, apply=timed(update.apply), direct=timed(update.direct))

    def _end_of_step(self, log: RunLog, called: Callbacks) -> bool:
        """Save and evaluate where the recipe says so; return whether anything was done.

        In this order: an unreadable test image costs no training.
        """
        step, recipe = self.progress.step, self.recipe
        epoch, inside = divmod(step, self.sampler.steps_per_epoch)
        evaluates = self._evaluates_here()
        saves = _due(step, recipe.checkpoint_steps) or (inside == 0 and _due(epoch, recipe.checkpoint_every))
        if saves:
            self._save()
        if evaluates:
            self._evaluate(log, called)
        return evaluates or saves

    def _evaluates_here(self) -> bool:
        epoch, inside = divmod(self.progress.step, self.sampler.steps_per_epoch)
        return inside == 0 and epoch > 0 and _due(epoch, self.recipe.evaluate_every)

    def _saves(self) -> bool:
        return self.recipe.checkpoint_every > 0 or self.recipe.checkpoint_steps > 0

    def _evaluate(self, log: RunLog, called: Callbacks) -> None:
        progress = self.progress
        if not self._measure():  # the run ends here, or after the next step
            return
        epoch = progress.step / self.sampler.steps_per_epoch
        loss = self._training_loss()
        record = {"epoch": epoch, "step": progress.step, "training_loss": loss, **progress.results}
        if self.data.test is not None:
            with self.failures.kept():
                log.epoch(record)
        self._tell(partial(called.on_epoch, record))
        if self.recipe.metric:
            self._compare(called)
        if progress.stopped_early:
            log.say(self.comparison.line(progress.step))

    def _measure(self) -> bool:
        """Evaluate on the test set, if there is one; return whether all ranks did to the end (collective)."""
        progress = self.progress
        progress.evaluated_step = progress.step
        if self.data.test is None:
            return True
        with self.recorder.doing("evaluation"), self.rank.averaged():
            figures = self._evaluator.evaluate(
                self.data.test,
                self.failures,
                on_bad=self.bad_samples.note_test if self._skips_bad else None,
                ends=self._is_cut_short,
            )
        if figures is not None:
            progress.results |= dict(zip(("test_loss", "test_accuracy"), figures, strict=True))
        return figures is not None

    def _is_cut_short(self) -> bool:
        """Agree whether the evaluation ends here, and the run with it (collective).

        That of the last step is made whole: no run would go on to make it.
        """
        progress = self.progress
        if progress.step < self.total_steps:
            progress.interrupted = any(self.control.gather_objects(self._is_asked_to_end()))
        return progress.interrupted

    def _training_loss(self) -> float | None:
        """Return the mean loss over the samples of the epoch so far; None where it is not known."""
        progress = self.progress
        if progress.epoch_loss is None or progress.step == 0:
            return None
        steps = (progress.step - 1) % self.sampler.steps_per_epoch + 1
        return progress.epoch_loss / (steps * self.recipe.batch)

    def _catch_up(self, log: RunLog, called: Callbacks) -> None:
        """Learn which evaluation was the best before, and make one that was missed (collective).

        A run may end between a checkpoint and the evaluation of its step, or inside that. It counts, so that
        a run that goes on stops where it would have without the interruption.
        """
        progress, comparison = self.progress, self.comparison
        evaluates, compares = self._evaluates_here(), bool(self.recipe.metric)
        if compares:
            comparison.begin(self._saved_best, self.saver.agreed_best())
        lacks = evaluates and comparison.lacks(progress.step)
        progress.stopped_early = comparison.is_enough and progress.step < self.total_steps
        if evaluates and (lacks or not compares) and self._is_missing(log):
            self._evaluate(log, called)
        elif (lacks or progress.stopped_early) and self._measure() and lacks:
            self._compare(called)
        if not compares:
            return
        self.saver.note_best(comparison.best)  # going on from an older checkpoint, another one is noted

    def _is_missing(self, log: RunLog) -> bool:
        """Say whether the log has the step that the run goes on from, not its evaluation (collective)."""
        loss = log.loss_before_evaluation(self.progress.step) if self.data.test is not None else None
        loss = self.progress.results["final_loss"] = self.control.gather_objects(loss)[0]
        return loss is not None

    def _is_logged(self, log: RunLog) -> bool:
        """Say whether a run that had no step left was killed after it had logged all (collective)."""
        losses = self.control.gather_objects(log.losses_of(self.progress.step))[0]
        self.progress.results["final_loss"] = losses.get("step")
        return "epoch" in losses

    def _compare(self, called: Callbacks) -> None:
        """Save where the test set's figure is better than ever, and see to it that it is kept (collective).

        The run stops early where none has been better for long enough.
        """
        progress, comparison = self.progress, self.comparison
        value = progress.results[comparison.metric]
        assert value is not None  # there are test samples
        is_best = comparison.compare(value, progress.step, is_regular=self._evaluates_here())
        progress.stopped_early = comparison.is_enough and progress.step < self.total_steps
        if is_best and self.recipe.keeps_best and progress.saved_step != progress.step:
            self._save()
        self.saver.note_evaluation(progress.step, comparison.regular)
        self.saver.note_best(comparison.best)

    def _save(self) -> None:
        """Have a checkpoint written, of finite weights (collective: the moments come from all ranks)."""
        progress, started = self.progress, time.perf_counter()
        with self.recorder.doing("check of the weights"):
            if not self._on_nan.may_save(progress.step, self._warn):
                return
        with self.recorder.doing("wait for the checkpoint before"):
            self.saver.wait_for_room()
        with self.recorder.doing("checkpoint"):
            self.saver.save(progress.step, progress.epoch_loss, self.comparison.regular)
        progress.saved_step = progress.step
        self.saver.times.held_up += time.perf_counter() - started


def _due(count: int, every: int) -> bool:
    return every > 0 and count % every == 0
