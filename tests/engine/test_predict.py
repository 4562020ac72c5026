"""The command that says which classes are in images; predictions are tested in tests/engine/trained."""

import csv
import inspect
import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from engine.predict import main, make_parser
from engine.run.compiling import LINE
from engine.trained import loading
from engine.trained.model import Model
from tests.engine.broken_disk import BrokenDisk
from tests.engine.data.files import random_bytes, write_image
from tests.engine.trained.test_loading import copied, make_older, with_another_best


def predicted(capsys, *arguments):
    """Return the exit code, the lines of the output, and those that are said."""
    code = main([*map(str, arguments), "--threads", "1"])
    out, err = capsys.readouterr()
    return code, out.splitlines(), [line for line in err.splitlines() if line != LINE]


def test_each_image_is_a_line_with_names_and_probabilities(photos_run, photos, capsys):
    code, lines, said = predicted(capsys, photos_run.folder, photos / "test", "--top", 2)
    assert (code, len(lines), said) == (0, 15, [])
    name, _, rest = lines[0].partition(": ")
    assert name == str(photos / "test/blue/00.png")
    (first, one), (_, two) = (each.split() for each in rest.split(", "))
    assert first == "blue"
    assert 1 >= float(one) > float(two) >= 0


def test_json_and_csv_say_the_same_to_the_last_digit(photos_run, photos, capsys):
    _, lines, _ = predicted(capsys, photos_run.folder, photos / "test/red", "--json")
    told = [json.loads(line) for line in lines]
    _, lines, _ = predicted(capsys, photos_run.folder, photos / "test/red", "--csv")
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert [row["file"] for row in rows] == [each["file"] for each in told]
    for row, each in zip(rows, told, strict=True):
        assert [each["class"] for each in each["top"]] == [row[f"class_{n}"] for n in (1, 2, 3)]
        assert [each["probability"] for each in each["top"]] == [
            float(row[f"probability_{n}"]) for n in (1, 2, 3)
        ]
        assert row["error"] == ""


def test_logits_are_what_the_network_computes(photos_run, photos, capsys):
    code, lines, _ = predicted(capsys, photos_run.folder, photos / "test/red", "--softmax", "off", "--json")
    assert code == 0
    assert any(each["logit"] < 0 or each["logit"] > 1 for each in json.loads(lines[0])["top"])


def test_a_bad_file_is_a_line_among_the_others_and_the_code_is_2(photos_run, tmp_path, capsys):
    (tmp_path / "b.png").write_bytes(b"no image")
    for name in ("a", "c"):
        write_image(tmp_path / f"{name}.png", random_bytes(9, 9, 3))
    code, lines, _ = predicted(capsys, photos_run.folder, tmp_path)
    assert code == 2
    assert [line.startswith("error: ") for line in lines] == [False, True, False]
    _, lines, _ = predicted(capsys, photos_run.folder, tmp_path, "--json")
    assert json.loads(lines[1]).keys() == {"file", "error"}
    _, lines, _ = predicted(capsys, photos_run.folder, tmp_path, "--csv", "--top", 1)
    assert lines[0] == "file,class_1,probability_1,error"
    assert lines[2].startswith(f"{tmp_path}/b.png,,,")
    code, lines, said = predicted(capsys, photos_run.folder, tmp_path, "--on-bad-sample", "stop")
    assert (code, len(lines), len(said)) == (2, 1, 1)
    assert said[0].startswith(f"error: {tmp_path}/b.png: cannot be decoded")


def test_names_come_from_standard_input_whatever_bytes_they_have(photos_run, tmp_path):
    name = os.fsencode(tmp_path) + b"/odd\xff name.png"
    write_image(tmp_path / "plain.png", random_bytes(9, 9, 3))
    os.rename(tmp_path / "plain.png", name)  # noqa: PTH104 -- bytes
    command = [sys.executable, "-m", "engine.predict", photos_run.folder, "-", "--top", "1", "--threads", "1"]

    def ask(*options):
        listed = name + b"\n\n/no/such.png\r\n"
        return subprocess.run([*command, *options], input=listed, capture_output=True, check=False)

    done = ask()
    assert done.returncode == 2
    assert json.loads(ask("--json").stdout.splitlines()[0])["file"] == os.fsdecode(name)
    first, second = done.stdout.decode().splitlines()
    assert first.startswith(rf"{tmp_path}/odd\xff name.png: ")
    assert second == "error: /no/such.png: cannot be decoded: No such file or directory"


