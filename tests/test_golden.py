"""The golden hashes: that they are reached, and that nothing is left out of them."""

from collections.abc import Iterable
from dataclasses import replace
from types import UnionType

import pytest

from engine.config.recipe import Recipe
from engine.config.settings import all_settings
from engine.data.registry import SOURCES
from engine.run import published
from engine.run.published import Published
from layers.kernels import caches
from layers.products import Unit
from layers.relu import ReLU
from tests.golden import __main__ as command
from tests.golden import coverage, hashes, publish
from tests.golden.runs import RUNS, ends_with, flat

TOLD = "moved: where that is meant, CHANGELOG.md says so, and python -m tests.golden --rewrite writes it"
NOT_VARIED = {
    "data_arguments": "of a user's own data, which no kernel sees",
    "epochs": "a length, as steps are",
    "init": "other first weights, no other arithmetic",
}
"""Fields of a recipe that change bits and need no golden run."""


@pytest.mark.parametrize("name", RUNS)
def test_a_golden_run_ends_with_the_bits_in_the_file(name, tmp_path):
    differences = hashes.moved(hashes.read().get(name), ends_with(RUNS[name], tmp_path))
    assert not differences, f"{name} has {TOLD}"


def test_microbatches_have_the_bits_of_a_whole_minibatch():
    recipe = RUNS["hybrid_in_microbatches"].recipe
    assert replace(recipe, accumulate=1) == RUNS["hybrid"].recipe != recipe
    assert hashes.read()["hybrid_in_microbatches"] == hashes.read()["hybrid"]


def test_what_makes_products_of_bf16_changes_no_bit():
    forms = ("bf16_images", "bf16_images_in_registers", "bf16_images_by_software")
    assert [RUNS[name].unit for name in forms] == [None, Unit.REGISTERS, Unit.SOFTWARE]
    assert len({str(hashes.read()[name]) for name in forms}) == 1


def test_a_unit_is_chosen_for_the_runs_that_name_none(monkeypatch):
    units = []

    def ends_with(run, _):
        units.append(run.unit)
        return hashes.read()["bf16_images"]

    monkeypatch.setattr("tests.golden.runs.ends_with", ends_with)
    assert command.main(["--unit", "software", "bf16_images", "bf16_images_in_registers"]) == 0
    assert units == [Unit.SOFTWARE, Unit.REGISTERS]


@pytest.mark.parametrize("kib", [4, 4096])
@pytest.mark.parametrize("name", ["images_direct", "first_layers", "winograd", "pointwise"])
def test_the_sizes_of_a_machines_caches_change_no_bit(name, kib, tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "caches", lambda: caches.Caches(kib << 10, kib << 12, kib << 14))
    assert not hashes.moved(hashes.read().get(name), ends_with(RUNS[name], tmp_path))


def left_out(names: Iterable[str], folder) -> set[str]:
    seen = set[str]()
    for name in names:
        (folder / name).mkdir(parents=True)
        seen |= coverage.reached(RUNS[name], folder / name)
    return coverage.wanted() - seen


def test_every_layer_and_algorithm_is_in_a_golden_run(tmp_path):
    assert not left_out(RUNS, tmp_path), "add a run to tests/golden/runs.py"


def test_what_only_one_run_reaches_is_missed_without_it(tmp_path):
    assert left_out(["digits", "plain_sgd"], tmp_path) >= {
        "Concat", "Dropout", "Frozen", "GatherSamples", "OverlappedExchange", "Direct forward",
        "FirstLayer backward_data", "Winograd F(2) forward",
    }  # fmt: skip


def test_a_new_layer_is_wanted():
    before = coverage.wanted()
    assert "ReLU" in before
    leaky = type("LeakyReLU", (ReLU,), {"__module__": "layers.leaky_relu"})
    assert coverage.wanted() - before == {"LeakyReLU"}
    leaky.__module__ = "tests.elsewhere"
    assert coverage.wanted() == before


def test_every_kernel_is_known_to_the_command():
    known = coverage.kernels()
    assert known.keys() >= {"relu._forward", "sgd._update", "conv_direct._forward", "normal._fill"}
    assert all(isinstance(is_used, bool) for is_used in known.values())


def test_golden_runs_vary_every_field_that_changes_bits():
    for each in all_settings(Recipe):
        values = [flat(run.recipe)[each.path] for run in RUNS.values()]
        if each.setting.choices and each.setting.changes_bits:
            lists = [value for value in values if isinstance(value, tuple)]
            assert {*values} - {*lists} == {*each.setting.choices}, each.path
            assert bool(lists) == isinstance(each.kind, UnionType), each.path
        elif each.setting.changes_bits and each.path not in NOT_VARIED:
            assert any(value != values[0] for value in values), each.path
    assert all(run.recipe.steps for run in RUNS.values())


def test_golden_runs_read_every_kind_of_data_and_take_every_number_of_ranks():
    own = [run for run in RUNS.values() if run.network is None]
    assert {run.recipe.data_kind for run in own} == set(SOURCES)
    assert {run.ranks for run in RUNS.values()} >= {1, 2, 3, 4}
    assert {run.threads for run in RUNS.values()} >= {1, 2}


