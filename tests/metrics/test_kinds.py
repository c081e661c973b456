import numpy as np
import pytest

from instaseg.metrics.kinds import find_errors


def test_every_kind():
    truth = np.array(
        [
            [1, 1, 1, 1, 1, 1, 0, 0],
            [2, 2, 2, 2, 2, 2, 0, 0],
            [3, 3, 3, 3, 3, 3, 0, 0],
            [4, 4, 4, 4, 4, 4, 0, 0],
            [5, 5, 5, 5, 5, 5, 0, 0],
            [6, 6, 6, 6, 6, 6, 0, 0],
        ]
    )
    prediction = np.array(
        [
            [1, 1, 1, 1, 1, 0, 0, 0],  # matches
            [2, 2, 2, 2, 3, 3, 0, 0],  # matches, and one split off
            [4, 4, 4, 4, 4, 4, 0, 0],  # covers
            [4, 4, 4, 4, 4, 4, 0, 9],  # both; 9 lies beside
            [5, 5, 0, 0, 0, 0, 0, 0],  # in the right place, but too small
            [0, 0, 0, 0, 0, 0, 0, 0],
        ]
    )
    found = find_errors(truth, prediction, ndim=2)
    assert found.truth_kinds == ("matched", "matched", "missed", "missed", "missed", "missed")
    assert found.prediction_kinds == ("matched", "matched", "split", "merged", "inexact", "false")
    assert [found.count(kind) for kind in ("matched", "missed", "merged")] == [2, 4, 1]


def test_a_match_that_covers_two_is_shown_as_merged():
    truth = np.array([[1] * 9 + [2]])
    found = find_errors(truth, np.ones_like(truth), ndim=2)
    assert found.truth_kinds == ("matched", "missed")
    assert found.prediction_kinds == ("merged",)


@pytest.mark.parametrize("criterion", ["iou", "cldice"])
def test_nothing_there(criterion):
    found = find_errors(
        np.zeros((0, 4, 4), bool), np.zeros((4, 4), int), ndim=2, criterion=criterion
    )
    assert found.truth_kinds == found.prediction_kinds == ()


def test_small_predictions_are_left_out():
    found = find_errors(np.array([[0, 0]]), np.array([[1, 0]]), ndim=2, remove_small=1)
    assert found.prediction_kinds == ()


def test_what_lies_on_unlabelled_background_is_not_counted():
    truth, found = np.array([[1, 1, 0, 0, 0, 2]]), np.array([[1, 1, 0, 3, 3, 0]])
    assert find_errors(truth, found, ndim=2).prediction_kinds == ("matched", "false")
    partly = find_errors(truth, found, ndim=2, partly=True)
    assert partly.prediction_kinds == ("matched", "uncounted")
