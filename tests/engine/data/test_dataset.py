"""Data sets are told apart by what they hold."""

from pathlib import Path

import numpy as np

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
