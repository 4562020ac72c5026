"""Probabilities and the order of classes."""

import numpy as np
import pytest

from engine.trained.probabilities import best, place_of, softmax


def test_probabilities_of_huge_logits_are_finite_and_add_up_to_one():
    found = softmax(np.array([[1e4, 0, -1e4], [3, 3, 3]], np.float32))
    np.testing.assert_array_equal(found[0], [1, 0, 0])
    np.testing.assert_allclose(found[1], 1 / 3, rtol=1e-15)


def test_of_logits_that_are_not_finite_there_are_no_probabilities():
    found = softmax(np.array([[np.inf, 0], [0, 0], [-np.inf, -np.inf]], np.float32))
    assert np.isnan(found[[0, 2]]).any(axis=1).all()
    assert found[1].tolist() == [0.5, 0.5]


def test_a_rows_probabilities_do_not_depend_on_its_neighbours():
    logits = np.random.default_rng(1).standard_normal((9, 1003)).astype(np.float32)
    np.testing.assert_array_equal(softmax(logits)[4:5], softmax(logits[4:5]))


@pytest.mark.parametrize(("classes", "count"), [(3, 5), (10, 5), (10, 4), (1000, 5), (1000, 1), (2, 1)])
def test_the_best_are_those_of_a_whole_sort_and_of_equals_the_first(classes, count):
    scores = np.random.default_rng(2).integers(0, 50, (40, classes)).astype(np.float32)
    scores[:, : classes // 3] = 49  # ties, also at the border
    found = best(scores, count)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(np.take_along_axis(scores, found, 1), np.take_along_axis(scores, order, 1))
    assert (np.diff(found, axis=1) > 0)[np.diff(np.take_along_axis(scores, found, 1), axis=1) == 0].all()


def test_the_place_of_a_label_counts_what_is_greater_and_the_first_of_equals():
    scores = np.array([[1, 3, 2, 3], [0, 0, 0, 0], [5, 1, 9, 2]], np.float32)
    assert place_of(scores, np.array([3, 2, 2])).tolist() == [1, 2, 0]
    assert place_of(scores, np.array([2, -1, 1])).tolist() == [2, 0, 3]
    assert place_of(np.full((1, 4), np.nan, np.float32), np.array([0])).tolist() == [4]
