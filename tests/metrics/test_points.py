"""Matches of points, worked out by hand; the assignment against the cost of the definition."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from instaseg.io.points import make_points, no_points
from instaseg.metrics.config import PointEvaluationSettings, point_score_names
from instaseg.metrics.points import (
    association_rows,
    connection_rows,
    match_connections,
    match_points,
    matches_of,
    pooled_point_scores,
    score_points,
)
from instaseg.metrics.summary import mean_scores, value_of


def on_line(*places):
    return np.array(places, dtype=float)[:, np.newaxis]


def test_two_matches_beat_one_exact_one():
    # distances: A a 9.9, B b 9.9, B a 0, A b 11; tolerance 10
    truth = np.array([[9.9, 0.0], [0.0, 0.0]])  # A, B
    across = (2 * 9.9**2 - 11**2) / (2 * 9.9)
    predicted = np.array([[0.0, 0.0], [across, math.sqrt(9.9**2 - across**2)]])  # a, b
    distances = np.linalg.norm(truth[:, np.newaxis] - predicted, axis=2)
    assert np.allclose(distances, [[9.9, 11], [0, 9.9]])
    found = match_points(truth, predicted, 10.0)
    assert found.predicted.tolist() == [0, 1]
    assert found.scores()["TP"] == 2


def test_the_nearer_of_equal_counts_is_taken():
    found = match_points(on_line(0, 10), on_line(1, 11), 20.0)
    assert found.predicted.tolist() == [0, 1]
    assert found.scores()["distance"] == 1.0


def test_a_point_at_the_tolerance_does_not_match():
    assert match_points(on_line(0), on_line(10), 10.0).scores()["TP"] == 0
    assert match_points(on_line(0), on_line(10), 10.001).scores()["TP"] == 1


def costs(truth, predicted, tolerance):
    """Return matches and cost of the best of all assignments, by trying them."""
    distance = np.abs(truth - predicted.T)
    if len(truth) > len(predicted):
        distance = distance.T
    n, m = distance.shape
    term = (distance >= tolerance) + np.minimum(distance, tolerance) / (2 * n * tolerance)
    best = min(
        itertools.permutations(range(m), n), key=lambda p: sum(term[i, p[i]] for i in range(n))
    )
    close = [distance[i, best[i]] for i in range(n) if distance[i, best[i]] < tolerance]
    return len(close), sum(close)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=5),
    st.lists(st.integers(0, 30), min_size=1, max_size=5),
)
def test_assignment_is_that_of_least_cost(truth, predicted):
    found = match_points(on_line(*truth), on_line(*predicted), 6.5)
    matches, total = costs(on_line(*truth), on_line(*predicted), 6.5)
    assert len(found.truth) == matches
    assert found.distances.sum() == pytest.approx(total)
    assert len(set(found.predicted.tolist())) == len(found.predicted)


def test_connections_match_where_both_ends_do():
    truth = np.array([[[0.0], [10.0]], [[0.0], [20.0]]])
    predicted = np.array([[[1.0], [22.0]], [[1.0], [16.0]], [[9.0], [10.0]]])
    found = match_connections(truth, predicted, 5.0)
    assert (found.truth.tolist(), found.predicted.tolist()) == ([1], [0])
    assert found.distances.tolist() == [2.0]
    assert found.scores()["FP"] == 2
    assert found.scores()["FN"] == 1


def example():
    truth = make_points(
        [0, 1, 1, 1], [[1, 5, 5], [1, 5, 9], [1, 9, 5], [1, 30, 30]], partner=[-1, 0, 0, -1]
    )
    predicted = make_points(
        [0, 0, 1, 1], [[1, 5, 6], [1, 40, 40], [1, 5, 8], [1, 9, 6]], partner=[-1, -1, 0, 1]
    )
    return truth, predicted


def test_scores_of_kinds_and_connections():
    truth, predicted = example()
    scores = score_points(truth, predicted, spacing=(10, 1, 1), tolerance=3)
    assert [scores["pre"][k] for k in ("TP", "FP", "FN")] == [1, 1, 0]
    assert [scores["post"][k] for k in ("TP", "FP", "FN")] == [2, 0, 1]
    # the second predicted connection begins at the false presynaptic point
    assert [scores["connections"][k] for k in ("TP", "FP", "FN")] == [1, 1, 1]
    assert scores["connections"]["F1"] == 0.5
    assert math.isnan(scores["cleft"]["F1"])
    assert all(value_of(scores, name) is not None for name in point_score_names())


def test_distances_are_physical():
    truth, predicted = make_points(2, [[0, 0, 0]]), make_points(2, [[1, 0, 0]])
    assert score_points(truth, predicted, spacing=(40, 4, 4), tolerance=30)["cleft"]["TP"] == 0
    assert score_points(truth, predicted, spacing=(20, 4, 4), tolerance=30)["cleft"]["TP"] == 1


def test_nothing_on_one_side_scores_nothing_and_on_both_has_no_score():
    truth, none = make_points(2, [[0, 0]]), no_points(2)
    one = score_points(truth, none, spacing=(1, 1), tolerance=3)["cleft"]
    assert (one["F1"], one["recall"], one["FN"]) == (0, 0, 1)
    assert math.isnan(one["precision"])
    both = score_points(none, none, spacing=(1, 1), tolerance=3)
    assert all(math.isnan(both[name]["F1"]) for name in both)


def test_samples_are_averaged_and_pooled():
    truth, predicted = example()
    first = score_points(truth, predicted, spacing=(1, 1, 1), tolerance=3)
    second = score_points(truth, truth, spacing=(1, 1, 1), tolerance=3)
    assert mean_scores([first, second])["connections"]["F1"] == 0.75
    pooled = pooled_point_scores([first, second])
    assert pooled["connections"]["F1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert pooled["pre"]["distance"] == 0.5
    assert math.isnan(pooled["cleft"]["distance"])


def test_association_tables():
    truth, predicted = example()
    found = matches_of(truth, predicted, spacing=(1, 1, 1), tolerance=3)
    associations, false = association_rows(truth, predicted, 1, found["post"])
    assert associations == [
        [1, 2, 1.0, "TP", 1, 5, 9, 1, 5, 8],
        [2, 3, 1.0, "TP", 1, 9, 5, 1, 9, 6],
        [3, -1, -1, "FN", 1, 30, 30, -1, -1, -1],
    ]
    assert false == []
    assert association_rows(truth, predicted, 0, found["pre"])[1] == [[1, 1.0, 40.0, 40.0]]


def test_association_tables_of_connections():
    truth, predicted = example()
    found = matches_of(truth, predicted, spacing=(1, 1, 1), tolerance=3)["connections"]
    associations, false = connection_rows(truth, predicted, found)
    assert associations == [
        [0, 1, 0, 2, 1.0, "TP", 1, 5, 5, 1, 5, 9, 1, 5, 6, 1, 5, 8],
        [0, 2, -1, -1, -1, "FN", 1, 5, 5, 1, 9, 5, *[-1] * 6],
    ]
    assert false == [[1, 3, 1, 40, 40, 1, 9, 6]]


def test_settings_name_scores_of_points():
    assert PointEvaluationSettings(tolerance=3).metric == "connections.F1"
    with pytest.raises(ValidationError, match="tolerance"):
        PointEvaluationSettings()
    with pytest.raises(ValidationError, match=r"the nearest is 'cleft\.F1'"):
        PointEvaluationSettings(tolerance=3, metric="cleft.f1")
