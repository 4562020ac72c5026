"""The table of where the time went."""

from array import array

import pytest

from engine.profile.breakdown import Breakdown, combine
from engine.profile.recorder import UPDATE, StepSums
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD


def sums(compute: float = 1.0, steps: int = 2, **waits: float) -> StepSums:
    """Return steps of 10 s: forward 1, backward weights 2, backward data 3 (times `compute`), data 0.5."""
    passes = {FORWARD: 1.0, BACKWARD_WEIGHTS: 2.0, BACKWARD_DATA: 3.0}
    return StepSums(
        steps,
        10.0 * steps,
        {name: seconds * compute * steps for name, seconds in passes.items()},
        {name.replace("_", " "): seconds * steps for name, seconds in waits.items()},
        0.5 * steps,
    )


def total(breakdown: Breakdown) -> float:
    """Add the seven rows."""
    return sum(
        value
        for name, value in breakdown.to_json().items()
        if name.endswith("_seconds")
        and not name.startswith("waiting_for")
        and name not in ("step_seconds", "communication_alone_seconds")
    )


def test_the_parts_are_means_over_steps_and_ranks_and_add_up_to_the_step():
    table = combine([sums(reduce_fc6=0.5, update_fc6=0.25), sums(0.5, loss=0.25)], 2.0)
    assert (table.forward_seconds, table.backward_weights_seconds, table.backward_data_seconds) == (
        0.75,
        1.5,
        2.25,
    )
    assert table.exposed_communication_seconds_by_layer == {"fc6": 0.375, "loss": 0.125}
    assert table.exposed_communication_seconds == 0.5
    assert table.rest_seconds == pytest.approx(10 - 4.5 - 0.5 - 0.5)
    assert total(table) == pytest.approx(table.step_seconds) == 10.0


def test_the_layers_are_means_over_steps_and_all_ranks():
    first, second = sums(steps=2), sums(steps=4)
    first.layers = {("conv1", FORWARD): 2.0, ("fc2", FORWARD): 1.0, ("conv1", BACKWARD_WEIGHTS): 3.0}
    second.layers = {("conv1", FORWARD): 8.0}
    table = combine([first, second], None)
    assert table.seconds_by_layer == {
        "conv1": {FORWARD: 1.5, BACKWARD_WEIGHTS: 0.75},
        "fc2": {FORWARD: 0.25},
    }
    assert list(table.seconds_by_layer) == ["conv1", "fc2"]
    old = {name: value for name, value in table.to_json().items() if name != "seconds_by_layer"}
    assert Breakdown.from_json(old).seconds_by_layer == {}, "run.json of an earlier version"


def test_imbalance_names_the_slowest_rank():
    table = combine([sums(0.5), sums(1.0), sums(0.75)], None)
    assert (table.slowest_rank, table.imbalance) == (1, pytest.approx(4 / 3))
    assert table.compute_seconds_by_rank == [3.0, 6.0, 4.5]


def test_one_rank_does_not_communicate():
    table = combine([sums(update_fc6=1.5, loss=0.25)], None)
    assert table.exposed_communication_seconds == 0.0
    assert table.exposed_communication_seconds_by_layer == {}
    assert table.update_seconds == 1.75
    assert total(table) == pytest.approx(10.0)
    assert not any("rank" in line for line in table.lines())


def test_the_update_on_the_main_thread_is_compute():
    rank = sums(update_fc6=1.0)
    rank.compute[UPDATE] = 4.0
    table = combine([rank, rank], 1.0)
    assert (table.update_seconds, table.exposed_communication_seconds) == (2.0, 1.0)


@pytest.mark.parametrize(("alone", "share"), [(2.0, 0.75), (0.5, 0.0), (0.25, 0.0)])
def test_the_hidden_share_is_what_is_not_exposed_of_communication_alone(alone, share):
    table = combine([sums(reduce_fc6=0.5)] * 2, alone)
    assert table.hidden_share == share
    assert f"{share:.0%} of it hidden behind computation" in table.lines()[-1]


