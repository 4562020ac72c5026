"""The contract on a few seeded draws; ``python -m tests.same_bits`` makes as many as one likes."""

import random

import pytest

from tests import same_bits


@pytest.mark.parametrize("seed", range(6))
def test_a_way_to_run_drawn_at_random_changes_no_bit(seed):
    setting = same_bits.draw(random.Random(seed))
    want = same_bits.reference(setting.alone())
    assert same_bits.weights_sha256(setting) == want, setting


def test_the_draws_reach_every_network_number_of_ranks_and_split():
    drawn = [same_bits.draw(random.Random(seed)) for seed in range(300)]
    assert {setting.network for setting in drawn} == set(same_bits.NETWORKS)
    assert {setting.ranks for setting in drawn} == set(same_bits.RANKS)
    assert {setting.accumulate for setting in drawn} == {1, 2, 4, 8, 16}
    assert {setting.rules for setting in drawn} == set(same_bits.RULES)
    assert {setting.plan.rpartition("=")[2] for setting in drawn} >= {"data", "2", "4", "8"}
    split = {entry for setting in drawn for entry in setting.plan.split(",")}
    assert split >= {f"conv{index}=2" for index in range(1, 6)}
    assert {setting.fast for setting in drawn} >= {"", "conv1", "fc2"}
    assert {len(setting.freeze) for setting in drawn} >= {0, 1, 2, 3, 6}
    assert {setting.norm_groups for setting in drawn} == {0, 1, 2, 4, 8, 16}


def test_the_command_tells_other_bits_by_its_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(same_bits, "weights_sha256", lambda setting: setting.network)
    monkeypatch.setattr(same_bits, "reference", lambda alone: alone.network)
    assert same_bits.main(["--runs", "3", "--seed", "1"]) == 0
    assert capsys.readouterr().out.count("/3 same ") == 3
    monkeypatch.setattr(same_bits, "reference", lambda *_: "other")
    assert same_bits.main(["--runs", "3", "--seed", "1"]) == 1
    assert "3 of 3 runs ended with other bits" in capsys.readouterr().out
