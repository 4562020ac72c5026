"""The scaling benchmark: what it runs, and what it makes of the figures; little is trained here."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import peak, scaling
from bench.link import LinkFigures
from bench.mpi_reductions import WAYS
from bench.namespaces import Link
from bench.places import Place, RunError
from bench.scaling_cases import Case, Size, sample, steady, train_command
from bench.scaling_cases import ddp_command as ddp
from engine.profile.breakdown import combine
from engine.profile.recorder import StepSums
from layers.work import FORWARD

SIZE = Size(64, 16, 8)
GBIT = LinkFigures(one_way_bits_per_s=1e9, both_ways_bits_per_s=1e9, round_trip_s=1e-4)


@pytest.mark.parametrize(
    ("text", "ranks", "threads", "link"),
    [
        ("1x2", 1, 2, None),
        ("4x1@10gbit", 4, 1, Link(1e10)),
        ("2x1@1gbit+0.1ms", 2, 1, Link(1e9, 1e-4)),
        ("2x1@none", 2, 1, Link()),
    ],
)
def test_places_are_read(text: str, ranks: int, threads: int, link: Link | None) -> None:
    assert Place.parse(text) == Place(ranks, threads, link, text)


def test_ranks_of_one_machine_meet_on_the_loopback_and_hosts_on_their_links() -> None:
    here, hosts = Place.parse("2x1"), Place.parse("2x1@1gbit")
    assert (here.master, here.interface) == ("127.0.0.1", "lo")
    assert (hosts.master, hosts.interface) == ("10.77.0.1", "eth0")
    assert hosts.alone == here


def test_a_failed_run_says_its_last_words() -> None:
    with pytest.raises(RunError, match=r"at 1x1: exit code 3\nno such thing"):
        Place.parse("1x1").run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_a_run_is_the_command_that_a_user_would_type() -> None:
    case = Case("digits", "ours", Place.parse("2x1@1gbit"), overlap=False, plan="data")
    command = " ".join(train_command(case, SIZE, Path("out")))
    for part in ("-m engine.train digits", "--threads 1", "--overlap off", "--batch 64", "--steps 8"):
        assert part in command
    peer = " ".join(ddp(Case("digits", "ddp", case.place), SIZE))
    for part in ("-m bench.ddp digits", "--threads 1", "--batch 64", "--steps 8", "--master 10.77.0.1"):
        assert part in peer
    assert "--layout contiguous" in " ".join(ddp(Case("cd_dnn", "ddp", case.place), SIZE))
    assert "--layout channels_last" in " ".join(ddp(Case("vgg_a", "ddp", case.place), SIZE))


def test_mpi_is_run_in_both_ways_where_it_can() -> None:
    options = scaling._parser().parse_args(["--side", "mpi"])
    options.sides, options.overlaps, options.plans = options.side, ["on", "off"], ["data"]
    found = scaling._cases("digits", [Place.parse(text) for text in ("1x2", "2x1", "3x1")], options)
    assert {case.place.name for case in found} == {"2x1"}
    assert {(case.way, case.overlap) for case in found} == {(way, True) for way in WAYS}
    command = " ".join(train_command(found[0], SIZE, Path("out")))
    assert f"-m bench.mpi_reductions --way {found[0].way} digits" in command


def test_the_fastest_way_of_mpi_is_the_peer() -> None:
    place = Place.parse("2x1")
    _, ours, *_ = figures(
        Case("digits", "ours", Place.parse("1x1"), seconds=[1.5]),
        Case("digits", "ours", place, seconds=[1.0]),
        Case("digits", "mpi", place, way=WAYS[0], seconds=[1.5]),
        Case("digits", "mpi", place, way=WAYS[1], seconds=[1.2]),
        Case("digits", "ours", Place.parse("1x2"), seconds=[0.6]),
    )
    assert ours["ratio_to_mpi"] == pytest.approx(1.2)
    assert ours["efficiency"] == pytest.approx(1.5), "against the first place with one rank"


def test_the_first_steps_do_not_count() -> None:
    assert steady([9, 8, 7, 1, 2]) == [7, 1, 2]
    assert steady([9, 8, 7, 1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5]
    assert steady([9, 1]) == [1]


def figures(*measured: Case) -> list[dict]:
    links = {"2x1@1gbit": GBIT}
    return [scaling.row(case, measured, SIZE, links) for case in measured]


def test_figures_are_set_against_those_of_the_other_sides() -> None:
    here, hosts = Place.parse("2x1"), Place.parse("2x1@1gbit")
    one, ours, peer, apart = figures(
        Case("digits", "ours", Place.parse("1x2"), seconds=[1.0, 1.1, 0.9]),
        Case("digits", "ours", hosts, seconds=[1.25]),
        Case("digits", "ddp", hosts, seconds=[2.5]),
        Case("digits", "alone", here, seconds=[1.0]),
    )
    assert one["samples_per_second"] == pytest.approx(64)
    assert one["efficiency"] == 1
    assert one["ratio_to_ddp"] is None
    assert ours["efficiency"] == pytest.approx(0.8)
    assert ours["ratio_to_ddp"] == pytest.approx(2.0)
    assert ours["compute_alone_seconds"] == 1.0
    assert ours["wire_seconds"] == pytest.approx(2 / 2 * 32 * 62_250 / 1e9)
    assert ours["step_over_bound"] == pytest.approx(1.25)
    assert peer["efficiency"] is None
    assert peer["step_over_bound"] is None
    assert apart["efficiency"] is None


def test_a_sample_reads_what_the_run_has_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(_place: Place, command: list[str]) -> str:
        out = Path(command[command.index("--out") + 1])
        out.mkdir()
        steps = [{"kind": "step", "seconds": seconds} for seconds in (9.0, 9.0, 1.0, 2.0)]
        (out / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        told = combine([StepSums(3, 3.0, {FORWARD: 1.5}, {"reduce fc6": 0.6})] * 2, 0.5)
        assert told is not None
        results = {"weights_sha256": "abc", "where_the_time_went": told.to_json()}
        (out / "run.json").write_text(json.dumps(results))
        return ""

    monkeypatch.setattr(Place, "run", run)
    case = Case("digits", "ours", Place.parse("2x1"))
    sample(case, SIZE, tmp_path)
    assert case.seconds == [1.0, 2.0]
    assert [told.communication_alone_seconds for told in case.breakdowns] == [0.5]
    assert case.weights == {"abc"}


def little(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = peak.Gauge._memory
    monkeypatch.setattr(peak.Gauge, "_memory", lambda gauge, _: measure(gauge, 1 << 16))
    monkeypatch.setattr(peak, "STEPS", 1000)


def test_all_sides_run_on_one_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    little(monkeypatch)
    sides = ["ours", "alone", *(["ddp"] if find_spec("torch") else [])]
    chosen = [word for side in sides for word in ("--side", side)]
    places = ["--place", "1x1", "--place", "2x1"]
    run = ["digits", *places, *chosen, "--overlap", "on", "--plan", "data", "--steps", "4", "--json"]
    assert scaling.main(run) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["benchmark"] == "scaling"
    (result,) = document["results"]
    assert result["right"]
    expected = {"ours 1x1", "ours 2x1, overlap on", "alone 2x1"}
    if "ddp" in sides:
        expected |= {"ddp 1x1", "ddp 2x1"}
    assert {row["case"] for row in result["rows"]} == expected
    assert all(row["samples_per_second"] > 0 for row in result["rows"])


def test_different_weights_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample_differently(case: Case, _size: Size, _folder: Path) -> None:
        case.seconds.append(1.0)
        case.weights.add(case.name)

    monkeypatch.setattr(scaling, "sample", sample_differently)
    assert scaling.main(["digits", "--place", "2x1", "--side", "ours"]) == 1
    assert "WRONG: digits: the runs ended with different weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg_b"], "model: got 'vgg_b'; must be one of"),
        (["digits", "--place", "2"], "place: got '2'; must be RANKSxTHREADS"),
        (["digits", "--place", "2x1@fast"], "rate: got 'fast'; must be like 100mbit"),
        (["digits", "--place", "2x1", "--plan", "fc9=2"], "digits at 2x1: plan: no node fc9"),
        (["digits", "--place", "3x1"], "minibatch: got 32; must divide by the 3 ranks"),
        (["digits", "--place", "1x1", "--steps", "1"], "got 1 steps, 1 rounds; must be 2 and 1 at least"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scaling.main([*arguments, "--side", "ours"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_without_pytorch_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "find_spec", lambda _: None)
    assert scaling.main(["digits", "--place", "1x1"]) == 2
    assert "pip install -e '.[bench]'" in capsys.readouterr().err
