"""Which postsynaptic sites belong to which presynaptic ones. Distances are physical."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from instaseg.regions.groups import group_linked

Places = NDArray[np.float64]
"""Physical positions ``(n, axes)``."""


def nearest_by_score(
    pre: Places, post: Places, probability: NDArray[np.floating], *, max_distance: float
) -> NDArray[np.int64]:
    """Return the presynaptic site of every postsynaptic one; a pre may have many posts.

    A post at the distance `d` gives a pre of probability `p` the score ``p (1 - d / (2 m))`` with
    the greatest distance `m`, and takes the one with the highest: a nearby pre unless it is
    much less likely than one further away.

    Parameters
    ----------
    pre, post : (n, axes), (m, axes) float64
        Physical positions.
    probability : (n,) float
        Of the presynaptic sites.
    max_distance : float
        Sites further apart are never joined.

    Returns
    -------
    (m,) int64
        Number of the pre, -1 for none within `max_distance`. Between equal scores the lower number
        decides.

    Examples
    --------
    >>> pre, post = np.array([[0.0], [10.0]]), np.array([[4.0], [11.0], [30.0]])
    >>> nearest_by_score(pre, post, np.array([0.9, 0.9]), max_distance=10).tolist()
    [0, 1, -1]
    """
    partner = np.full(len(post), -1, dtype=np.int64)
    if not len(pre) or not len(post):
        return partner
    near = cKDTree(post).query_ball_tree(cKDTree(pre), max_distance)
    for number, candidates in enumerate(near):
        if not candidates:
            continue
        rows = np.sort(np.array(candidates))
        distance = np.linalg.norm(pre[rows] - post[number], axis=1)
        score = np.asarray(probability, np.float64)[rows] * (1 - distance / (2 * max_distance))
        partner[number] = rows[np.argmax(score)]
    return partner


@dataclass(frozen=True)
class Clusters:
    """Ends of vectors that mean the same presynaptic site.

    Parameters
    ----------
    places : (n, axes) float64
        Mean of the ends, weighted by probability.
    probability : (n,) float64
        Greatest of the members.
    of_end : (m,) int64
        The cluster of every end.
    """

    places: Places
    probability: NDArray[np.float64]
    of_end: NDArray[np.int64]


def cluster(ends: Places, probability: NDArray[np.floating], distance: float) -> Clusters:
    """Return clusters of ends by single linkage: chains of ends at most `distance` apart.

    Examples
    --------
    >>> found = cluster(np.array([[0.0], [2.0], [9.0]]), np.ones(3), 2.5)
    >>> found.places.ravel().tolist(), found.of_end.tolist()
    ([1.0, 9.0], [0, 0, 1])
    """
    near = cKDTree(ends).query_pairs(distance, output_type="ndarray")
    of_end = group_linked(near, len(ends))
    count = int(of_end.max(initial=-1)) + 1
    weight = np.asarray(probability, dtype=np.float64)
    total = np.bincount(of_end, weight, minlength=count)
    sums = [np.bincount(of_end, weight * axis, minlength=count) for axis in ends.T]
    highest = np.zeros(count)
    np.maximum.at(highest, of_end, weight)
    return Clusters(np.stack(sums, axis=1) / total[:, np.newaxis], highest, of_end)
