"""Files of pictures: their endings, and what stands in the way of writing them."""

import sys

import pytest

from engine.config.errors import UserError
from engine.profile.figure import KINDS, figure_class, save_figure
from tests.engine.broken_disk import BrokenDisk


@pytest.mark.parametrize(("kind", "first"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_picture_is_written_in_the_kind_of_its_ending(tmp_path, kind, first):
    assert kind in KINDS
    path = tmp_path / f"step{kind}"
    save_figure(figure_class(path)(), path)
    assert path.read_bytes().startswith(first)


def test_names_in_any_letters_and_of_any_length_are_no_warning(tmp_path):
    path = tmp_path / "step.png"
    figure = figure_class(path)(figsize=(1, 1), layout="constrained")
    figure.subplots().set_xticks([0], ["\N{CAT}" * 300], rotation=90)
    save_figure(figure, path)
    assert path.exists()


@pytest.mark.parametrize("name", ["step.jpg", "step", "step.PNG"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"^out: got .*; must end in .png or .svg$"):
        figure_class(tmp_path / name)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'lockstep-sgd\[plot\]'"):
        figure_class(tmp_path / "step.png")


def test_a_folder_that_is_not_there_is_a_mistake_of_the_user(tmp_path):
    path = tmp_path / "nowhere" / "step.png"
    with pytest.raises(UserError, match=r"^out: "):
        save_figure(figure_class(path)(), path)


def test_a_full_disk_leaves_the_picture_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "step.png"
    path.write_bytes(b"old")
    figure = figure_class(path)()
    with monkeypatch.context() as patch:
        BrokenDisk(tmp_path, 1, "full").install(patch)
        with pytest.raises(UserError, match=r"^picture: .*step.png: cannot be written: No space left"):
            save_figure(figure, path, what="picture")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("step.png", b"old")]
