"""The memory that ranks will need is compared with what there is."""

import math
import re
from dataclasses import replace
from functools import partial

import pytest

from comm.threads import run_ranks, single_rank
from engine.config.errors import UserError
from engine.run import memory_check
from engine.run.launch import run
from engine.run.memory_check import Limit, Needs, check_needs, microbatches_that_fit, needs_of, no_memory
from engine.run.prepare import prepare
from engine.run.start import new_run
from engine.training.planned_memory import planned_memory
from engine.training.rank_settings import settings_of

GB = 10**9
CONTAINER = Limit("the container's limit", ("container", "a"), 8 * GB)
MACHINE = Limit("the machine's memory", ("machine", "m"), 100 * GB)
FREE = Limit("the free memory of the machine", ("free", "m"), 50 * GB, binding=False)


def needs(at_least: float, *limits: Limit, at_most: float = 0.0, filled: float = 0.0) -> Needs:
    return Needs(int(filled * GB), int(at_least * GB), int(max(at_least, at_most) * GB), limits)


def checked(*ranks: Needs) -> list[list[str]]:
    return run_ranks(len(ranks), lambda world: check_needs(world, ranks[world.rank]))


def test_enough_memory_is_not_worth_a_word():
    assert checked(needs(3, CONTAINER, MACHINE), needs(3, CONTAINER, MACHINE)) == [[], []]


def test_too_little_is_refused_with_what_is_needed_and_what_there_is():
    with pytest.raises(UserError) as error:
        checked(*[needs(4, CONTAINER, MACHINE, filled=0.5)] * 2)
    assert str(error.value) == (
        "memory: each of 2 ranks here needs 4.50 GB, and the container's limit is 8.00 GB; "
        "lower --batch, or use more hosts"
    )


def test_ranks_in_other_containers_share_the_machine_only():
    other = replace(CONTAINER, shared_by=("container", "b"))
    assert checked(needs(7, CONTAINER, MACHINE), needs(7, other, MACHINE)) == [[], []]
    with pytest.raises(UserError, match=r"the machine's memory is 10\.00 GB"):
        small = replace(MACHINE, bytes=10 * GB)
        checked(needs(7, CONTAINER, small), needs(7, other, small))


def test_what_is_close_is_a_warning():
    (said,), _ = checked(needs(3, CONTAINER, at_most=3.7), needs(3, CONTAINER, at_most=3.7))
    assert said == (
        "memory: each of 2 ranks here may need 3.70 GB, and the container's limit is 8.00 GB; "
        "if the run is killed, lower --batch, or use more hosts"
    )


def test_what_others_use_may_become_free():
    (said,) = checked(needs(60, FREE, filled=1))[0]
    assert said.startswith("memory: one rank here may need 60.00 GB, and the free memory of the machine")


def test_a_run_that_needs_too_much_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_check, "container_limit", lambda: (1_000_000, "/group"))
    with pytest.raises(UserError, match=r"one rank here needs .* and the container's limit is 1\.0 MB"):
        run(single_rank(), lambda: new_run("digits", {"steps": 1, "epochs": 0, "out": str(tmp_path / "run")}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.3, 1e-3])
def test_the_microbatches_that_would_fit_are_named(tmp_path, monkeypatch, share):
    """The limit is a share of what the whole minibatch needs, beyond what the process holds."""
    prepared = prepare(
        new_run("cifar10", {"data": "synthetic", "steps": 1, "epochs": 0, "out": str(tmp_path)}), 1
    )
    monkeypatch.setattr(memory_check, "own_bytes", lambda: 0)
    alone = needs_of(prepared, 0, 1)
    limit = Limit("the container's limit", ("container", "a"), share * alone.at_least)
    with pytest.raises(UserError) as error:
        check_needs(
            single_rank(), replace(alone, limits=(limit,)), partial(microbatches_that_fit, prepared, 1)
        )
    found = re.search(r"; give --accumulate (\d+), which fits, lower --batch", str(error.value))
    assert bool(found) == (share > 0.1)
    if found:
        number = int(found[1])
        needs = [needs_of(accumulating(prepared, each), 0, 1).at_least for each in (number // 2, number)]
        assert [each <= limit.bytes for each in needs] == [False, True]


def test_a_run_that_saves_nothing_needs_no_memory_for_a_checkpoint(monkeypatch):
    monkeypatch.setattr(memory_check, "own_bytes", lambda: 0)
    prepared = prepare(new_run("digits", {"steps": 1, "epochs": 0}), 1)
    unwritten = replace(prepared, start=replace(prepared.start, has_folder=False))
    written, other = needs_of(prepared, 0, 1), needs_of(unwritten, 0, 1)
    assert other.at_least == written.at_least
    copied = written.at_most - other.at_most  # weights, and as much momentum
    assert copied >= 2 * 4 * prepared.graph.parameter_count()


def test_a_run_in_bf16_may_need_the_working_memory_of_its_own_layers(monkeypatch):
    monkeypatch.setattr(memory_check, "own_bytes", lambda: 0)
    asked = {"steps": 1, "epochs": 0}
    prepared = [prepare(new_run("digits", {**asked, "precision": each}), 1) for each in ("fp32", "bf16")]
    plain, rounded = (needs_of(each, 0, 1) for each in prepared)
    working = [
        planned_memory(each.graph, settings_of(each.start.recipe, 1), each.plan, each.tree, 0).working
        for each in prepared
    ]
    assert rounded.at_least == plain.at_least
    assert rounded.at_most - plain.at_most == working[1] - working[0] != 0


def accumulating(prepared, number):
    start = replace(prepared.start, recipe=replace(prepared.start.recipe, accumulate=number))
    return replace(prepared, start=start)


def test_no_address_space_is_the_same_in_one_line(tmp_path, monkeypatch):
    def none(*_):
        raise MemoryError("Unable to allocate 1. TiB for an array")

    monkeypatch.setattr(memory_check, "planned_memory", none)
    monkeypatch.setattr(memory_check, "container_limit", lambda: (math.inf, ""))
    with pytest.raises(
        UserError, match=r"memory: Unable to allocate 1\. TiB .*, and the machine's memory is"
    ):
        run(single_rank(), lambda: new_run("digits", {"out": str(tmp_path / "run")}))
    assert not list(tmp_path.iterdir())


def test_without_address_space_the_microbatches_that_have_it_are_named(tmp_path, monkeypatch):
    whole = memory_check.planned_memory

    def planned(network, settings, *others):
        if settings.accumulate < 4:
            raise MemoryError
        return whole(network, settings, *others)

    monkeypatch.setattr(memory_check, "planned_memory", planned)
    with pytest.raises(UserError, match=r"; give --accumulate 4 or more, lower --batch, or use more hosts$"):
        run(single_rank(), lambda: new_run("digits", {"out": str(tmp_path / "run")}))
    assert not list(tmp_path.iterdir())


def test_a_limit_on_the_process_is_named(monkeypatch):
    monkeypatch.setattr(memory_check, "process_limits", lambda: {"-v": 2 * GB})
    assert re.fullmatch(r"memory: none is left, and ulimit -v is 2\.00 GB; .*", no_memory(MemoryError()))
