"""The launcher: a wish to end reaches all ranks, and the run ends as one that was asked."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest

from engine.host import mpirun as module
from engine.host.mpirun import mpirun_command
from engine.run import supervise
from engine.run.__main__ import main
from engine.run.finding import find_checkpoint
from tests.mpi.launch import REPOSITORY, run
from tests.signals import campaign

RUN = (sys.executable, "-m", "engine.run")
STEPS = 400


def options(out: Path, steps: int = STEPS) -> list[str]:
    return ["--steps", str(steps), "--threads", "1", "--out", str(out)]


def wait_for_a_step(process: subprocess.Popen, out: Path) -> None:
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.01)


def interrupted_in_a_terminal(command, out: Path) -> tuple[int, str]:
    """Press Ctrl-C in a terminal after a step; return the exit code and what the terminal shows."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 -- the terminal is its own
    )
    os.close(slave)
    wait_for_a_step(process, out)
    os.write(master, b"\x03")
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the last process has closed the terminal
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return process.wait(timeout=30), shown.decode()


def test_ctrl_c_in_a_terminal_saves_says_goodbye_and_the_run_goes_on_with_the_same_bits(tmp_path):
    out = tmp_path / "run"
    code, shown = interrupted_in_a_terminal([*RUN, "-n", "2", *options(out)], out)
    assert code == 130, shown
    assert "where the time went: " in shown
    assert f"interrupted; go on with --resume {out}" in shown.splitlines()
    assert json.loads((out / "run.json").read_text())["interrupted"] is True
    assert 0 < int(find_checkpoint(out).name.removeprefix("step-")) < STEPS
    resumed = run(*RUN, "-n", "2", "--resume", str(out), "--threads", "1", timeout=60)
    assert resumed.returncode == 0, resumed.stderr
    whole = run(sys.executable, "-m", "engine.train", *options(tmp_path / "whole"), timeout=60)
    assert whole.returncode == 0, whole.stderr
    hashes = [
        json.loads((each / "run.json").read_text())["weights_sha256"] for each in (out, tmp_path / "whole")
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_ctrl_c_under_make_saves_too(tmp_path):
    out, makefile = tmp_path / "run", tmp_path / "Makefile"
    makefile.write_text(f"train:\n\t{' '.join(RUN)} -n 2 {' '.join(options(out, 100_000))}\n")
    code, shown = interrupted_in_a_terminal(["make", "-f", str(makefile)], out)
    assert code != 0
    assert f"interrupted; go on with --resume {out}" in shown
    assert find_checkpoint(out)


def test_a_launcher_that_is_killed_leaves_a_checkpoint(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*RUN, "-n", "2", *options(out, 100_000)],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_a_step(process, out)
    ranks = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(ranks, timeout=20)[1]
    assert find_checkpoint(out)
    assert json.loads((out / "run.json").read_text())["interrupted"] is True


def test_an_interrupt_before_the_first_step_is_one_line_and_the_folder_can_be_used(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*RUN, "-n", "2", *options(out)], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "")
    assert errors.endswith("interrupted\n")  # before it, mpirun may say that a signal met Python's own start
    assert "Traceback" not in errors
    again = run(*RUN, *options(out, 2), timeout=60)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_run_whose_words_nobody_reads_any_more_saves_when_it_is_asked_to_end(tmp_path, ranks):
    out = tmp_path / "run"
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*RUN, "-n", ranks, *options(out, 100_000)], cwd=REPOSITORY, stdout=writer, stderr=writer
    )
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)  # as `tee` does, which gets the same Ctrl-C
    wait_for_a_step(process, out)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert json.loads((out / "run.json").read_text())["interrupted"] is True
    assert find_checkpoint(out)


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_mistake_is_one_line_and_exit_code_2(ranks):
    done = run(*RUN, "-n", ranks, "--bacth=3")
    assert done.returncode == 2
    assert done.stderr == (
        'error: unrecognized arguments: --bacth=3 (did you mean "--batch"?); --help lists all options\n'
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["-n", "0"], "error: ranks: got 0; must be at least 1"),
        (["-n", "two"], "error: argument -n/--ranks: invalid int value: 'two'; --help lists all options"),
    ],
)
def test_what_the_launcher_cannot_do_is_one_line(capsys, given, line):
    try:
        code = main(given)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_more_ranks_than_memory_could_hold_are_refused_at_once(monkeypatch, capsys):
    monkeypatch.setattr(module, "physical_bytes", lambda: (3e9, 1e9))
    monkeypatch.setattr(module, "container_limit", lambda: (4e9, ""))
    monkeypatch.setattr("engine.run.__main__.supervise", lambda _: 0)
    assert main(["-n", "101"]) == 2
    said = "error: ranks: got 101; the memory of this machine has room for 100 at most\n"
    assert capsys.readouterr().err == said
    for given in (
        ["-n", "100"],
        ["-n", "101", "--hosts", "a:60,b:60"],
        ["-n", "101", "--", "--hostfile", "h"],
    ):
        assert main(given) == 0