def test_a_slower_rank_is_told_from_messages():
    """Rank 1 is late by 3 s in the first step, rank 0 by 1 s in the second; messages take 0.5 s in each."""
    fast, slow = sums(reduce_fc6=2.0), sums(reduce_fc6=1.0)
    fast.waits, fast.busy = {"reduce fc6": 3.5 + 0.5}, array("d", [6.5, 9.5])
    slow.waits, slow.busy = {"reduce fc6": 0.5 + 1.5}, array("d", [9.5, 8.5])
    table = combine([fast, slow], 1.0)
    assert table.exposed_communication_seconds == 1.5
    assert table.waiting_for_slower_ranks_seconds == pytest.approx((3.0 + 1.0) / 2 / 2)
    assert table.waiting_for_messages_seconds == pytest.approx(0.5)
    assert table.hidden_share == pytest.approx(0.5), "late ranks hide nothing, and expose nothing"


def test_one_rank_waits_for_nobody():
    table = combine([sums(update_fc6=1.5)], None)
    assert table.waiting_for_slower_ranks_seconds is table.waiting_for_messages_seconds is None


def test_the_table_of_an_older_run_is_read():
    table = combine([sums(reduce_fc6=0.5)] * 2, 2.0).to_json()
    old = {name: value for name, value in table.items() if not name.startswith("waiting_for")}
    assert not any("slower" in line for line in Breakdown.from_json(old).lines())


def test_ranks_without_a_step_have_no_table():
    assert combine([sums(), StepSums()], None) is None


def test_the_table_survives_the_way_through_json():
    table = combine([sums(reduce_fc6=0.5), sums(loss=1.0)], 2.0)
    assert Breakdown.from_json(table.to_json()) == table


@pytest.mark.parametrize(
    "change",
    [
        {"forward_seconds": None},
        {"slowest_rank": 7},
        {"slowest_rank": -1},
        {"step_seconds": "x"},
        {"step_seconds": 0},
        {"step_seconds": float("nan")},
        {"step_seconds": -1.0},
        {"update_seconds": -1},
        {"rest_seconds": float("inf")},
        {"hidden_share": "x"},
        {"communication_alone_seconds": -1.0},
        {"steps": "x"},
        {"steps": 0},
        {"compute_seconds_by_rank": [1.0, float("nan")]},
        {"exposed_communication_seconds_by_layer": {"fc6": -1}},
        {"exposed_communication_seconds_by_layer": []},
        {"seconds_by_layer": 3},
        {"new": 1},
    ],
)
def test_another_table_is_refused(change):
    table = combine([sums(reduce_fc6=0.5), sums(loss=1.0)], 2.0).to_json()
    with pytest.raises(ValueError, match=r"^no such table: "):
        Breakdown.from_json(table | change)
    with pytest.raises(ValueError, match=r"^no such table: "):
        Breakdown.from_json(None)


def test_the_jobs_of_a_bucket_are_one_row_and_its_name_may_be_long():
    bucket = "block1.conv1..block2.project"
    rank = sums()
    rank.waits = {f"reduce {bucket}": 0.5, f"update {bucket}": 0.25, "gather loss": 0.125}
    lines = combine([rank], None).lines()
    assert not any(bucket in line for line in lines)  # one rank
    lines = combine([rank, rank], None).lines()
    assert lines[8:10] == [
        "    in block1.conv1..block2.project   375.00 ms    3.8%",
        "    in loss                            62.50 ms    0.6%",
    ]
    assert len({len(line) for line in lines[1:12]}) == 1


def test_the_table_as_people_read_it():
    waits = {f"reduce_conv{number}": number / 100 for number in range(1, 7)}
    assert combine([sums(**waits), sums(0.5, **waits)], 0.84).lines() == [
        "where the time went: 10,000.00 ms a step (mean of 2 steps)",
        "  forward                    750.00 ms    7.5%",
        "  backward weights         1,500.00 ms   15.0%",
        "  backward data            2,250.00 ms   22.5%",
        "  update                       0.00 ms    0.0%",
        "  exposed communication      210.00 ms    2.1%",
        "    for slower ranks           0.00 ms    0.0%",
        "    for messages             210.00 ms    2.1%",
        "    in conv6                  60.00 ms    0.6%",
        "    in conv5                  50.00 ms    0.5%",
        "    in conv4                  40.00 ms    0.4%",
        "    in conv3                  30.00 ms    0.3%",
        "    in 2 others               30.00 ms    0.3%",
        "  wait for data              500.00 ms    5.0%",
        "  rest                     4,790.00 ms   47.9%",
        "compute of the slowest rank, 0: 6,000.00 ms, 1.33 x the mean",
        "communication alone, with nothing to compute: 840.00 ms a step; 75% of it hidden behind computation",
    ]
