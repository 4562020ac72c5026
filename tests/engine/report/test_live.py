"""The command that serves: from its line with the address to a signal, and beside a run that trains."""

import json
import re
import signal
import subprocess
import sys

import lockstep
import pytest

from engine.report.__main__ import main
from tests.engine.report.test_run_page import grown, unpacked
from tests.engine.report.test_server import ask, serving
from tests.engine.report.written import write_run
from tests.mpi.launch import REPOSITORY


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_as_it_does_other_commands(tmp_path, number):
    write_run(tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.report", "--live", str(tmp_path), "--port", "0"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert re.fullmatch(r"live report on http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\n", line)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys):
    write_run(tmp_path / "run")
    with serving(tmp_path) as server:
        port = str(server.server_port)
        in_use = "Address already in use"
        others = "does not go with --live, which serves pages and writes nothing"
        for arguments, message in (
            (["--live", tmp_path, "--port", port], f"port: cannot listen at 127.0.0.1:{port}: {in_use}"),
            (["--live", tmp_path / "none"], f"run: {tmp_path}/none: there is no such folder"),
            (["--live", tmp_path, "--text"], f"text: {others}"),
            (["--live", tmp_path, "--out", "x"], f"out: {others}"),
            ([tmp_path / "run", "--port", "1"], "port: is for --live, which serves pages"),
            ([tmp_path / "run", "--host", "x"], "host: is for --live, which serves pages"),
        ):  # fmt: skip
            assert main(list(map(str, arguments))) == 2
            assert capsys.readouterr().err == f"error: {message}\n"


def data_of(text):
    """Return what the scripts of a page read."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


class Looking(lockstep.Callback):
    """Asks the server after every step, as a page does."""

    def __init__(self, server):
        self.server, self.steps, self.states = server, [], set()
        self.at, self.series = "", {name: {} for name in ("loss", "accuracy", "samples_per_second", "rate")}

    def on_step(self, run, record):
        self.look()
        self.steps.append(record["step"])

    def look(self):
        answer = json.loads(ask(self.server, f"/data.json?at={self.at}")[1])
        self.at = answer["at"]
        self.states.add(answer["facts"]["state"])
        if answer["anew"]:
            text = ask(self.server, "/")[1]
            found = data_of(text)
            self.at, self.series = found["at"], unpacked(found["runs"][0]["series"])
        else:
            self.series = grown(self.series, answer.get("series", {}))
        return answer


def test_a_run_that_trains_is_followed_step_by_step_to_its_results(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with serving(folder) as server:
        looking = Looking(server)
        lockstep.train("digits", steps=25, threads=1, out=str(folder), callbacks=[looking])
        looking.look()
        assert looking.steps[:3] == [1, 2, 3]
        assert looking.states == {"running", "done"}
        assert looking.series["loss"]["raw"][0] == list(range(1, 26))
        text = ask(server, "/")[1]
        assert looking.series == unpacked(data_of(text)["runs"][0]["series"])
        assert '<section id="layers"' in text
