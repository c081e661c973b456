"""One-to-one matching of true and predicted instances, without ever building a dense matrix.

The Hungarian assignment minimises the sum of ``-(s > t) - s / (2 * min(n_gt, n_pred))``: as many
matches as possible first, then the largest total score. Two facts make it fast for 70,000 instances
and keep it exact:

* a pair above the threshold that competes with no other pair above it is part of every optimum
  (exchanging it would lose a match, which no gain of score can outweigh);
* what is left falls apart into connected components of pairs with a score, which are solved on
  their own, because the factor ``2 * min(n_gt, n_pred)`` is that of the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from instaseg.metrics.config import Assignment
from instaseg.metrics.overlaps import Index, Pairs, Values
from instaseg.regions.groups import group_linked

# Components with a matrix of more entries than this are solved by the sparse solver.
_DENSE_LIMIT = 1 << 20


@dataclass(frozen=True)
class Matches:
    """Pairs of instances that are each other's partner.

    Parameters
    ----------
    truth, prediction : ndarray of int64, (M,)
        Numbers of the instances; each occurs at most once. Ordered by `truth`.
    score : ndarray of float64, (M,)
        Score of every pair, larger than the threshold.
    """

    truth: Index
    prediction: Index
    score: Values

    def __len__(self) -> int:
        """Return the number of matches."""
        return len(self.score)


def match(
    scores: Pairs, thresholds: Sequence[float], *, assignment: Assignment = "hungarian"
) -> list[Matches]:
    """Match instances one to one; a pair counts where its score is larger than the threshold.

    Parameters
    ----------
    scores : Pairs
        Scores in [0, 1]; pairs that are not listed have score 0.
    thresholds : sequence of float
        Thresholds t; the comparison is strict.
    assignment : {"hungarian", "greedy"}
        `hungarian` minimises ``-(s > t) - s / (2 * min(n_gt, n_pred))`` for every threshold;
        `greedy` takes pairs by descending score, ties by truth, then by prediction.

    Returns
    -------
    list of Matches
        One per threshold.
    """
    if assignment == "greedy":
        pairs = _greedy(scores)
        return [_select(scores, pairs[scores.value[pairs] > t]) for t in thresholds]
    return [_select(scores, _hungarian(scores, t)) for t in thresholds]


def _select(scores: Pairs, pairs: Index) -> Matches:
    """Return the listed pairs as matches."""
    pairs = np.sort(pairs)
    return Matches(scores.truth[pairs], scores.prediction[pairs], scores.value[pairs])


def _greedy(scores: Pairs) -> Index:
    """Return the pairs taken best first, as indices into `scores`."""
    order = np.lexsort((scores.prediction, scores.truth, -scores.value))
    truth_free = np.ones(scores.shape[0], bool).tolist()
    prediction_free = np.ones(scores.shape[1], bool).tolist()
    truth, prediction = scores.truth.tolist(), scores.prediction.tolist()
    taken = []
    for pair in order.tolist():
        if truth_free[truth[pair]] and prediction_free[prediction[pair]]:
            truth_free[truth[pair]] = prediction_free[prediction[pair]] = False
            taken.append(pair)
    return np.array(taken, np.int64)


def _hungarian(scores: Pairs, threshold: float) -> Index:
    """Return the assigned pairs above the threshold, as indices into `scores`."""
    above = scores.value > threshold
    alone = (
        above
        & (np.bincount(scores.truth[above], minlength=scores.shape[0])[scores.truth] == 1)
        & (np.bincount(scores.prediction[above], minlength=scores.shape[1])[scores.prediction] == 1)
    )
    truth_left = np.ones(scores.shape[0], bool)
    prediction_left = np.ones(scores.shape[1], bool)
    truth_left[scores.truth[alone]] = False
    prediction_left[scores.prediction[alone]] = False
    left = np.flatnonzero(truth_left[scores.truth] & prediction_left[scores.prediction])
    scale = 1 / (2 * max(min(scores.shape), 1))
    cost = -above.astype(float) - scores.value * scale
    contested = [
        group[_solve(scores.truth[group], scores.prediction[group], cost[group])]
        for group in _components(scores, left, above)
    ]
    chosen = np.concatenate([np.flatnonzero(alone), *contested])
    return np.asarray(chosen[above[chosen]], np.int64)


def _components(scores: Pairs, pairs: Index, above: NDArray[np.bool_]) -> list[Index]:
    """Split `pairs` into connected components; those with no pair above the threshold are left out.

    Such components hold no match, whatever their assignment.
    """
    if not above[pairs].any():
        return []
    truth, prediction = scores.truth[pairs], scores.prediction[pairs] + scores.shape[0]
    component = group_linked(np.stack([truth, prediction], axis=1), sum(scores.shape))[truth]
    wanted = np.isin(component, component[above[pairs]])
    pairs, component = pairs[wanted], component[wanted]
    order = np.argsort(component, kind="stable")
    cuts = np.flatnonzero(np.diff(component[order])) + 1
    return np.split(pairs[order], cuts)


def _solve(truth: Index, prediction: Index, cost: Values) -> Index:
    """Return the pairs of the cheapest assignment of one component; pairs not listed cost 0."""
    rows, row = np.unique(truth, return_inverse=True)
    columns, column = np.unique(prediction, return_inverse=True)
    if len(rows) * len(columns) > _DENSE_LIMIT:
        return _solve_sparse(row, column, cost)
    matrix = np.zeros((len(rows), len(columns)))
    matrix[row, column] = cost
    number = np.full(matrix.shape, -1)
    number[row, column] = np.arange(len(cost))
    chosen = number[linear_sum_assignment(matrix)]
    return np.asarray(chosen[chosen >= 0], np.int64)


def _solve_sparse(row: Index, column: Index, cost: Values) -> Index:
    """Return the pairs of the cheapest assignment, for a component too large for a matrix.

    The solver wants every row assigned, so every row gets a column of its own that costs nothing;
    all costs are raised by the same number because it cannot store zeros.
    """
    n_rows, n_columns = int(row.max()) + 1, int(column.max()) + 1
    own = np.arange(n_rows)
    rows, columns = np.concatenate([row, own]), np.concatenate([column, n_columns + own])
    raised = np.concatenate([cost, np.zeros(n_rows)]) + 3.0
    matrix = csr_array((raised, (rows, columns)), shape=(n_rows, n_columns + n_rows))
    assigned = min_weight_full_bipartite_matching(matrix)[1]
    return np.flatnonzero(assigned[row] == column)
