"""Which kind of error every instance is, for pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from instaseg.io.arrays import ArraySource
from instaseg.metrics.config import Assignment, Criterion
from instaseg.metrics.matching import match
from instaseg.metrics.overlaps import Instances
from instaseg.metrics.scores import (
    locate_by_lines,
    locate_by_voxels,
    merging_pairs,
    paired_instances,
)

Kind = Literal["matched", "missed", "inexact", "false", "split", "merged", "uncounted"]


@dataclass(frozen=True)
class Errors:
    """Instances of both sides and what became of each.

    Parameters
    ----------
    truth, prediction : Instances
        The instances compared.
    truth_kinds : tuple of str, (n_gt,)
        ``matched`` or ``missed``.
    prediction_kinds : tuple of str, (n_pred,)
        ``merged`` where it covers several true instances (even if it matches one of them), else
        ``matched``; else, where more of it lies in one true instance than elsewhere, ``split`` if
        it shares that instance with other predictions and ``inexact`` if not; else ``false``, or
        ``uncounted`` where the truth is labelled partly.
    """

    truth: Instances
    prediction: Instances
    truth_kinds: tuple[Kind, ...]
    prediction_kinds: tuple[Kind, ...]

    def count(self, kind: Kind) -> int:
        """Return how many instances are of a kind; matches are counted once."""
        return (self.truth_kinds if kind == "missed" else self.prediction_kinds).count(kind)


def find_errors(
    truth: ArraySource,
    prediction: ArraySource,
    *,
    ndim: int,
    threshold: float = 0.5,
    criterion: Criterion = "iou",
    assignment: Assignment = "hungarian",
    remove_small: int = 0,
    partly: bool = False,
) -> Errors:
    """Sort the instances of both sides by what went right or wrong.

    Parameters
    ----------
    truth, prediction : array of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Instances, 0 = background; in memory or on disk, read part by part.
    ndim : {2, 3}
        Number of spatial axes.
    threshold : float
        A pair matches where its score is larger; a prediction covers a true instance where it
        holds a larger share of it.
    criterion, assignment, remove_small, partly
        See :func:`instaseg.metrics.score_instances`.

    Returns
    -------
    Errors

    Raises
    ------
    DataError
        As :func:`instaseg.metrics.score_instances`.

    Examples
    --------
    >>> found = find_errors(np.array([[1, 1, 0, 2, 0]]), np.array([[1, 1, 0, 0, 3]]), ndim=2)
    >>> found.truth_kinds, found.prediction_kinds
    (('matched', 'missed'), ('matched', 'false'))
    """
    true, predicted = paired_instances(truth, prediction, ndim=ndim, remove_small=remove_small)
    locate = locate_by_lines if criterion == "cldice" else locate_by_voxels
    where = locate(true, predicted)
    matches = match(where.score, [threshold], assignment=assignment)[0]
    covering, times = np.unique(merging_pairs(where, threshold), return_counts=True)
    truth_kinds: list[Kind] = ["missed"] * len(true)
    for number in matches.truth.tolist():
        truth_kinds[number] = "matched"
    prediction_kinds: list[Kind] = ["uncounted" if partly else "false"] * len(predicted)
    sharing = np.bincount(where.best[where.best >= 0], minlength=len(true))
    for number in np.flatnonzero(where.best >= 0).tolist():
        prediction_kinds[number] = "split" if sharing[where.best[number]] > 1 else "inexact"
    for number in matches.prediction.tolist():
        prediction_kinds[number] = "matched"
    for number in covering[times > 1].tolist():
        prediction_kinds[number] = "merged"
    return Errors(true, predicted, tuple(truth_kinds), tuple(prediction_kinds))
