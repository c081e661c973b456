"""The sparse matching against the dense assignment, and ties worked out by hand."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from instaseg.metrics import matching
from instaseg.metrics.matching import match
from instaseg.metrics.overlaps import Pairs


def pairs_of(matrix):
    matrix = np.asarray(matrix, float)
    rows, columns = np.nonzero(matrix)
    return Pairs(rows, columns, matrix[rows, columns], matrix.shape)


def matched(matrix, threshold, assignment="hungarian"):
    found = match(pairs_of(matrix), [threshold], assignment=assignment)[0]
    return list(zip(found.truth.tolist(), found.prediction.tolist(), strict=True))


def dense_optimum(matrix, threshold):
    """Number of matches and cost of the dense assignment of the whole image."""
    cost = -(matrix > threshold).astype(float) - matrix / (2 * max(min(matrix.shape), 1))
    rows, columns = linear_sum_assignment(cost)
    return int((matrix[rows, columns] > threshold).sum()), cost[rows, columns].sum()


def sparse_optimum(matrix, threshold):
    """Cost that the dense assignment reaches when our matches are forced into it."""
    found = match(pairs_of(matrix), [threshold])[0]
    scale = 2 * max(min(matrix.shape), 1)
    cost = -(matrix > threshold).astype(float) - matrix / scale
    rows = np.setdiff1d(np.arange(matrix.shape[0]), found.truth)
    columns = np.setdiff1d(np.arange(matrix.shape[1]), found.prediction)
    rest = cost[np.ix_(rows, columns)]
    left = rest[linear_sum_assignment(rest)].sum()
    return len(found), left - len(found) - found.score.sum() / scale


# multiples of 1/16 are exact, so that ties are ties
MATRICES = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=7),
    elements=st.sampled_from([0, 0, 0, 1 / 16, 4 / 16, 8 / 16, 9 / 16, 12 / 16, 1]),
)


@pytest.mark.parametrize("limit", [1 << 20, 0], ids=["dense components", "sparse components"])
@settings(max_examples=150)
@given(matrix=MATRICES, threshold=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9]))
def test_components_reach_the_optimum_of_the_whole(limit, matrix, threshold):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_DENSE_LIMIT", limit)
        count, cost = sparse_optimum(matrix, threshold)
    expected_count, expected_cost = dense_optimum(matrix, threshold)
    assert count == expected_count
    assert cost == pytest.approx(expected_cost, abs=1e-9)


@settings(max_examples=100)
@given(matrix=MATRICES, threshold=st.sampled_from([0.0, 0.25, 0.5]))
def test_greedy_equals_the_plain_loop(matrix, threshold):
    expected, left = [], matrix.copy()
    while left.size and left.max() > threshold:
        row, column = np.unravel_index(left.argmax(), left.shape)  # first of equals, in raster
        expected.append((row, column))
        left[row], left[:, column] = 0, 0
    assert matched(matrix, threshold, "greedy") == sorted(expected)


def test_more_matches_before_a_higher_score():
    # best first takes 0.9 and leaves 0.1: one match; 0.6 + 0.6 are two
    scores = [[0.9, 0.6], [0.6, 0.1]]
    assert matched(scores, 0.5) == [(0, 1), (1, 0)]
    assert matched(scores, 0.5, "greedy") == [(0, 0)]


def test_total_score_decides_between_equally_many():
    assert matched([[0.9, 0.6], [0.6, 0.7]], 0.5) == [(0, 0), (1, 1)]


def test_pairs_below_the_threshold_take_part_in_the_assignment():
    # one match either way: 0.6 with the leftover 0.4 makes 1.0, 0.7 with 0.0 makes 0.7
    assert matched([[0.7, 0.6], [0.4, 0.0]], 0.5) == [(0, 1)]


def test_the_threshold_itself_is_no_match():
    assert matched([[0.5]], 0.5) == []
    assert matched([[0.5]], 0.5, "greedy") == []


def test_greedy_ties_go_to_the_first_truth_then_the_first_prediction():
    assert matched([[0.8, 0.8], [0.8, 0.2]], 0.5, "greedy") == [(0, 0)]


@pytest.mark.parametrize("assignment", ["hungarian", "greedy"])
@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 3), (3, 3)])
def test_nothing_to_match(shape, assignment):
    assert matched(np.zeros(shape), 0.0, assignment) == []
