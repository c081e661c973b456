"""Scores of points and of their connections: counts of matches within a tolerance.

True and predicted points are matched one to one. The cost of a pair at the distance `d` is
``[d >= t] + min(d, t) / (2 n t)`` with the tolerance `t` and the number of pairs `n`: as many
matches as possible, and of these assignments one with the least sum of distances. All distances are
physical.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from instaseg.io.points import KINDS, Points, connections, positions, rows_of
from instaseg.metrics.config import OF_POINTS
from instaseg.metrics.ratios import Scores
from instaseg.regions.groups import group_linked


@dataclass(frozen=True)
class Matches:
    """Which predicted points are which true ones.

    Parameters
    ----------
    truth, predicted : (m,) intp
        Numbers of the matched ones, pair by pair; those of the truth ascend.
    distances : (m,) float64
        Physical.
    num_truth, num_predicted : int
        How many there are.
    """

    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    distances: NDArray[np.float64]
    num_truth: int
    num_predicted: int

    def scores(self) -> Scores:
        """Return ``TP FP FN precision recall F1 distance``; see :func:`point_scores`."""
        found = len(self.truth)
        false, missed = self.num_predicted - found, self.num_truth - found
        return point_scores(found, false, missed, float(self.distances.sum()))


def point_scores(tp: int, fp: int, fn: int, sum_of_distances: float) -> Scores:
    """Return counts and the scores that follow from them; NaN where there is nothing to score.

    Examples
    --------
    >>> point_scores(2, 0, 2, 3.0)
    {'TP': 2, 'FP': 0, 'FN': 2, 'precision': 1.0, 'recall': 0.5, 'F1': 0.6666666666666666, \
'distance': 1.5}
    """
    return {
        "TP": tp,
        "FP": fp,
        "FN": fn,
        "precision": _share(tp, tp + fp),
        "recall": _share(tp, tp + fn),
        "F1": _share(2 * tp, 2 * tp + fp + fn),
        "distance": _share(sum_of_distances, tp),
    }


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def match_points(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], tolerance: float
) -> Matches:
    """Match points one to one.

    Parameters
    ----------
    truth, predicted : (n, axes), (m, axes) float64
        Physical positions.
    tolerance : float
        Pairs match that are closer.
    """
    rows, columns, distances = _close_pairs(truth, predicted, tolerance)
    return _assign(rows, columns, distances, shape=(len(truth), len(predicted)))


def match_connections(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], tolerance: float
) -> Matches:
    """Match connections one to one; two are the same if both ends are.

    Parameters
    ----------
    truth, predicted : (n, 2, axes), (m, 2, axes) float64
        Physical positions of the pre- and the postsynaptic end.
    tolerance : float
        Two connections match where both ends are closer; their distance is that of the ends that
        are further apart.
    """
    rows, columns, first = _close_pairs(truth[:, 0], predicted[:, 0], tolerance)
    second = np.linalg.norm(truth[rows, 1] - predicted[columns, 1], axis=1)
    distances = np.maximum(first, second)
    close = distances < tolerance
    return _assign(
        rows[close], columns[close], distances[close], shape=(len(truth), len(predicted))
    )


def _close_pairs(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return all pairs closer than the tolerance: rows, columns, distances."""
    none = np.zeros(0, np.intp)
    if not len(truth) or not len(predicted):
        return none, none, np.zeros(0)
    near = cKDTree(truth).query_ball_tree(cKDTree(predicted), tolerance)
    rows = np.repeat(np.arange(len(truth)), [len(one) for one in near])
    columns = np.concatenate([none, *(np.array(sorted(one), np.intp) for one in near)])
    distances = np.linalg.norm(truth[rows] - predicted[columns], axis=1)
    close = distances < tolerance
    return rows[close], columns[close], distances[close]


def _assign(
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    distances: NDArray[np.float64],
    *,
    shape: tuple[int, int],
) -> Matches:
    """Return the assignment of least cost; groups of points without close pairs are independent.

    Pairs that are not close all cost the same, so each group is assigned by itself.
    """
    group = group_linked(np.stack([rows, shape[0] + columns], axis=1), sum(shape))[rows]
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    chosen = [
        part[_cheapest(rows[part], columns[part], distances[part])]
        for part in np.split(order, ends)
        if len(part)
    ]
    kept = np.concatenate([np.zeros(0, np.intp), *chosen])
    kept = kept[np.argsort(rows[kept], kind="stable")]
    return Matches(rows[kept], columns[kept], distances[kept], *shape)