def test_the_same_pictures_end_with_the_same_bits_in_every_format():
    kept = hashes.read()
    formats = [name for name in RUNS if name.startswith("photographs_")]
    assert len(formats) == 5
    assert all(kept[name] == kept["photographs"] for name in formats)
    assert {RUNS[name].ranks for name in formats} == {1, 2, 3}


def test_the_file_has_all_runs_and_no_others():
    assert list(hashes.read()) == list(RUNS)


PUBLISHED = Published("r", "d", "f" * 64)
RESULTS = {"weights_sha256": "a" * 64, "final_loss": 0.1 + 0.2}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Put two runs that end at once in place of all, with a file of their own."""
    monkeypatch.setattr(hashes, "FILE", tmp_path / "golden.toml")
    for module in ("runs", "hashes"):
        monkeypatch.setattr(f"tests.golden.{module}.RUNS", {name: RUNS[name] for name in ("digits", "state")})
    ended = dict(RESULTS)
    monkeypatch.setattr("tests.golden.runs.ends_with", lambda *_: dict(ended))
    monkeypatch.setattr(coverage, "kernels", lambda: {"relu._forward": True})
    monkeypatch.setattr(publish, "train", lambda _: PUBLISHED)
    monkeypatch.setattr(published, "FILE", tmp_path / "published.toml")
    monkeypatch.setattr(publish, "README", tmp_path / "README.md")
    publish.README.write_text(f"before {'d' * 64}, {'e' * 64}\n")
    published.FILE.write_text(f'[digits]\nrecipe = "r"\ndata = "d"\nweights_sha256 = "{"d" * 64}"\n')
    return ended


@pytest.mark.usefixtures("file")
def test_what_is_rewritten_is_as_it_was_afterwards(capsys):
    assert command.main([]) == 1
    assert "is not in golden.toml" in capsys.readouterr().out
    assert not hashes.FILE.exists()
    assert command.main(["--rewrite"]) == 0
    assert command.main([]) == 0
    assert hashes.read() == {"digits": RESULTS, "state": RESULTS}
    assert 'run = "digits on digits: 1 rank x 2 threads' in hashes.FILE.read_text()
    assert published.read_published() == {"digits": PUBLISHED}
    assert publish.README.read_text() == f"before {'f' * 64}, {'e' * 64}\n"


@pytest.mark.usefixtures("file")
def test_a_recipe_that_does_not_end_as_published_is_a_moved_run(capsys):
    command.main(["--rewrite", "digits", "state"])
    capsys.readouterr()
    assert command.main([]) == 1
    said = capsys.readouterr().out
    assert "MOVED published digits" in said and "d" * 64 in said
    assert "1 of 3 runs have moved" in said
    assert published.read_published()["digits"].weights_sha256 == "d" * 64


def test_a_moved_hash_is_named_with_both_values_and_the_changelog(file, capsys):
    command.main(["--rewrite"])
    file["weights_sha256"], file["state_sha256"] = "b" * 64, "c" * 64
    capsys.readouterr()
    assert command.main(["state"]) == 1
    said = capsys.readouterr().out
    assert f"weights_sha256 was {'a' * 64}, is {'b' * 64}" in said
    assert f"state_sha256 was None, is {'c' * 64}" in said
    assert "final_loss" not in said
    assert "1 of 1 runs have moved: where that is meant, CHANGELOG.md must say" in said
    assert hashes.read()["state"] == RESULTS
    command.main(["--rewrite", "state"])
    assert hashes.read() == {"digits": RESULTS, "state": file}


@pytest.mark.usefixtures("file")
def test_a_kernel_that_no_run_uses_is_a_mistake_of_all_runs_together(capsys, monkeypatch):
    command.main(["--rewrite"])
    monkeypatch.setattr(coverage, "kernels", lambda: {"relu._forward": True, "new._forward": False})
    assert command.main(["digits"]) == 0
    assert command.main([]) == 1
    assert "no golden run uses new._forward: add one" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["old", "haswell"])
def test_another_cpu_is_chosen_before_numba_is_imported(monkeypatch, name):
    started = []

    def execv(*call):
        started.append(call)
        raise SystemExit

    monkeypatch.setattr(command.os, "execv", execv)
    monkeypatch.setenv("NUMBA_CPU_NAME", name)
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "old")
    with pytest.raises(SystemExit):
        command.main(["--cpu", "haswell", "digits"])
    assert command.os.environ["NUMBA_CPU_NAME"] == "haswell"
    assert command.os.environ["NUMBA_CPU_FEATURES"] == ""
    ((_, call),) = started
    assert call[1:] == ["-m", "tests.golden", "--cpu", "haswell", "digits"]


@pytest.mark.usefixtures("file")
def test_a_run_that_is_not_there_is_refused(capsys):
    assert command.main(["digitz"]) == 2
    assert capsys.readouterr().err == "error: runs: got digitz; must be digits, state\n"
