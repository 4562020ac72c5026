"""Functions in users' files: found, called, and hashed."""

import importlib
import os

import pytest

from engine.config.errors import Impatience, UserError
from engine.config.user_code import call, code_digest, load_function, no_exit
from engine.host.stop_signals import listening

NET = """
def net(classes=10, width=4):
    return classes, width

def broken():
    values = []
    return values[1]

def needs(folder):
    return folder

def _hidden():
    pass
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(NET)
    return path


def test_a_function_is_called_with_the_users_arguments_and_with_what_is_given_besides(file):
    net = load_function(f"{file}:net", "model")
    assert call(net, {"width": 8}, "model", given={"classes": 3, "seed": 1}) == (3, 8)
    assert call(net, {"classes": 5}, "model", given={"classes": 3}) == (5, 4)


def test_what_the_file_lacks_is_said_with_what_it_has(file):
    with pytest.raises(
        UserError, match=r'no function "nett" \(did you mean "net"\?\); must be one of net, broken, needs'
    ):
        load_function(f"{file}:nett", "model")
    with pytest.raises(UserError, match=r"^model: .*other\.py: no such file"):
        load_function(f"{file.parent / 'other.py'}:net", "model")


@pytest.mark.parametrize("builtin", [max, type])
def test_what_does_not_say_its_arguments_is_no_function_of_the_users(builtin):
    with pytest.raises(
        UserError, match=f"^data: {builtin.__name__} does not say which arguments it takes; must"
    ):
        call(builtin, {}, "data", given={"classes": 3})


def test_arguments_that_the_function_does_not_take_or_lacks_are_named(file):
    net, needs = (load_function(f"{file}:{name}", "data") for name in ("net", "needs"))
    with pytest.raises(
        UserError, match=r'net takes no argument widht \(did you mean "width"\?\); must be one of'
    ):
        call(net, {"widht": 8}, "model", given={})
    with pytest.raises(UserError, match=r"data: needs needs folder: --data-argument folder=VALUE"):
        call(needs, {}, "data", given={})


def test_an_error_in_the_file_is_one_line_that_names_the_line_of_code(file):
    with pytest.raises(
        UserError, match=r"^model: broken: mine\.py, line 7: IndexError: list index out of range$"
    ):
        call(load_function(f"{file}:broken", "model"), {}, "model", given={})
    file.write_text("def net(:\n")
    with pytest.raises(UserError, match=r"mine\.py: line 1: SyntaxError"):
        load_function(f"{file}:net", "model")
    file.write_text("import no_such_module\n")
    with pytest.raises(UserError, match=r"mine\.py, line 1: ModuleNotFoundError"):
        load_function(f"{file}:net", "model")


def test_an_edited_file_runs_again(file):
    assert load_function(f"{file}:net", "model")() == (10, 4)
    file.write_text("def net():\n    return 'new'\n")
    assert load_function(f"{file}:net", "model")() == "new"


def test_the_hash_follows_the_file_and_what_it_imports_beside_it(file):
    text = f"{file}:net"
    (file.parent / "sibling_of_mine.py").write_text("WIDTH = 4\n")
    file.write_text("import sibling_of_mine\n\ndef net():\n    return sibling_of_mine.WIDTH\n")
    load_function(text, "model")
    first = code_digest((text, "digits"))
    (file.parent / "sibling_of_mine.py").write_text("WIDTH = 5\n")
    second = code_digest((text, "digits"))
    file.write_text(file.read_text() + "\n")
    assert len({first, second, code_digest((text, "digits"))}) == 3
    assert code_digest(("vgg_a", "images:folder")) == ""


def test_the_hash_counts_what_the_file_imports_and_not_what_else_the_process_has_imported(file):
    folder, text = file.parent, f"{file}:net"
    package = folder / "parts_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("from . import deeper\n")
    (package / "deeper.py").write_text("DEPTH = 2\n")
    (folder / "plots_of_mine.py").write_text("")
    file.write_text("def net():\n    from parts_of_mine import deep\n    return deep.deeper.DEPTH\n")
    before = load_function(text, "model") and code_digest((text,))
    importlib.import_module("plots_of_mine")
    assert load_function(text, "model")() == 2
    assert code_digest((text,)) == before
    (package / "deeper.py").write_text("DEPTH = 3\n")
    assert code_digest((text,)) != before


def test_a_file_beside_this_package_is_hashed_without_it(file):
    (file.parent / "layers").mkdir()
    (file.parent / "layers/relu.py").write_text("")
    file.write_text("from layers.relu import ReLU\n\ndef net():\n    return ReLU\n")
    before = load_function(f"{file}:net", "model") and code_digest((f"{file}:net",))
    (file.parent / "layers/relu.py").write_text("other = 1\n")
    assert code_digest((f"{file}:net",)) == before


def test_a_file_of_a_network_and_of_data_runs_once(file):
    file.write_text("class Layer:\n    pass\n\ndef net():\n    return Layer\n")
    assert load_function(f"{file}:net", "model")() is load_function(f"{file}:net", "data")()


def test_an_edit_of_the_same_length_in_the_same_second_runs_again(file):
    for number in (1, 2, 3):
        file.write_text(f"def net():\n    return {number}\n")
        os.utime(file, (1e9, 1e9))
        assert load_function(f"{file}:net", "model")() == number


def test_a_file_of_the_users_does_not_take_the_place_of_a_package(file):
    (file.parent / "layers.py").write_text("raise RuntimeError('imported by accident')\n")
    file.write_text("from layers.relu import ReLU\n\ndef net():\n    return ReLU\n")
    assert load_function(f"{file}:net", "model")().__module__ == "layers.relu"


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "raise GeneratorExit", "raise BaseException('x')"])
def test_a_file_or_a_function_that_would_end_the_program_is_one_line(file, code):
    ends = r"^model: .*mine\.py, line \d: .*; code of yours must not end the program$"
    file.write_text(f"def net():\n    {code}\n")
    with pytest.raises(UserError, match=ends):
        call(load_function(f"{file}:net", "model"), {}, "model", given={})
    file.write_text(f"{code}\n")
    with pytest.raises(UserError, match=ends):
        load_function(f"{file}:net", "model")


def test_a_ctrl_c_is_let_through_and_one_that_a_users_code_raises_is_not():
    for made in (KeyboardInterrupt, Impatience):  # Python's own handler raises the first
        with pytest.raises(made), no_exit("data"):
            raise made
    with listening():  # which answers Ctrl-C otherwise
        with pytest.raises(UserError, match=r"^data: KeyboardInterrupt; code of yours must"), no_exit("data"):
            raise KeyboardInterrupt
        with pytest.raises(Impatience), no_exit("data"):
            raise Impatience


def test_an_error_without_a_text_or_a_line_has_its_type(file):
    file.write_text("def net():\n    raise ValueError\n")
    with pytest.raises(UserError, match=r"^model: net: mine\.py, line 2: ValueError$"):
        call(load_function(f"{file}:net", "model"), {}, "model", given={})
    file.write_bytes(b"x = 1\0")
    with pytest.raises(UserError, match=r"^model: .*mine\.py: (SyntaxError: )?source code string "):
        load_function(f"{file}:net", "model")

    def shipped():
        raise RuntimeError

    with pytest.raises(UserError, match=r"^model: shipped: RuntimeError$"):
        call(shipped, {}, "model", given={})
