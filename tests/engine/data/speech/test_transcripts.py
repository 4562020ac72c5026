"""What is said in recordings."""

from pathlib import Path

import pytest

from engine.data.dataset import DataError
from engine.data.speech.transcripts import read_transcripts, words_of


def test_lines_of_kaldi_and_of_asterisk_are_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("; a remark\n\n# one more\ndigits/1: One.\nb.wav THE POUND KEY\nempty:\n")
    assert read_transcripts(path) == {"digits/1": "One.", "b": "THE POUND KEY", "empty": ""}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Call-Forward on No Answer.", ["call", "forward", "on", "no", "answer"]),
        ("Waldo's parties' \u201cthat\u2019s it\u201d...", ["waldo's", "parties'", "that's", "it"]),
        ("press 571", ["press", "571"]),
        ("[this is a simple beep tone]", []),
        ("hello (after the beep)", []),
        ("...", []),
    ],
)
def test_words_are_what_is_spoken(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no lines of a name and a text"),
        (b"; nothing\n", "has no lines of a name and a text"),
        (b"a one\na: two\n", "text:2: has a a second time"),
        (b"a \xff\xfe\n", "is no text in UTF-8"),
    ],
)
def test_what_is_no_list_of_texts_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_transcripts(tmp_path / "text")
    with pytest.raises(DataError, match=r"nowhere: cannot be read: No such file"):
        read_transcripts(tmp_path / "nowhere")
