"""The comparison with MPI's collectives: it checks its sums, and says plainly where it is slower."""

import json
import subprocess

import pytest

from bench import collectives
from bench.link import LinkFigures


def row(floats: int, ratio: float, *, right: bool = True) -> dict[str, object]:
    return {
        "ranks": 2,
        "floats": floats,
        "operation": "part_broadcast",
        "against": "Allgather",
        "ours_ms": 2.0,
        "mpi_ms": 2.0 * ratio,
        "ratio": ratio,
        "right": right,
    }


def test_both_sides_are_measured_on_every_transport(capsys: pytest.CaptureFixture[str]) -> None:
    assert collectives.main(["--ranks", "2", "--floats", "5000", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["benchmark"] == "collectives"
    assert result["machine"]["cores"] >= 1
    measured = [(row["transport"], row["operation"]) for row in result["rows"]]
    assert measured == [(t, operation) for t in collectives.TRANSPORTS for operation in collectives.PAIRS]
    for found in result["rows"]:
        assert found["right"]
        assert (found["ranks"], found["floats"]) == (2, 5000)
        assert found["against"] == collectives.PAIRS[found["operation"]]
        assert found["ours_ms"] > 0
        assert found["ratio"] == pytest.approx(found["mpi_ms"] / found["ours_ms"])


def test_the_table_shows_both_sides_and_what_is_wrong() -> None:
    head, good, bad = collectives.table([row(4_194_304, 1.25), row(100, 0.5, right=False)]).splitlines()
    assert head.split() == ["floats", "ours", "ms", "MPI", "ms", "ratio"]
    assert good.split() == ["4,194,304", "part_broadcast", "2.000", "Allgather", "2.500", "1.25"]
    assert bad.endswith("WRONG")


def test_a_share_of_tcp_is_the_bytes_on_the_link_over_its_both_ways_bandwidth() -> None:
    link = LinkFigures(2e8, 1e8, 1e-4)
    one = {**row(1_000_000, 1.0), "ours_ms": 200.0}  # 2 MB go each way: 16 Mbit in 0.2 s
    assert collectives.of_tcp(one, link) == pytest.approx(0.8)
    both = {**one, "operation": "part_reduce + part_broadcast", "ours_ms": 400.0}
    assert collectives.of_tcp(both, link) == pytest.approx(0.8)
    four = {**one, "ranks": 4}
    assert collectives.of_tcp(four, link) == pytest.approx(1.2)
    assert collectives.of_tcp({**one, "ranks": 3}, link) is collectives.of_tcp(one, None) is None


def test_the_table_has_a_column_for_it_where_it_was_measured() -> None:
    rows = [{**row(100, 1.0), "of_tcp": share} for share in (0.925, None)]
    head, known, unknown = collectives.table(rows).splitlines()
    assert head.endswith("of TCP")
    assert known.split()[-1] == "0.93"
    assert unknown.split()[-1] == "-"


def test_a_mistaken_rate_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert collectives.main(["--ranks", "2", "--rate", "fast"]) == 2
    assert "rate: got 'fast'; must be like 100mbit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--floats", "0"], "floats: got 0; must be at least 1"),
        (["--ranks", "1"], "ranks: got 1; must be 2 to 64"),
        (["--ranks", "65"], "ranks: got 65; must be 2 to 64"),
        (["--rounds", "0"], "rounds: got 0; must be at least 1"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collectives.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_job_that_does_not_end_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mpirun(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired((), 600)

    monkeypatch.setattr(collectives, "mpirun", mpirun)
    assert collectives.main(["--ranks", "2", "--transport", "tcp", "--floats", "100"]) == 2
    assert "mpirun -n 2, tcp: no end within 600 s" in capsys.readouterr().err


def test_the_verdict_counts_large_sizes_only() -> None:
    small, slow, fast = row(100_000, 0.3), row(4_194_304, 0.9), row(16_777_217, 1.5)
    verdict = collectives.verdict([small, slow, fast])
    assert "at least as fast in 1 of 2" in verdict
    assert "lowest ratio is 0.90 (part_broadcast, 4,194,304 floats, 2 ranks)" in verdict
    assert collectives.verdict([small]) == "no size above 1 MB"


@pytest.mark.parametrize(
    ("code", "said"), [(213, "There are not enough slots"), (1, "Traceback\nMemoryError")]
)
def test_a_job_that_fails_is_told_of(
    code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = subprocess.CompletedProcess((), code, "", f"{said}\n")
    monkeypatch.setattr(collectives, "mpirun", lambda *_, **__: ended)
    assert collectives.main(["--ranks", "2", "--transport", "tcp", "--floats", "100"]) == 2
    assert capsys.readouterr().err == f"error: mpirun -n 2, tcp: {said}\n"