def _cheapest(
    rows: NDArray[np.intp], columns: NDArray[np.intp], distances: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return which pairs of a group make up the assignment of least cost."""
    names, row = np.unique(rows, return_inverse=True)
    others, column = np.unique(columns, return_inverse=True)
    pairs = min(len(names), len(others))
    farthest = max(float(distances.max()), np.finfo(float).tiny)
    # matches beat distances: the sum of all terms of distances is at most a half
    cost = np.full((len(names), len(others)), 1 + 1 / (2 * pairs))
    cost[row, column] = distances / (2 * pairs * farthest)
    number = np.full(cost.shape, -1)
    number[row, column] = np.arange(len(rows))
    found = number[linear_sum_assignment(cost)]
    return np.asarray(found[found >= 0], dtype=np.intp)


def matches_of(
    truth: Points, predicted: Points, *, spacing: Sequence[float], tolerance: float
) -> dict[str, Matches]:
    """Return matches by kind of point, and of connections.

    Parameters
    ----------
    truth, predicted : (n, 4 + axes), (m, 4 + axes) float64
        Tables; see :mod:`instaseg.io.points`.
    spacing : sequence of float
        Physical size of a voxel per axis.
    tolerance : float
        Physical distance.

    Returns
    -------
    dict
        ``pre``, ``post``, ``cleft`` (numbers count the points of that kind) and ``connections``
        (numbers count the rows of :func:`instaseg.io.points.connections`).
    """
    size = np.asarray(spacing, dtype=np.float64)
    places = [positions(table) * size for table in (truth, predicted)]
    found = {}
    for kind, name in enumerate(KINDS):
        own = [place[rows_of(t, kind)] for place, t in zip(places, (truth, predicted), strict=True)]
        found[name] = match_points(own[0], own[1], tolerance)
    ends = [place[connections(t)] for place, t in zip(places, (truth, predicted), strict=True)]
    found["connections"] = match_connections(ends[0], ends[1], tolerance)
    return found


def score_points(
    truth: Points, predicted: Points, *, spacing: Sequence[float], tolerance: float
) -> Scores:
    """Return the scores of each kind of point and of connections; see :func:`matches_of`.

    Returns
    -------
    dict
        For ``pre``, ``post``, ``cleft`` and ``connections``: ``TP``, ``FP``, ``FN``,
        ``precision``, ``recall``, ``F1`` and the mean ``distance`` of matches. NaN where there is
        nothing of a kind on either side.
    """
    found = matches_of(truth, predicted, spacing=spacing, tolerance=tolerance)
    return {name: found[name].scores() for name in OF_POINTS}


def pooled_point_scores(samples: Sequence[Scores]) -> Scores:
    """Return the scores of all samples taken as one: counts are summed, shares computed from them.

    Parameters
    ----------
    samples : sequence of dict
        Results of :func:`score_points`.
    """
    pooled: Scores = {}
    for name in OF_POINTS:
        parts = [sample[name] for sample in samples]
        tp, fp, fn = (sum(part[key] for part in parts) for key in ("TP", "FP", "FN"))
        summed = sum(part["distance"] * part["TP"] for part in parts if part["TP"])
        pooled[name] = point_scores(tp, fp, fn, float(summed))
    return pooled


def association_rows(
    truth: Points, predicted: Points, kind: int, found: Matches
) -> tuple[list[list[object]], list[list[object]]]:
    """Return the rows of the tables of true points and of false predictions.

    Returns
    -------
    associations : list
        For every true point: its row, the row of its match (-1: none), their distance (-1: none),
        ``TP`` or ``FN``, its position, that of the match (-1: none).
    false : list
        For every prediction without a match: its row and position.
    """
    mine, theirs = (rows_of(table, kind)[:, np.newaxis] for table in (truth, predicted))
    return _association_rows(_Ends(truth, mine), _Ends(predicted, theirs), found)


def connection_rows(
    truth: Points, predicted: Points, found: Matches
) -> tuple[list[list[object]], list[list[object]]]:
    """Return the rows of the tables of true connections and of false ones.

    Returns
    -------
    associations, false : list
        As :func:`association_rows` gives them, with two rows for one and two positions for one:
        those of the presynaptic and of the postsynaptic point.
    """
    mine, theirs = connections(truth), connections(predicted)
    return _association_rows(_Ends(truth, mine), _Ends(predicted, theirs), found)


@dataclass(frozen=True)
class _Ends:
    """Points of a table that are matched one by one or, in connections, two by two.

    Parameters
    ----------
    table : (n, 4 + axes) float64
        Points.
    rows : (m, 1) or (m, 2) int
        The rows of what is matched.
    """

    table: Points
    rows: NDArray[np.integer]

    def ids(self, number: int) -> list[int]:
        """Return the rows of one."""
        return [int(row) for row in self.rows[number]]

    def places(self, number: int) -> list[float]:
        """Return the positions of one, one after the other."""
        return [float(value) for value in positions(self.table)[self.rows[number]].ravel()]


def _association_rows(
    truth: _Ends, predicted: _Ends, found: Matches
) -> tuple[list[list[object]], list[list[object]]]:
    """Return the rows of both tables; see :func:`association_rows`."""
    match = dict(zip(found.truth.tolist(), range(len(found.truth)), strict=True))
    associations: list[list[object]] = []
    for number in range(len(truth.rows)):
        ids, places = truth.ids(number), truth.places(number)
        if number not in match:
            none, nowhere = [-1] * len(ids), [-1] * len(places)
            associations.append([*ids, *none, -1, "FN", *places, *nowhere])
            continue
        pair = match[number]
        other, distance = int(found.predicted[pair]), float(found.distances[pair])
        theirs = predicted.places(other)
        associations.append([*ids, *predicted.ids(other), distance, "TP", *places, *theirs])
    unmatched = np.delete(np.arange(len(predicted.rows)), found.predicted).tolist()
    return associations, [[*predicted.ids(one), *predicted.places(one)] for one in unmatched]
