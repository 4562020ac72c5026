"""The launcher starts a run again after a failure that is not the user's, and the weights are the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench import namespaces
from bench.hosts import Cluster, cluster
from bench.namespaces import ClusterError
from engine.config.errors import UserError
from engine.run import restarts
from engine.run.__main__ import main
from engine.run.finding import find_checkpoint
from engine.run.kept_checkpoints import MODEL, checkpoint_folder, step_of
from engine.run.supervised_folder import SupervisedFolder
from tests.mpi.launch import REPOSITORY, run
from tests.restarts import BETWEEN_CHECKPOINTS, Kill, attacked, campaign, last_step, options, unfailed_hash
from tests.signals import ranks_of

RUN = (sys.executable, "-m", "engine.run", "--survive", "off")


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return unfailed_hash(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def at_once(monkeypatch) -> None:
    monkeypatch.setattr(restarts, "wait_before", lambda _: 0.0)


def ranks_that(monkeypatch, code: str) -> None:
    """Let a line of Python stand for mpirun and its ranks; `argv` are the arguments of engine.train."""
    given = f"import os, signal, sys; argv = sys.argv[sys.argv.index('engine.train') + 1:]; {code}"
    command = [sys.executable, "-c", given]
    monkeypatch.setattr("engine.run.__main__.mpirun_command", lambda *_, **__: command)


def test_waits_become_longer_up_to_a_minute():
    assert [restarts.wait_before(count) for count in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_run_whose_ranks_are_killed_ends_with_the_weights_of_one_in_which_nothing_failed(tmp_path, wanted):
    kills = (
        Kill("rank", 2, 0.0),
        Kill("mpirun", 26, 0.02),
    )  # the save of step 25 has waited for that of step 20
    found, times = attacked(2, kills, tmp_path, random.Random(0))
    assert (found, times) == (wanted, 2)
    lines = [json.loads(line) for line in (tmp_path / "run" / "restarts.jsonl").read_text().splitlines()]
    first, second = lines
    assert first["from_step"] in (0, 5)
    assert "rank" in first["cause"]
    assert "was ended by SIGKILL after step " in first["cause"]
    assert 20 <= second["from_step"] < 40
    assert second["cause"].startswith("mpirun was ended by SIGKILL after step ")


def test_kills_at_random_moments_change_no_bit():
    assert campaign(2, seed=1).total() == 2


def test_one_rank_is_started_again_in_a_folder_that_the_launcher_chooses(tmp_path, wanted):
    *given, _, _ = options(tmp_path)
    process = subprocess.Popen(
        [*RUN, "--restarts", "2", *given], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (found := list(tmp_path.glob("runs/digits-*/checkpoints/step-*[05]"))):
        time.sleep(0.01)
        assert process.poll() is None
    (rank,) = psutil.Process(process.pid).children()
    rank.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (run_folder,) = (tmp_path / "runs").iterdir()
    assert found[0].is_relative_to(run_folder)
    assert f"restart 1 of 2 in 1 s, from runs/{run_folder.name}/checkpoints/step-" in errors
    assert ": the run was ended by SIGKILL after step " in errors
    results = json.loads((run_folder / "run.json").read_text())
    assert (results["restarts"], results["weights_sha256"]) == (1, wanted)


def wait_for_checkpoint(process: subprocess.Popen[str], out: Path, step: int) -> Path:
    """Return the newest checkpoint of a run as soon as it is of this step or later."""
    while True:
        assert process.poll() is None
        with suppress(UserError, FileNotFoundError):
            found = find_checkpoint(out)
            if step_of(found) >= step:
                return found
        time.sleep(0.01)


def test_a_damaged_checkpoint_is_passed_over_and_a_run_that_goes_on_is_started_again_too(tmp_path, wanted):
    out = tmp_path / "run"
    whole = run(*RUN, *options(out), "--keep-checkpoints", "9", timeout=120)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        [*RUN, "-n", "2", "--resume", str(out / "checkpoints" / "step-00000010"), "--restarts", "3"],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and last_step(out) > 15:  # until the run is cut back, checkpoints first
        time.sleep(0.01)
    wait_for_checkpoint(process, out, 20)
    ranks = ranks_of(process.pid)
    for rank in ranks:
        rank.suspend()
    damaged = find_checkpoint(out)
    content = bytearray((damaged / MODEL).read_bytes())
    content[-1] ^= 1
    (damaged / MODEL).write_bytes(content)
    for rank in ranks:
        rank.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("restart ")]
    assert f"from {checkpoint_folder(out, step_of(damaged) - BETWEEN_CHECKPOINTS)}: " in line
    results = json.loads((out / "run.json").read_text())
    assert (results["restarts"], results["weights_sha256"]) == (1, wanted)


def test_a_run_that_was_killed_between_its_last_checkpoint_and_its_results_is_finished(tmp_path, wanted):
    out = tmp_path / "run"
    whole = run(*RUN, *options(out), timeout=120)
    assert whole.returncode == 0, whole.stderr
    before = json.loads((out / "run.json").read_text())
    lines = (out / "metrics.jsonl").read_text()
    (out / "run.json").unlink()
    finished = run(*RUN, "-n", "2", "--resume", str(out), timeout=120)
    assert finished.returncode == 0, finished.stderr
    after = json.loads((out / "run.json").read_text())
    same = ("steps", "final_loss", "test_loss", "test_accuracy", "weights_sha256")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert (out / "metrics.jsonl").read_text() == lines
    assert after["weights_sha256"] == wanted
    again = run(*RUN, "--resume", str(out), timeout=120)
    assert again.returncode == 2
    assert "the run is at step 40 of 40: give more --epochs or --steps" in again.stderr


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print('error: a mistake', file=sys.stderr); sys.exit(2)", 2, "error: a mistake"),
        ("print('interrupted', file=sys.stderr); sys.exit(130)", 130, "interrupted"),
    ],
)
def test_a_mistake_and_an_interruption_are_not_started_again(
    monkeypatch, capsys, tmp_path, code, status, said
):
    ranks_that(monkeypatch, code)
    assert main(["-n", "2", "--restarts", "3", "--out", str(tmp_path / "run")]) == status
    assert capsys.readouterr().err.splitlines() == [said]


@pytest.mark.usefixtures("at_once")
def test_it_gives_up_after_so_many_restarts_without_a_new_checkpoint(monkeypatch, capsys, tmp_path):
    ranks_that(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    out = tmp_path / "run"
    assert main(["-n", "2", "--restarts", "2", "--out", str(out)]) == 1
    cause = "mpirun was ended by SIGKILL before the end of its first step"
    assert capsys.readouterr().err.splitlines() == [
        f"restart 1 of 2 in 0 s, from the beginning, in {out}: {cause}",
        f"restart 2 of 2 in 0 s, from the beginning, in {out}: {cause}",
        f"error: run: {cause}, 2 restarts after the last new checkpoint; it has saved nothing",
    ]
    assert len((out / "restarts.jsonl").read_text().splitlines()) == 2


@pytest.mark.usefixtures("at_once")
def test_each_new_checkpoint_begins_the_count_anew(monkeypatch, capsys, tmp_path):
    ranks_that(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    found = iter([*(Path(f"step-{step:08d}") for step in (7, 7, 14)), *[Path("step-00000014")] * 9])
    monkeypatch.setattr(SupervisedFolder, "newest_whole", lambda _: next(found))
    assert main(["-n", "2", "--restarts", "2", "--out", str(tmp_path / "run")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" in ")[0] for line in lines[:-1]] == [
        "restart 1 of 2", "restart 2 of 2", "restart 1 of 2", "restart 2 of 2"
    ]  # fmt: skip


@pytest.mark.usefixtures("at_once")
def test_an_exception_that_comes_again_at_the_same_step_is_a_mistake_in_a_program(
    monkeypatch, capsys, tmp_path
):
    ranks_that(monkeypatch, "print('rank 1: ValueError: odd', file=sys.stderr); sys.exit(1)")
    assert main(["-n", "2", "--restarts", "9", "--out", str(tmp_path / "run")]) == 1
    first, again, _, last = capsys.readouterr().err.splitlines()
    assert (first, again.partition(" in ")[0]) == ("rank 1: ValueError: odd", "restart 1 of 9")
    assert last == (
        "error: run: rank 1: ValueError: odd before the end of its first step, and that for the second time: "
        "no restart mends it; it has saved nothing"
    )


@pytest.mark.usefixtures("at_once")
def test_an_mpirun_that_lost_a_host_and_says_0_has_failed(monkeypatch, capsys, tmp_path):
    note = (
        f"{'-' * 50}\\nPRTE has lost communication with a remote daemon.\\n"
        f"Remote daemon: [prterun-vm-1@0,2] on node b\\n{'-' * 50}"
    )
    ranks_that(monkeypatch, f"print('{note}', file=sys.stderr)")
    assert main(["-n", "2"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: run: host b is lost; steps behind the last checkpoint are lost: go on with --resume"
    )
    assert main(["-n", "2", "--restarts", "1", "--out", str(tmp_path / "run")]) == 1
    line, _ = capsys.readouterr().err.splitlines()
    assert line.endswith(": host b is lost before the end of its first step")


@pytest.mark.usefixtures("at_once")
def test_a_folder_that_holds_another_run_loses_nothing(monkeypatch, tmp_path):
    out = tmp_path / "run"
    done = run(*RUN, "--steps", "2", "--threads", "1", "--out", str(out), timeout=120)
    assert done.returncode == 0, done.stderr
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file())
    ranks_that(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    assert main(["-n", "2", "--restarts", "1", "--out", str(out)]) == 1
    after = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file())
    assert [each for each in after if each[0].name != "restarts.jsonl"] == before


@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGINT), (signal.SIGUSR1,)])
def test_a_wish_to_end_while_it_waits_ends_it_at_once(tmp_path, numbers):
    code = (
        "import sys; from engine.run import restarts; from engine.run.__main__ import main; "
        "restarts.wait_before = lambda _: 1000.0; "
        "import engine.run.__main__ as m; m.mpirun_command = lambda *_, **__: ['sh', '-c', 'kill -9 $$']; "
        f"sys.exit(main(['-n', '2', '--restarts', '3', '--out', {str(tmp_path / 'run')!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("restart 1 of 3 in 1000 s")
    for number in numbers:
        process.send_signal(number)
    asked = time.monotonic()
    errors = process.communicate(timeout=30)[1]
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert time.monotonic() - asked < 10


def test_ctrl_c_after_a_restart_saves_and_ends_with_130(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*RUN, "-n", "2", "--restarts", "3", *options(out), "--steps", "100000"],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    Kill("rank", 7, 0.0).strike(process, out, random.Random(0))
    while process.poll() is None and not (out / "restarts.jsonl").exists():
        time.sleep(0.01)
    restarted_from = json.loads((out / "restarts.jsonl").read_text())["from_step"]
    wait_for_checkpoint(process, out, restarted_from + BETWEEN_CHECKPOINTS)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"interrupted; go on with --resume {out}" in errors
    results = json.loads((out / "run.json").read_text())
    assert find_checkpoint(out).name == f"step-{results['steps']:08d}"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--restarts", "-1"], "error: restarts: got -1; must be at least 0"),
        (
            ["-n", "2", "--min-ranks", "3"],
            "error: min-ranks: got 3; must be from 1 to the number of ranks, 2",
        ),
        (["--restarts", "1", "nowhere.toml"], "error: "),
    ],
)
def test_what_cannot_be_is_one_line(capsys, given, line):
    assert main(given) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


@pytest.fixture
def hosts() -> Iterator[Cluster]:
    try:
        with cluster(hosts=2) as made:
            made.mpirun_arguments()
            yield made
    except ClusterError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("survive", ["on", "off"])
def test_a_host_that_is_gone_is_left_out(hosts, tmp_path, wanted, survive):
    out = tmp_path / "run"
    first, second = hosts.names
    flags = hosts.mpirun_arguments()[1:-4]
    command = [
        *RUN,
        "-n",
        "2",
        "--hosts",
        f"{first}:1,{second}:1",
        "--survive",
        survive,
        "--restarts",
        "3",
        *options(out),
        "--",
        *flags,
    ]
    process = hosts.start(command, cwd=REPOSITORY)
    wait_for_checkpoint(process, out, 10)
    (hosts.folder / "on-host").write_text(namespaces.remote_shell([first]))
    namespaces.end_processes(second)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    said = [line for line in errors.splitlines() if "restart 1 of 3" in line]
    assert f"; {second} does not answer: 1 of 2 ranks left" in "".join(said), errors
    results = json.loads((out / "run.json").read_text())
    assert (results["ranks"], results["weights_sha256"]) == (1, wanted)


@pytest.mark.usefixtures("at_once")
def test_too_few_ranks_are_not_started(monkeypatch, capsys, tmp_path):
    ranks_that(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(
        "engine.run.ranks_left.Placement.left", lambda _: restarts.RanksLeft(1, "a:1", ("b",))
    )
    given = ["-n", "2", "--hosts", "a:1,b:1", "--restarts", "2", "--min-ranks", "2"]
    assert main([*given, "--out", str(tmp_path / "run")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for line in lines[:-1]:
        assert line.endswith("b does not answer: 1 of 2 ranks left")
        assert "if 2 can be started then" in line