@pytest.mark.parametrize("content", [b"", b"\n\r\n"])
def test_a_standard_input_without_names_is_a_mistake(photos_run, capsys, monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, lines, said = predicted(capsys, photos_run.folder, "-")
    assert (code, lines) == (2, [])
    assert said == ["error: -: standard input names no file; must have a name on each line"]


def test_standard_input_that_is_closed_is_one_line(photos_run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    said = predicted(capsys, photos_run.folder, "-")
    assert said == (2, [], ["error: -: standard input is closed; must name files"])


def test_arrays_and_images_of_any_size_are_taken_by_data_that_was_no_image_file(digits_run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", random_bytes(3, 1, 8, 8, high=17))
    write_image(tmp_path / "large.png", np.full((50, 70), 128, np.uint8))
    code, lines, _ = predicted(
        capsys, digits_run.folder, tmp_path / "x.npy", tmp_path / "large.png", "--softmax", "off", "--json"
    )
    assert (code, len(lines)) == (0, 4)
    # 128 of 255 is about 8 of 16, the white of the digits
    np.save(tmp_path / "grey.npy", np.full((1, 1, 8, 8), (128 / 255 - 0.3045) / 0.3756, np.float32))
    _, (grey,), _ = predicted(capsys, digits_run.folder, tmp_path / "grey.npy", "--softmax", "off", "--json")
    one, other = (
        {each["class"]: each["logit"] for each in json.loads(line)["top"]} for line in (lines[3], grey)
    )
    assert one == pytest.approx(other, rel=1e-4, abs=1e-4)  # x is rounded another way


def test_without_class_names_numbers_stand_for_them_and_that_is_said(photos_run, photos, tmp_path, capsys):
    checkpoint = copied(photos_run, tmp_path)
    make_older(checkpoint)
    code, lines, said = predicted(capsys, checkpoint, photos / "test/red", "--top", 1)
    assert code == 0
    assert all(line.split()[1] == "2" for line in lines)
    assert len(said) == 1
    assert "names no classes" in said[0]


def test_the_output_is_written_whole_or_not_at_all(photos_run, photos, tmp_path, capsys):
    out = tmp_path / "found.csv"
    code, lines, _ = predicted(capsys, photos_run.folder, photos / "test", "--csv", "--out", out)
    assert (code, lines) == (0, [])
    text = out.read_bytes()
    assert len(text.splitlines()) == 16
    code, _, said = predicted(capsys, photos_run.folder, photos / "test/red", "--out", out)
    assert (code, said) == (2, [f"error: out: {out}: exists; give another name, or --overwrite"])
    again = ("--out", out, "--overwrite")
    with pytest.MonkeyPatch.context() as patch:
        BrokenDisk(tmp_path, 5, "full").install(patch)
        code, _, said = predicted(capsys, photos_run.folder, photos / "test/red", *again)
    assert code == 2
    assert said == [f"error: out: {out}: cannot be written: No space left on device"]
    (tmp_path / "bad.png").write_bytes(b"")
    stopped = (tmp_path / "bad.png", "--on-bad-sample", "stop", *again)
    assert predicted(capsys, photos_run.folder, *stopped)[0] == 2
    assert out.read_bytes() == text
    code, _, said = predicted(capsys, photos_run.folder, tmp_path / "bad.png", *again)
    assert (code, said) == (2, [f"1 file could not be read; {out} says which, and why"])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad.png", "found.csv"]


@pytest.mark.parametrize("name", ["photo", "rows.npy"])
def test_what_is_read_is_not_written_over(photos_run, tmp_path, capsys, name):
    path = tmp_path / name
    if name == "photo":
        write_image(tmp_path / "photo.png", random_bytes(8, 8, 3))
        (tmp_path / "photo.png").rename(path)
    else:
        np.save(path, np.zeros((3, 3, 16, 16), np.uint8))
    before = path.read_bytes()
    code, _, said = predicted(capsys, photos_run.folder, path, "--out", path, "--overwrite")
    assert (code, len(said)) == (2, 1)
    assert said[0].endswith(f"out: {path}: is what is read here, and is not written over; give another name")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


BAD = {
    "no checkpoint": (["{tmp}", "x.png"], "checkpoint: {tmp} holds no checkpoint"),
    "no folder": (
        ["{run}", "x.png", "--out", "{tmp}/no/x"],
        "out: {tmp}/no/x: there is no folder {tmp}/no",
    ),
    "a folder": (["{run}", "x.png", "--out", "{tmp}"], "out: {tmp}: is a folder; give the name of a file"),
    "a file without a name": (["{run}", "x.png", ""], 'files: got ""; must be a file, a folder or -'),
    "an output without a name": (["{run}", "x.png", "--out", ""], 'out: got ""; must be a path'),
    "no checkpoint's name": (["", "x.png"], "checkpoint: got ''; must be a path"),
    "nothing of each": (["{run}", "x.png", "--top", "0"], "top: got 0; must be at least 1"),
    "too many threads": (["{run}", "x.png", "--batch", "-1"], "batch: got -1; must be from 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_code_2(photos_run, tmp_path, capsys, case):
    arguments, words = BAD[case]
    given = [each.format(tmp=tmp_path, run=photos_run.folder) for each in arguments]
    code, lines, said = predicted(capsys, *given)
    assert (code, lines, len(said)) == (2, [], 1)
    assert words.format(tmp=tmp_path) in said[0]
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_one_line_with_advice_for_one_process(photos_run, photos, monkeypatch, capsys):
    def read(*_, **__):
        raise MemoryError

    monkeypatch.setattr(loading, "load_model", read)
    said = ["error: memory: none is left; lower --batch"]
    assert predicted(capsys, photos_run.folder, photos / "test") == (2, [], said)


def test_the_best_checkpoint_is_asked_by_saying_so(digits_run, tmp_path, capsys):
    run, best = with_another_best(digits_run, tmp_path)
    np.save(tmp_path / "x.npy", random_bytes(3, 1, 8, 8, high=17))
    found = {}
    for path, options in ((run, ["--best"]), (best, []), (run, [])):
        code, lines, said = predicted(capsys, path, tmp_path / "x.npy", "--json", *options)
        assert (code, len(said)) == (0, int((path, options) == (run, [])))
        found[path, *options] = lines
    assert found[run, "--best"] == found[best,] != found[run,]


def test_a_machine_that_starts_no_thread_gets_one_line_and_the_same_results(
    digits_run, tmp_path, capsys, monkeypatch, caplog
):
    np.save(tmp_path / "x.npy", random_bytes(50, 1, 8, 8, high=17))
    arguments = [str(digits_run.checkpoint), str(tmp_path / "x.npy"), "--threads", "2", "--batch", "16"]

    def refused(_):
        raise RuntimeError("can't start new thread")

    assert main(arguments) == 0
    wanted = capsys.readouterr().out
    monkeypatch.setattr(threading.Thread, "start", refused)
    assert main(arguments) == 0
    assert capsys.readouterr().out == wanted
    assert [record.getMessage() for record in caplog.records] == [
        "warning: only 1 of 2 kernel threads can be started here"
    ]


def test_a_bad_sample_is_skipped_by_default_as_in_python():
    default = inspect.signature(Model.predict).parameters["on_bad_sample"].default
    assert make_parser().get_default("on_bad_sample") == default == "skip"


def test_json_and_csv_at_once_are_refused(photos_run, capsys):
    with pytest.raises(SystemExit) as end:
        main([str(photos_run.folder), "x.png", "--json", "--csv"])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
