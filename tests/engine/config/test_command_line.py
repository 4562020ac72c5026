"""What commands have in common."""

import importlib

import pytest

from engine.config import command_line
from engine.config.command_line import Parser


@pytest.fixture
def parser(monkeypatch):
    monkeypatch.setattr(command_line, "_SILENCE_S", 0.0)
    made = Parser(allow_abbrev=False)
    made.add_argument("--batch", type=int)
    return made


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--bacth=3"], 'unrecognized arguments: --bacth=3 (did you mean "--batch"?)'),
        (["--bacth", "3"], 'unrecognized arguments: --bacth 3 (did you mean "--batch"?)'),
        (["--colour"], "unrecognized arguments: --colour"),
        (["--batch", "x"], "argument --batch: invalid int value: 'x'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(parser, capsys, arguments, line):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {line}; --help lists all options\n"


def test_only_rank_0_speaks(parser, capsys, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--colour"])
    assert end.value.code == 2
    assert not capsys.readouterr().err


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_the_work_of_one_process_is_not_done_by_several(monkeypatch, capsys, variable):
    monkeypatch.setattr(command_line, "_SILENCE_S", 0.0)
    alone, others = (Parser(prog="python -m engine.export", alone=alone) for alone in (True, False))
    monkeypatch.setenv(variable, "1")
    alone.parse_args([])
    monkeypatch.setenv(variable, "3")
    others.parse_args([])
    with pytest.raises(SystemExit) as end:
        alone.parse_args([])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: python -m engine.export: 3 ranks were started, each of which would do all of it; start it "
        f"without mpirun or srun (or unset {variable}, where each has files of its own)\n"
    )


@pytest.mark.parametrize("command", ["show", "compare", "predict", "export", "convert", "report"])
def test_commands_that_are_the_work_of_one_process_say_so_before_they_read(command, monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    name = "report.__main__" if command == "report" else command
    main = importlib.import_module(f"engine.{name}").main
    with pytest.raises(SystemExit) as end:
        main(["--model=digits", "a"] if command == "convert" else ["a", "b"][: 1 + (command != "show")])
    assert end.value.code == 2
    assert f"engine.{command}: 2 ranks were started" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("/env/bin/lockstep", "lockstep train"),
        ("/env/site-packages/lockstep/__main__.py", "lockstep train"),
        ("/env/site-packages/engine/train.py", "python -m engine.train"),
        ("/home/lockstep/train.py", "python -m engine.train"),
    ],
)
def test_the_usage_names_the_command_as_it_was_called(monkeypatch, program, shown):
    monkeypatch.setattr("sys.argv", [program])
    usage = Parser(prog="python -m engine.train", usage="python -m engine.train [RECIPE]").format_usage()
    assert usage == f"usage: {shown} [RECIPE]\n"
    assert Parser(prog="python -m engine.train").prog == shown
