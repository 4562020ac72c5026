"""What commands have in common."""

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
