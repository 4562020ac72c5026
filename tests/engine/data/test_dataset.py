"""Data sets are told apart by what they hold."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataError, DataSource, digest
from tests.engine.cluster import Samples


def test_a_digest_depends_on_every_part_and_on_their_order():
    one, other = np.arange(6, dtype=np.int32), np.arange(6, dtype=np.int32)[::-1]
    found = {digest("a", "b"), digest("b", "a"), digest("ab"), digest("a", one), digest("a", other)}
    assert len(found) == 5
    assert digest("a", one) == digest("a", one.copy())
    assert digest("a", other) == digest("a", np.ascontiguousarray(other))


def test_the_identity_of_a_source_is_its_training_set():
    train, test = Samples.draw((3,), 2, 8), Samples.draw((3,), 2, 4, seed=1)
    assert DataSource(train, test).identity == f"samples {train.fingerprint()}"
    assert DataSource(train, None).identity == DataSource(train, test).identity
    assert DataSource(test, None).identity != DataSource(train, None).identity


def test_an_error_names_the_file_on_one_line():
    assert str(DataError.at(Path("a/b"), "is\ncut short")) == "a/b: is cut short"


@dataclass(frozen=True, eq=False)
class Odd(Samples):
    """Has a length that Python refuses."""

    length: Any = 8

    def __len__(self):
        return self.length


GOOD = Odd(**vars(Samples.draw((3,), 2, 8)))
WRONG = {
    "train: got ndarray; must be a Dataset, such as ArrayDataset": (np.zeros(3), None),
    "train: got NoneType; must be a Dataset, such as ArrayDataset": (None, None),
    "test: got ndarray; must be a Dataset or None, such as": (GOOD, np.zeros(3)),
    "samples: len: __len__() should return >= 0; must be a whole number": (replace(GOOD, length=-5), None),
    "samples: len: 'float' object cannot be interpreted as an integer": (GOOD, replace(GOOD, length=8.0)),
    "train: its name is 3; must be text": (replace(GOOD, name=3), None),
    "samples: classes is 2.0; must be a whole number, at least 1": (replace(GOOD, classes=2.0), None),
    "samples: classes is True; must be a whole number, at least 1": (replace(GOOD, classes=True), None),
    "samples: classes is 0; must be a whole number, at least 1": (replace(GOOD, classes=0), None),
    "samples: sample_shape is (); must be a tuple of sizes, each at least 1": (
        replace(GOOD, sample_shape=()),
        None,
    ),
    "samples: sample_shape is (0,); must be a tuple": (replace(GOOD, sample_shape=(0,)), None),
    "samples: sample_shape is [3]; must be a tuple": (replace(GOOD, sample_shape=[3]), None),
    "samples: class_names is 'ab'; must be a tuple of texts": (replace(GOOD, class_names="ab"), None),
    "samples: has 1 class name; must be one for each of 2 classes": (replace(GOOD, class_names=("a",)), None),
    "samples: has the class name 1; must be text": (replace(GOOD, class_names=("a", 1)), None),
    r"samples: has the class name 'a\x1b[31m'; must": (replace(GOOD, class_names=("b", "a\x1b[31m")), None),
    r"samples: has the class name '\ud800'; must": (replace(GOOD, class_names=("b", "\ud800")), None),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_a_data_set_says_of_itself_must_be_possible(message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        DataSource(*WRONG[message])


def test_notes_are_lines():
    for notes in ("abc", (3,)):
        with pytest.raises(UserError, match=r"^notes: got .*; must be lines of text$"):
            DataSource(GOOD, None, notes=notes)


def test_numbers_of_numpy_and_names_of_any_script_are_taken():
    names = ("ko\u0161ice\u200cx", "\U0001f469\u200d\U0001f52c")
    data = replace(GOOD, classes=np.int64(2), class_names=names)
    assert DataSource(data, GOOD).class_names == names
