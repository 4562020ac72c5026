"""The command, from runs to files, and every mistake that one can make with it."""

import errno
import os
import re
from pathlib import Path

import pytest

from comm import terminal
from engine.config import files
from engine.report import __main__ as command
from engine.report import page
from engine.report.__main__ import main
from engine.report.run_record import read_runs
from engine.report.text import Style
from tests.engine.report.test_timeline import traced_run
from tests.engine.report.written import write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def refused(capsys, *arguments) -> str:
    """Run the command, and return the one line that refuses what was given."""
    assert main(list(map(str, arguments))) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_page_is_written_where_it_is_asked_for_and_over_an_older_one(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    for _ in range(2):
        assert main([str(run), "--out", str(out)]) == 0
        assert capsys.readouterr().err == f"report in {out}\n"
    assert page.is_ours(out.read_bytes())


def test_without_a_wish_it_is_report_html_in_the_current_folder(run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main([str(run)]) == 0
    assert left(tmp_path / "here") == {"report.html"}


def test_text_and_csv_ask_for_no_page(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main([str(run), "--text"]) == 0
    assert "loss of a step" in capsys.readouterr().out
    assert main([str(run), "--csv", "-"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("run,kind,step,")
    assert printed.out.count("\n") == 45
    assert printed.err == ""
    assert left(tmp_path / "here") == set()


def test_the_text_is_plain_where_the_terminal_has_no_blocks(run, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    assert main([str(run), "--text"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert max(map(len, printed[printed.index("loss of a step") :].splitlines()[:14])) < 60


@pytest.mark.parametrize(("encoding", "blocks"), [("ascii", False), ("latin-1", False), ("utf-8", True)])
def test_blocks_are_for_terminals_that_can_write_them(monkeypatch, encoding, blocks):
    monkeypatch.setattr(type(terminal.OUTPUT), "encoding", encoding)
    assert command._style().blocks == blocks


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert not command._style().colours
    monkeypatch.setattr(type(terminal.OUTPUT), "isatty", lambda _: True)
    assert command._style().colours
    monkeypatch.setenv("NO_COLOR", "1")
    assert not command._style().colours
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not command._style().colours


def test_colours_reach_the_terminal(run, monkeypatch, capsys):
    monkeypatch.setattr(command, "_style", lambda: Style(80, blocks=True, colours=True))
    assert main([str(run), "--text"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b[34m" in printed
    assert "\\x1b" not in printed


def test_of_several_runs_one_may_have_a_trace(tmp_path, run):
    traced, trace = traced_run(tmp_path / "traced")
    trace.rename(traced.folder / "trace.json")
    out = tmp_path / "page.html"
    assert main([str(run), str(traced.folder), "--step", "3", "--out", str(out)]) == 0
    assert out.read_text().count("Step 3 as a timeline") == 1


def test_help_names_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.startswith("usage: python -m engine.report [-h]")


def test_csv_goes_to_a_file_or_into_a_folder_a_file_for_each(run, tmp_path):
    other = write_run(tmp_path / "other")
    out = tmp_path / "all.csv"
    assert main([str(run), str(other), "--csv", str(out)]) == 0
    assert out.read_text().count("\n") == 89
    (tmp_path / "tables").mkdir()
    for _ in range(2):  # ours may be written over
        assert main([str(run), str(other), "--csv", str(tmp_path / "tables")]) == 0
    assert left(tmp_path / "tables") == {"run.csv", "other.csv"}


def test_a_step_of_the_trace_is_on_the_page(tmp_path):
    run, trace = traced_run(tmp_path / "run")
    out = tmp_path / "page.html"
    for arguments, step in ((["--trace", str(trace)], 6), (["--trace", str(trace), "--step", "2"], 2)):
        assert main([str(run.folder), "--out", str(out), *arguments]) == 0
        assert f"Step {step} as a timeline: " in out.read_text()


def test_the_same_command_makes_the_same_page(run, tmp_path):
    pages = []
    for name in ("a.html", "b.html"):
        assert main([str(run), "--out", str(tmp_path / name)]) == 0
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


MISTAKES = {
    "no run": (["{tmp}/none"], r"run: .*/none holds no run: none of metrics\.jsonl, run\.json"),
    "a folder that is no run": (["{tmp}"], "run: .* holds no run"),
    "cut results": (["{tmp}/cut"], r"cut/run\.json: is cut short or damaged: "),
    "a recipe that is none": (["{tmp}/recipe"], r"recipe/recipe\.toml: is no recipe: "),
    "no such folder": (
        ["{run}", "--out", "{tmp}/none/x.html"],
        "out: .*/none/x.html: cannot be written: No such",
    ),
    "two runs for one table": (
        ["a/b={run}", "a_b={run}", "--csv", "{tmp}/"],
        "csv: a/b and a_b would both be a_b.csv; give other names",
    ),
    "a pipe as page": (["{run}", "--out", "{tmp}/pipe"], "out: .*pipe: is a device, a pipe"),
    "a pipe as table": (["{run}", "--csv", "{tmp}/pipe"], "csv: .*pipe: is a device, a pipe"),
    "a folder as page": (["{run}", "--out", "{tmp}"], "out: .* is a folder; give the name of a file"),
    "somebody's file": (
        ["{run}", "--out", "{tmp}/mine"],
        "out: .*mine is there and no report, and is not written",
    ),
    "somebody's table": (
        ["{run}", "--csv", "{tmp}/mine"],
        "csv: .*mine is there and no report, and is not wri",
    ),
    "csv nowhere": (["{run}", "--csv", "{tmp}/none/x.csv"], "csv: .*/none/x.csv: cannot be written: No such"),
    "csv into no folder": (
        ["{run}", "--csv", "{tmp}/none/"],
        "csv: .*/none/run.csv: cannot be written: No such",
    ),
    "two things on stdout": (["{run}", "--csv", "-", "--text"], "csv: - and --text both print to stdout"),
    "no trace": (["{run}", "--trace", "{tmp}/none"], "none: cannot be read: No such file"),
    "a trace that is none": (["{run}", "--trace", "{tmp}/mine"], "mine: is not a trace"),
    "a trace too many": (
        ["{run}", "--trace", "a", "--trace", "b"],
        "trace: got 2 files for 1 runs; at most one",
    ),
    "a step without a trace": (["{run}", "--step", "3"], "step: there is no trace to draw a step of"),
    "a trace without a page": (
        ["{run}", "--text", "--trace", "a"],
        "trace: a step is drawn on the page only",
    ),
    "a step of no trace": (
        ["{traced}", "--trace", "{trace}", "--step", "99"],
        "step: got 99; the trace has 1 to 8",
    ),
    "another run's trace": (
        ["{run}", "--trace", "{trace}"],
        "trace: .* is of another run than .*run: its steps",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, capsys, mistake):
    (write_run(tmp_path / "cut") / "run.json").write_text('{"model": "digits", "ste')
    write_run(tmp_path / "recipe", recipe="model = \n")
    (tmp_path / "mine").write_text("<html>my own page</html>")
    os.mkfifo(tmp_path / "pipe")
    traced, trace = traced_run(tmp_path / "traced")
    monkeypatch.chdir(run)
    arguments, message = MISTAKES[mistake]
    before = left(tmp_path)
    named = {"run": run, "tmp": tmp_path, "traced": traced.folder, "trace": trace}
    line = refused(capsys, *(each.format(**named) for each in arguments))
    assert re.search(message, line), line
    assert left(tmp_path) == before
    assert (tmp_path / "mine").read_text() == "<html>my own page</html>"


def test_a_page_that_does_not_fit_into_memory_is_one_line(run, monkeypatch, capsys, tmp_path):
    def too_large(*_):
        raise MemoryError

    monkeypatch.setattr("engine.report.page.page", too_large)
    assert refused(capsys, str(run), "--out", str(tmp_path / "page")) == "error: memory: none is left"


@pytest.mark.parametrize("option", ["--out", "--csv"])
def test_a_full_disk_leaves_the_older_file(run, tmp_path, monkeypatch, capsys, option):
    out = tmp_path / "file"
    assert main([str(run), option, str(out)]) == 0
    capsys.readouterr()
    before, names = out.read_bytes(), left(tmp_path)

    def full(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    assert refused(capsys, run, option, out).endswith(f"{out}: cannot be written: No space left on device")
    assert out.read_bytes() == before
    assert left(tmp_path) == names


def test_no_runs_at_all_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "the following arguments are required: RUN" in capsys.readouterr().err


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(run, tmp_path):
    (run / "run.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 41, "lo')
    assert main([str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert read_runs([str(run)])[0].damaged == 1


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_curves_are_drawn_without_a_page_and_over_a_picture_only_if_asked(
    run, tmp_path, monkeypatch, capsys, ending
):
    pytest.importorskip("matplotlib", reason="extra: plot")
    monkeypatch.chdir(tmp_path)
    other, out = write_run(tmp_path / "$other$"), tmp_path / f"curves.{ending}"
    arguments = (run, other, "--picture", out)
    assert main(list(map(str, arguments))) == 0
    assert capsys.readouterr().err == f"curves in {out}\n"
    drawn = out.read_bytes()
    assert drawn.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    assert left(tmp_path) == {*left(tmp_path), out.name} - {"report.html"}
    assert "exists; give another name" in refused(capsys, *arguments)
    assert out.read_bytes() == drawn
    assert main([*map(str, arguments), "--overwrite"]) == 0
    if ending == "svg":
        assert b"<!-- test accuracy, % -->" in drawn
        assert b"<!-- $other$" in drawn


@pytest.mark.filterwarnings("error")
def test_a_run_whose_name_begins_with_an_underscore_is_in_the_legend(run, tmp_path):
    pytest.importorskip("matplotlib", reason="extra: plot")
    out = tmp_path / "curves.svg"
    assert main([f"_mine={run}", f"other={run}", "--picture", str(out)]) == 0
    drawn = out.read_text()
    assert "<!-- _mine: " in drawn
    assert "<!-- other: " in drawn


def test_a_picture_of_another_kind_is_refused(run, tmp_path, capsys):
    assert refused(capsys, run, "--picture", tmp_path / "curves.gif").endswith("must end in .png or .svg")


def test_a_picture_takes_the_place_of_no_file_of_a_run(run, capsys):
    assert "is a file of a run" in refused(capsys, run, "--picture", run / "metrics.jsonl", "--overwrite")
