"""Whatever call of the file system breaks, and whenever: what a run had saved is there, and it goes on."""

import json
from functools import cache
from pathlib import Path

import pytest

from comm.threads import single_rank
from engine.config.errors import UserError
from engine.config.recipe import Recipe
from engine.data.dataset import DataSource
from engine.run import beginning, saver
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from engine.run.folder_lock import lock_folder
from engine.run.kept_checkpoints import best_of
from engine.run.run_folder import rewind
from engine.run.start import Start
from tests.engine.broken_disk import BrokenDisk, KilledError
from tests.engine.cluster import Samples, changed, train_rank
from tests.engine.graphs import perceptron

DATA = DataSource(Samples.draw((12,), 5, 64), Samples.draw((12,), 5, 24))
STEPS = 6
KINDS = ("once", "full", "killed", "cut")


def recipe(**fields) -> Recipe:
    return changed(steps=STEPS, checkpoint_steps=1, keep_best=True, overlap=False, **fields)


def begin(folder: Path) -> None:
    """Run from the start, as a command does."""
    places = beginning.make_places(Start(recipe(out=str(folder)), "broken"))
    try:
        train_rank(single_rank(), perceptron(), recipe(), DATA, folder=folder)
    finally:
        held = places.lock.held
        try:
            places.release()
        finally:
            held.release(force=True)  # a process that is gone holds none


def go_on(folder: Path) -> str:
    """Go on from the newest checkpoint, and return the hash of the weights."""
    saved = find_checkpoint(folder)
    restore = read_state(saved), read_tensors(saved, perceptron())
    lock = lock_folder(folder, "resume")
    rewind(folder, restore[0].step)
    results, _ = train_rank(single_rank(), perceptron(), recipe(), DATA, folder=folder, restore=restore)
    lock.release()
    return results["weights_sha256"]


@cache
def whole() -> str:
    return train_rank(single_rank(), perceptron(), recipe(), DATA)[0]["weights_sha256"]


def broken(folder: Path, number: int, kind: str, patch: pytest.MonkeyPatch) -> tuple[BrokenDisk, list[int]]:
    """Run on a disk that breaks; return it, and the steps whose checkpoints were said to be written."""
    disk, saved = BrokenDisk(folder, number, kind), []
    real = saver.save_checkpoint

    def save(run, state, *rest, **named):
        written = real(run, state, *rest, **named)
        saved.append(state.step)
        return written

    patch.setattr(saver, "save_checkpoint", save)
    disk.install(patch)
    try:
        begin(folder)
    except UserError as error:
        assert "\n" not in str(error)
        assert kind in ("once", "full")
    except KilledError:
        assert kind in ("killed", "cut")
    patch.undo()
    if kind == "cut":
        disk.lose()
    return disk, saved


def check(folder: Path, saved: list[int], kind: str) -> None:
    """Check that the newest checkpoint of those written is there, and that the run ends as if nothing was."""
    best_of(folder)
    if not saved:
        try:
            find_checkpoint(folder)
        except UserError:
            return
    assert int(find_checkpoint(folder).name[5:13]) >= max(saved, default=0)
    if read_state(find_checkpoint(folder)).step < STEPS:
        assert go_on(folder) == whole()
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [each["step"] for each in records if each["kind"] == "step"]
        missing = set(range(1, STEPS + 1)) - set(steps)
        assert steps == sorted(set(steps))
        assert len(missing) <= (kind in ("once", "full"))  # the line that could not be written
        assert json.loads((folder / "run.json").read_text())["steps"] == STEPS
        endings = (".replaced", ".removed", ".unfinished")
        assert not [path.name for path in folder.rglob("*") if path.suffix in endings]


def calls(folder: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        disk, saved = broken(folder, 0, "none", patch)
    assert saved == [*range(1, STEPS + 1)]
    return len(disk.calls)


def campaign(folder: Path, numbers: range, kind: str) -> None:
    for number in numbers:
        with pytest.MonkeyPatch.context() as patch:
            place = folder / f"{kind}{number}"
            disk, saved = broken(place, number, kind, patch)
        try:
            check(place, saved, kind)
        except BaseException as error:
            error.add_note(f"{kind} at call {number}: {disk.calls[number - 1]}")
            raise


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_call_breaks_what_was_saved_is_there_and_the_run_goes_on(tmp_path, kind):
    count = calls(tmp_path / "whole")
    assert count > 100
    campaign(tmp_path, range(1 + KINDS.index(kind), count + 1, 7), kind)