def test_without_an_mpi_one_rank_trains_and_several_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["-n", "1", "--steps", "0", "--epochs", "0"]) == 2
    assert "exactly one must be at least 1" in capsys.readouterr().err
    assert main(["-n", "2"]) == 2
    assert capsys.readouterr().err == f"error: {module.MISSING}\n"


def test_a_launcher_under_a_launcher_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert main(["-n", "2"]) == 2
    assert "under mpirun or srun use python -m engine.train" in capsys.readouterr().err


def test_ranks_start_without_a_home_folder(tmp_path):
    # more ranks than cores here: mpirun must also be known as Open MPI's, to be told so
    environment = {name: os.environ[name] for name in ("PATH", "NUMBA_CACHE_DIR") if name in os.environ}
    command = [*RUN, "-n", "4", *options(tmp_path / "run", steps=2)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["ranks"] == 4


def test_a_user_who_is_in_no_list_gets_a_home_folder_that_is_none(monkeypatch):
    def unknown(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(module.pwd, "getpwuid", unknown)
    assert module.mpirun_environment()["HOME"] == "/nonexistent"
    monkeypatch.setenv("HOME", "/some/home")
    assert module.mpirun_environment()["HOME"] == "/some/home"


def test_mpirun_finds_the_programs_that_are_installed_beside_it(tmp_path, monkeypatch):
    """Intel MPI's is a script that starts another program of its folder by name."""
    for name, text in (("mpirun", "#!/bin/sh\nmpiexec.hydra"), ("mpiexec.hydra", "#!/bin/sh\necho started")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    command = mpirun_command(1)[0]
    environment = module.mpirun_environment()
    done = subprocess.run([command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "started\n"
    (tmp_path / "mpirun").unlink()
    assert module.mpirun_environment()["PATH"] == os.environ["PATH"]


def test_mpirun_gets_the_flags_that_it_needs_and_the_users_win(monkeypatch):
    monkeypatch.setattr(module, "find_mpirun", lambda: "mpirun")
    monkeypatch.setattr(module, "_cores", lambda: 4)
    monkeypatch.setattr(module, "is_open_mpi", lambda _: True)
    free = ["--bind-to", "none"]
    assert mpirun_command(4) == ["mpirun", *free, "-n", "4"]
    assert mpirun_command(5) == ["mpirun", *free, "--oversubscribe", "-n", "5"]
    assert mpirun_command(8, hosts="a:4,b:4") == ["mpirun", *free, "--host", "a:4,b:4", "-n", "8"]
    assert mpirun_command(2, more=["--bind-to", "core"]) == ["mpirun", "--bind-to", "core", "-n", "2"]
    monkeypatch.setattr(module, "is_open_mpi", lambda _: False)
    assert mpirun_command(8, hosts="a,b") == ["mpirun", "-hosts", "a,b", "-n", "8"]


def test_random_signals_at_random_moments_lose_nothing():
    counts = campaign(3, seed=1)
    assert counts.total() - counts["resumed"] == 3


def test_an_mpirun_whose_rank_a_ctrl_c_met_before_it_was_listening_was_interrupted(monkeypatch, capsys):
    note = f"{'-' * 50}\\nprterun noticed that process rank 0 exited on\\nsignal 2 (Interrupt).\\n{'-' * 50}"
    code = f"import sys; print('{note}', file=sys.stderr); sys.exit(130)"
    monkeypatch.setattr("engine.run.__main__.mpirun_command", lambda *_, **__: [sys.executable, "-c", code])
    assert main(["-n", "2"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


@pytest.mark.parametrize(("speaks", "asked"), [(False, 1), (True, 2)])
def test_an_mpirun_that_lost_a_wish_to_end_is_asked_again_or_ended(
    monkeypatch, tmp_path, capsys, speaks, asked
):
    monkeypatch.setattr(supervise, "SILENT_PATIENCE_S", 1.0)
    monkeypatch.setattr(supervise, "PATIENCE_S", 1.0)
    code = f"""
import os, signal, time
from pathlib import Path

asked = Path({str(tmp_path / "asked")!r})
asked_before = lambda: asked.read_text() if asked.exists() else ""
signal.signal(signal.SIGUSR1, lambda *_: asked.write_text(asked_before() + "."))
os.kill(os.getppid(), signal.SIGTERM)
while not asked.exists():
    time.sleep(0.01)
if {speaks}:
    print("a rank", flush=True)
while True:
    time.sleep(1)
"""
    monkeypatch.setattr("engine.run.__main__.mpirun_command", lambda *_, **__: [sys.executable, "-c", code])
    assert main(["-n", "2"]) == 130
    assert (tmp_path / "asked").read_text() == "." * asked
    assert (
        "the ranks have not ended 1 s after they were asked to: mpirun ends them" in capsys.readouterr().err
    )


def test_an_mpirun_that_cannot_be_started_is_one_line(monkeypatch, tmp_path, capsys):
    broken = tmp_path / "mpirun"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    monkeypatch.setattr("engine.run.__main__.mpirun_command", lambda *_, **__: [str(broken)])
    assert main(["-n", "2"]) == 2
    assert capsys.readouterr().err == f"error: run: {broken} cannot be started: Exec format error\n"


def test_a_launcher_without_threads_ends_what_it_has_started_and_says_so(monkeypatch, capsys):
    def refused(_):
        raise RuntimeError("can't start new thread")

    command = [sys.executable, "-c", "import time; time.sleep(60)", "a rank that waits"]
    monkeypatch.setattr("engine.run.__main__.mpirun_command", lambda *_, **__: command)
    monkeypatch.setattr("threading.Thread.start", refused)
    before = set(psutil.Process().children())
    assert main(["-n", "2"]) == 2
    said = "error: run: can't start new thread: the system allows no more of them here\n"
    assert capsys.readouterr().err == said
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            1,
            "error: run: mpirun was ended by SIGKILL, and nobody has",
        ),
        ("sys.exit(213)", 1, "error: run: mpirun ended with exit code 213, and nobody has said why: "),
        ("sys.exit(1)", 1, "error: run: mpirun ended with exit code 1, and nobody has said why: "),
        ("print('error: a rank', file=sys.stderr); sys.exit(2)", 2, "error: a rank"),
    ],
)
def test_an_mpirun_that_ends_says_why_or_the_launcher_does_in_one_line(
    monkeypatch, capsys, code, status, said
):
    command = [sys.executable, "-c", f"import os, signal, sys; {code}"]
    monkeypatch.setattr("engine.run.__main__.mpirun_command", lambda *_, **__: command)
    assert main(["-n", "2"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_an_exit_code_of_mpiruns_own_is_1_and_said(monkeypatch, capsys):
    code = "import sys; print('error: no room', file=sys.stderr); sys.exit(213)"
    monkeypatch.setattr("engine.run.__main__.mpirun_command", lambda *_, **__: [sys.executable, "-c", code])
    assert main(["-n", "2"]) == 1
    said = "error: run: mpirun ended with its exit code 213; what it says above is why"
    assert capsys.readouterr().err.splitlines() == ["error: no room", said]


def test_no_file_of_the_users_is_taken_for_a_package_of_ours(tmp_path):
    for name in ("engine.py", "layers.py", "comm.py"):
        (tmp_path / name).write_text("raise SystemExit(7)\n")
    lockstep = Path(sys.executable).parent / "lockstep"
    command = (lockstep, "run", "-n", "2", *options(tmp_path / "out", steps=2))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
