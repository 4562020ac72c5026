"""What a run says of itself: when it begins, and when it is over."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from comm import terminal
from engine.config.wording import counted
from engine.data.dataset import DataSource
from engine.graph.passes.norm_groups import norm_groups
from engine.host.peak_memory import peak_resident_bytes
from engine.profile.breakdown import Breakdown
from engine.profile.step_clock import median
from engine.run import endings
from engine.run.environment import Surroundings
from engine.run.kept_checkpoints import best_of, checkpoint_folder
from engine.run.log import RunLog, to_json
from engine.run.prediction import predict
from engine.run.published import published_line, published_sha256
from engine.run.run_folder import FORMAT, restarts_of
from engine.run.trainer import Trainer
from engine.training.rank import Rank
from layers.precision import FP32, stated


def greet(trainer: Trainer, log: RunLog) -> None:
    """Say what is about to be trained, and how."""
    recipe, rank, sampler = trainer.recipe, trainer.rank, trainer.sampler
    log.say(
        f"{recipe.model} on {recipe.data}: {rank.parameter_count:,} parameters, "
        f"minibatch {recipe.batch} in {recipe.leaves} leaves, "
        f"steps {trainer.progress.step} to {trainer.total_steps}; "
        f"{counted(rank.grid.world.communicator.size, 'rank')} x "
        f"{counted(trainer.context.threads.count, 'thread')}, overlap {'on' if recipe.overlap else 'off'}, "
        f"plan {rank.plan}{_cut(rank)}{_products(recipe.precision)}"
    )
    lines = (*trainer.data.lines(), *trainer.task.notes, *_rates(rank), *_norms(trainer), *_weights(trainer))
    for line in lines:
        log.say(line)
    if sampler.dropped and sampler.weighted is None:
        log.say(
            f"{len(trainer.data.train)} training samples: {sampler.steps_per_epoch} steps an epoch; "
            f"the {sampler.dropped} samples of the incomplete last minibatch are dropped, others each epoch"
        )


def _cut(rank: Rank) -> str:
    microbatches = len(rank.memory.microbatches)
    return f", {microbatches} microbatches a rank" if microbatches > 1 else ""


def _products(precision: str) -> str:
    return f", products of {precision}" if precision != FP32 else ""


def _rates(rank: Rank) -> Iterator[str]:
    """Yield what is said of layers that are frozen, or have rates of their own."""
    factors = rank.parameters.rate_factors
    if frozen := [name for name, factor in factors.items() if factor == 0]:
        yield f"frozen: {', '.join(frozen)}"
    if own := [f"{name} x {factor:g}" for name, factor in factors.items() if factor not in (0, 1)]:
        yield f"learning rate: {', '.join(own)}"


def _norms(trainer: Trainer) -> Iterator[str]:
    """Yield how the samples are grouped that share statistics."""
    recipe = trainer.recipe
    if said := norm_groups(trainer.rank.graph, recipe.batch, recipe.leaves):
        yield said if recipe.norm_groups else f"{said}; --norm-groups N for others"


def _weights(trainer: Trainer) -> Iterator[str]:
    """Yield what is said of classes that weigh more than others, in the loss or among the samples drawn."""
    weights, weighted = trainer.class_weights, trainer.sampler.weighted
    if weights is not None:
        yield f"loss: weights of classes from {min(weights):.3g} to {max(weights):.3g}"
    if weighted is not None:
        parts = weighted.parts()
        taken = trainer.sampler.steps_per_epoch * trainer.recipe.batch
        yield (
            f"sampling: {taken} draws with replacement an epoch, of {len(parts)} classes, "
            f"{min(parts):.1%} to {max(parts):.1%} of each"
        )


def describe(
    trainer: Trainer, seconds: float, breakdown: Breakdown | None, around: Surroundings
) -> dict[str, Any]:
    """Return the content of `run.json` (collective).

    Parameters
    ----------
    seconds
        Since the start of this process's training.
    around
        With the warnings of this rank; those of all ranks are kept, each once.
    """
    recipe, progress, rank = trainer.recipe, trainer.progress, trainer.rank
    lap = median(progress.laps)
    is_cut_short = progress.interrupted or progress.stopped_early
    bad = trainer.bad_samples.lines()
    own = (rank.parameters.parameter_bytes, peak_resident_bytes(), around.warnings, time.time(), bad)
    held = trainer.control.gather_objects(own)
    ended = datetime.fromtimestamp(held[0][3]).astimezone()
    best = trainer.control.gather_objects(_best(trainer))[0]
    restarts = trainer.control.gather_objects(restarts_of(trainer.folder) if trainer.folder else 0)[0]
    with rank.averaged():
        weights_sha256, state_sha256 = rank.parameters.weights_sha256(), rank.states.sha256()
    return {
        "format": FORMAT,
        "model": recipe.model,
        "data": recipe.data,
        "ranks": rank.grid.world.communicator.size,
        "threads": trainer.context.threads.count,
        "batch": recipe.batch,
        "leaves": recipe.leaves,
        "accumulate": recipe.accumulate,
        "plan": str(rank.plan),
        "overlap": recipe.overlap,
        "seed": recipe.seed,
        **stated(recipe.precision),
        "steps": progress.step,
        "epochs": progress.step / trainer.sampler.steps_per_epoch,
        "parameters": rank.parameter_count,
        "samples_per_second": recipe.batch / lap.step if lap else None,
        **progress.results,
        "interrupted": progress.interrupted,
        "stopped_early": progress.stopped_early,
        "best": best,
        "init": recipe.init,
        "init_sha256": trainer.task.init,
        "frozen": [name for name, factor in rank.parameters.rate_factors.items() if factor == 0],
        "history": trainer.task.history,
        "restarts": restarts,
        "losses": list(around.losses),
        "weights_sha256": weights_sha256,
        "published_sha256": None if is_cut_short else published_sha256(trainer.task),
        "state_sha256": state_sha256,
        "step_seconds_median": lap.step if lap else None,
        "exposed_communication_seconds_median": lap.exposed_communication if lap else None,
        "data_wait_seconds_median": lap.data_wait if lap else None,
        "seconds_total": seconds,
        "ended": ended.isoformat(timespec="seconds"),
        "training_samples": len(trainer.data.train),
        "test_samples": len(trainer.data.test) if trainer.data.test is not None else 0,
        "parameter_bytes_by_rank": [each[0] for each in held],
        "peak_resident_bytes_by_rank": [each[1] for each in held],
        "bad_samples": sorted({line for each in held for line in each[4]}),
        "class_names": trainer.data.class_names,
        "image_decoder": _image_decoder(trainer.data),
        "where_the_time_went": breakdown.to_json() if breakdown else None,
        "predicted": None if breakdown is None or progress.interrupted else predict(trainer),
        "checkpoint_seconds": asdict(trainer.saver.times),
        "trace": recipe.trace or None,
        "environment": around.environment,
        "warnings": list(dict.fromkeys(line for each in held for line in each[2])),
    }


def _image_decoder(data: DataSource) -> str | None:
    """Return the versions that the pixels may depend on; None for data that no library decodes."""
    if not any(split.decoders for split in data.splits()):
        return None
    from engine.data.readers.image_file import decoder_version  # noqa: PLC0415 -- only its users need Pillow

    return decoder_version()


def _best(trainer: Trainer) -> dict[str, Any] | None:
    """Return the best evaluation, with the checkpoint that is kept of it on rank 0."""
    best, folder = trainer.comparison.best, trainer.folder
    if best is None:
        return None
    kept = best_of(folder) if folder is not None else None
    is_kept = kept is not None and folder is not None and kept.step == best.step
    path = checkpoint_folder(Path(), best.step) if is_kept else None
    figures = {"metric": best.metric, "value": best.value, "step": best.step}
    return {**figures, "checkpoint": path and str(path)}


def say_goodbye(folder: Path, results: dict[str, Any], traced: Path | None) -> None:
    """Print the table, the results and the folder of a run that is over."""
    if results["where_the_time_went"]:
        table = Breakdown.from_json(results["where_the_time_went"])
        terminal.say("\n".join(table.lines()))
    shown = ("samples_per_second", "final_loss", "test_accuracy", "seconds_total", "weights_sha256")
    terminal.show(to_json({name: results[name] for name in shown}))
    if (said := published_line(results)) is not None:
        terminal.say(said)
    if traced is not None:
        terminal.say(f"trace in {traced}: python -m engine.explain, or https://ui.perfetto.dev")
    end = endings.INTERRUPTED if results["interrupted"] else endings.DONE
    end = endings.STOPPED_EARLY if results["stopped_early"] else end
    terminal.say(f"{end} {folder}")
