"""The commands: their help, their JSON, and what they say to a mistake."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import (
    accumulate,
    blocking,
    collectives,
    compare_torch,
    hosts,
    kernels,
    leaves,
    logits,
    machine,
    norm_cost,
    paper,
    peak,
    predict,
    scaling,
    shapes,
    startup,
)  # fmt: skip

COMMANDS = {
    "accumulate": accumulate.main,
    "blocking": blocking.main,
    "collectives": collectives.main,
    "compare_torch": compare_torch.main,
    "hosts": hosts.main,
    "kernels": kernels.main,
    "leaves": leaves.main,
    "logits": logits.main,
    "norm_cost": norm_cost.main,
    "paper": paper.main,
    "predict": predict.main,
    "scaling": scaling.main,
    "startup": startup.main,
}
ROOT = Path(__file__).parents[2]
TINY = "conv:512x4x4-512-3x3"


@pytest.fixture(autouse=True)
def _little_memory_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = peak.Gauge._memory
    monkeypatch.setattr(peak.Gauge, "_memory", lambda gauge, _: measure(gauge, 1 << 16))
    monkeypatch.setattr(peak, "STEPS", 1000)


@pytest.mark.parametrize("command", [*COMMANDS, "machine"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = COMMANDS.get(command, machine.main)
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: python -m bench.{command}" in shown
    assert "--json" in shown
    if command != "machine":
        assert f"  python -m bench.{command}" in shown.split("examples:")[1]


def test_commands_run_as_modules() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.kernels", "--list", TINY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{TINY}: Conv2d(out_channels=512")


def test_kernels_describes_every_pass_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main([TINY, "--minibatch", "2", "--leaves", "2", "--samples", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["benchmark"] == "kernels"
    assert result["machine"].keys() >= {
        "date", "simd", "features", "cores", "threads", "peak_gflops", "read_gbytes_per_s", "versions"
    }  # fmt: skip
    assert [row["pass"] for row in result["rows"]] == ["forward", "backward_data", "backward_weights"]
    for row in result["rows"]:
        assert row["right"]
        assert 0 < row["error"] < 2e-5
        assert row["bound"] in ("compute", "memory")
        for name in (
            "ms", "gflops_executed", "gflops_effective", "peak_gflops", "percent_of_peak", "gbytes_per_s",
            "percent_of_roofline",
        ):  # fmt: skip
            assert row[name] > 0


def test_a_description_tells_only_of_rates_that_were_measured_beside_the_results() -> None:
    threads = peak.Threads(1)
    measured, plain = machine.describe(1, peak.Gauge(threads)), machine.describe(1)
    threads.close()
    assert measured.keys() - plain.keys() == {"peak_gflops", "read_gbytes_per_s", "copy_gbytes_per_s"}
    assert plain["threads"] == 1


def test_kernels_leaves_winograd_out_where_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for algorithm in ("auto", "direct"):
        arguments = ["vgg_a:conv5_2", "--minibatch", "16", "--pass", "forward", "--samples", "1", "--json"]
        assert kernels.main([*arguments, "--conv", algorithm]) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        found[algorithm] = row["winograd"]
        direct = row["gflops_executed"] == pytest.approx(row["gflops_effective"])
        assert direct == (algorithm == "direct")
    assert found == {"auto": True, "direct": False}


def test_kernels_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main([TINY, "--pass", "forward", "--samples", "1"]) == 0
    _, head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["problem", "pass", "ms"]
    assert row.split()[:2] == [TINY, "forward"]


def test_a_wrong_result_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.check.TOLERANCE", 0.0)
    assert kernels.main([TINY, "--pass", "forward"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_accumulate_compares_whole_steps_and_their_bits(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["digits", "--accumulate", "2", "--leaves", "4", "--rounds", "1", "--threads", "1"]
    assert accumulate.main([*asked, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["microbatches"] == [1, 2]
    assert min(*result["step_seconds"], *result["peak_resident_bytes"]) > 0
    assert len(set(result["weights_sha256"])) == 1


def test_leaves_compares_whole_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves.main(["digits", "--leaves", "4", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["step_seconds"]) == {"1", "4"}
    one, many = result["step_seconds"]["1"], result["step_seconds"]["4"]
    assert result["cost"] == pytest.approx(many / one - 1)


def test_predict_sets_every_side_beside_the_forward_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main(["digits", "--samples", "40", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rates, shares = result["samples_per_second"], result["share_of_forward"]
    assert list(rates) == ["forward", "arrays", "images", "reading", "bound"]
    assert shares["arrays"] == pytest.approx(rates["arrays"] / rates["forward"])
    assert rates["bound"] < min(rates["forward"], rates["reading"])


def test_blocking_prints_a_row_a_pass(capsys: pytest.CaptureFixture[str]) -> None:
    rates = ["--peak", "450", "--bandwidth", "30"]
    assert blocking.main(["vgg_a:conv", *rates]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 8 * 3 - 1
    assert lines[2].split()[:2] == ["vgg_a:conv1_1", "forward"]
    assert lines[2].split()[-1] == "memory"
    assert blocking.main(["vgg_a:conv5_2", *rates, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["blocking"].keys() >= {"block", "walk", "tile", "bytes_per_flop"}


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("kernels", ["nothing"], "no problem is called like 'nothing'"),
        ("kernels", [TINY, "--leaves", "3"], "leaves: got 3; must be a power of two"),
        ("kernels", [TINY, "--leaves", "2"], f"{TINY}: minibatch 1 does not divide into 2 leaves"),
        ("blocking", ["nothing"], "no problem is called like 'nothing'"),
        (
            "accumulate",
            ["digits", "--accumulate", "32"],
            "accumulate: got 32; must be a power of two, 2 or more, up",
        ),
        ("leaves", ["vgg_b"], "model: got 'vgg_b'; must be one of"),
        ("leaves", ["digits", "--leaves", "3"], "leaves: got 3; must be a power of two"),
        ("collectives", ["--rounds", "0"], "rounds: got 0; must be at least 1"),
        ("startup", ["vgg_b"], "model: got 'vgg_b'; must be one of"),
        ("predict", ["vgg_b"], "model: got 'vgg_b'; must be one of"),
        ("predict", ["--rounds", "0"], "samples, rounds: must be at least 1"),
    ],
)
def test_mistakes_are_one_line(
    command: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert COMMANDS[command](arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_a_comparison_without_pytorch_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare_torch, "find_spec", lambda _: None)
    assert compare_torch.main(["digits"]) == 2
    assert "pip install -e '.[bench]'" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra: pip install -e '.[bench]'")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_sides_have_the_same_losses(
    precision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare_torch, "VARIANTS", {"tuned": compare_torch.TUNED})  # a process less to start
    arguments = [
        "digits",
        "--mode",
        "train",
        "--minibatch",
        "16",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--precision",
        precision,
        "--json",
    ]
    assert compare_torch.main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    (result,) = document["results"]
    assert document["precision"] == result["precision"] == precision
    assert result["right"]
    ours, theirs = (row["losses"] for row in result["sides"])
    assert (max(abs(our - their) for our, their in zip(ours, theirs, strict=True)) > 1e-5) == (
        precision == "bf16"
    )  # each rounds other values
    assert [row["side"].split(",")[0] for row in result["sides"]] == ["ours", "PyTorch tuned"]
    for row in result["sides"]:
        assert row["samples_per_second"] > 0
        assert row["peak_resident_bytes"] > 1e7


def test_gauge_repeats_what_ran_beside_a_slow_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    gauge = peak.Gauge(peak.Threads(1))
    gauge.peak = 100.0
    peaks = iter([100.0, 50.0, 100.0, 95.0])
    monkeypatch.setattr(gauge, "sample_peak", lambda: next(peaks))
    results = iter(["slow", "good"])
    sample = gauge.gated(lambda: next(results))
    assert (sample.result, sample.peak, sample.repeated) == ("good", 100.0, 1)


def test_kernels_are_compared_with_pytorch_on_convolutions_only(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert kernels.main(["gemm:64x", "--against", "torch"]) == 2
    said = "error: --against torch: gemm:64x4096x64 is no convolution; only those are compared\n"
    assert capsys.readouterr().err == said
    one = ["odd:100x13x13-36", "--minibatch", "2", "--samples", "1", "--threads", "1"]
    assert kernels.main([*one, "--against", "torch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["odd:100x13x13-36-1x1-n32"] * 3 + list(shapes.PASSES)
    assert all("(geometric mean of 1)" in line for line in lines[5:])
