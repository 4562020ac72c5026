"""What a run says of itself: when it begins, and when it is over."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from comm import terminal
from engine.config.wording import counted
from engine.host.peak_memory import peak_resident_bytes
from engine.profile.breakdown import Breakdown
from engine.profile.step_clock import median
from engine.run.environment import Surroundings
from engine.run.log import RunLog, to_json
from engine.run.prediction import predict
from engine.run.trainer import Trainer


def greet(trainer: Trainer, log: RunLog) -> None:
    """Say what is about to be trained, and how."""
    recipe, rank, sampler = trainer.recipe, trainer.rank, trainer.sampler
    log.say(
        f"{recipe.model} on {recipe.data}: {rank.parameter_count:,} parameters, "
        f"minibatch {recipe.batch} in {recipe.leaves} leaves, "
        f"steps {trainer.progress.step} to {trainer.total_steps}; "
        f"{counted(rank.grid.world.communicator.size, 'rank')} x "
        f"{counted(trainer.context.threads.count, 'thread')}, overlap {'on' if recipe.overlap else 'off'}, "
        f"plan {rank.plan}"
    )
    for line in trainer.data.lines():
        log.say(line)
    if sampler.dropped:
        log.say(
            f"{len(trainer.data.train)} training samples: {sampler.steps_per_epoch} steps an epoch; "
            f"the {sampler.dropped} samples of the incomplete last minibatch are dropped, others each epoch"
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
    own = (rank.parameters.parameter_bytes, peak_resident_bytes(), around.warnings, time.time())
    held = trainer.control.gather_objects(own)
    ended = datetime.fromtimestamp(held[0][3]).astimezone()
    return {
        "model": recipe.model,
        "data": recipe.data,
        "ranks": rank.grid.world.communicator.size,
        "threads": trainer.context.threads.count,
        "batch": recipe.batch,
        "leaves": recipe.leaves,
        "plan": str(rank.plan),
        "overlap": recipe.overlap,
        "seed": recipe.seed,
        "steps": progress.step,
        "epochs": progress.step / trainer.sampler.steps_per_epoch,
        "parameters": rank.parameter_count,
        "samples_per_second": recipe.batch / lap.step if lap else None,
        **progress.results,
        "interrupted": progress.interrupted,
        "weights_sha256": rank.parameters.weights_sha256(),
        "state_sha256": rank.states.sha256(),
        "step_seconds_median": lap.step if lap else None,
        "exposed_communication_seconds_median": lap.exposed_communication if lap else None,
        "data_wait_seconds_median": lap.data_wait if lap else None,
        "seconds_total": seconds,
        "ended": ended.isoformat(timespec="seconds"),
        "training_samples": len(trainer.data.train),
        "test_samples": len(trainer.data.test) if trainer.data.test is not None else 0,
        "parameter_bytes_by_rank": [each[0] for each in held],
        "peak_resident_bytes_by_rank": [each[1] for each in held],
        "class_names": trainer.data.class_names,
        "where_the_time_went": breakdown.to_json() if breakdown else None,
        "predicted": None if breakdown is None or progress.interrupted else predict(trainer),
        "trace": recipe.trace or None,
        "environment": around.environment,
        "warnings": list(dict.fromkeys(line for each in held for line in each[2])),
    }


def say_goodbye(folder: Path, results: dict[str, Any], traced: Path | None) -> None:
    """Print the table, the results and the folder of a run that is over."""
    if results["where_the_time_went"]:
        table = Breakdown.from_json(results["where_the_time_went"])
        terminal.say("\n".join(table.lines()))
    shown = ("samples_per_second", "final_loss", "test_accuracy", "seconds_total", "weights_sha256")
    terminal.show(to_json({name: results[name] for name in shown}))
    if traced is not None:
        terminal.say(f"trace in {traced}: python -m engine.explain, or https://ui.perfetto.dev")
    end = "interrupted; go on with --resume" if results["interrupted"] else "done; results in"
    terminal.say(f"{end} {folder}")
