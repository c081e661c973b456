"""Scores of boundaries between touching objects: rRAND and rINF of the ISBI 2012 challenge.

Both compare two partitions of the true foreground by their contingency table ``n[i, j]``, the
voxels of true instance ``i`` in predicted instance ``j`` (row sums ``t[i]``, column sums ``s[j]``)
[1]_::

    rRAND = sum n[i, j]**2 / (sum t[i]**2 / 2 + sum s[j]**2 / 2)
    rINF  = I(S; T) / (H(S) / 2 + H(T) / 2)

the F-scores of the pairs of voxels that are together, and of the information about each other. 1 is
perfect, for both.

How thick a predicted boundary is must not count. Every voxel of label 0 therefore first becomes
part of the nearest predicted instance (Euclidean distance in voxels, one of the nearest where there
are several), until boundaries are gone. Where nothing at all is predicted, every voxel is an
instance of its own.

References
----------
.. [1] Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for
   connectomics, 2015, https://doi.org/10.3389/fnana.2015.00142
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from instaseg.errors import DataError
from instaseg.metrics.overlaps import Index, Instances, Tally

# scipy has no type annotations
_nearest: Any = distance_transform_edt


def boundary_scores(
    truth: Instances, prediction: Instances, *, extent: Literal["sections", "volume"]
) -> dict[str, float]:
    """Return the foreground-restricted Rand and information theoretic F-scores.

    Parameters
    ----------
    truth, prediction : Instances
        Must not overlap. Voxels outside the true instances (boundaries, background) do not count.
    extent : {"sections", "volume"}
        `sections`: planes are partitions of their own, as if each had other instances, and one
        table is made of all; `volume`: as they are. Of 2-D instances both are the same.

    Returns
    -------
    dict
        ``rRAND`` and ``rINF`` in [0, 1]; NaN where there is no true instance.

    Raises
    ------
    DataError
        If instances overlap.

    Notes
    -----
    `volume` holds both volumes and where the nearest instances lie, about 30 bytes per voxel;
    `sections` holds a slab of 64 planes.
    """
    for name, side in (("ground truth", truth), ("prediction", prediction)):
        if side.overlapping.any():
            raise DataError(
                f"rRAND and rINF: expected instances that do not overlap, found {name} in which"
                f" {int(side.overlapping.sum())} do; set [evaluation] boundaries = 'skip'"
            )
    sums = _Sums()
    for true, predicted in _parts(truth, prediction, extent):
        inside = true > 0
        grown = _without_boundaries(predicted)[inside]
        tally = Tally(len(prediction) + 1)
        tally.add(true[inside].astype(np.int64), grown.astype(np.int64))
        sums.add(*tally.counts())
    return {"rRAND": sums.rand(), "rINF": sums.information()}


def _parts(
    truth: Instances, prediction: Instances, extent: Literal["sections", "volume"]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Yield number + 1 of the instances of both sides, plane by plane or all at once."""
    height, *plane = truth.shape
    rest = tuple(slice(0, n) for n in plane)
    if extent == "volume" or len(truth.shape) == 2:
        whole = (slice(0, height), *rest)
        yield _flat(truth, whole), _flat(prediction, whole)
        return
    step = truth.source.block[0]
    for begin in range(0, height, step):
        slab = (slice(begin, min(begin + step, height)), *rest)
        yield from zip(_flat(truth, slab), _flat(prediction, slab), strict=True)


def _flat(instances: Instances, window: tuple[slice, ...]) -> NDArray[np.int32]:
    """Return instances that do not overlap as one label image."""
    return np.asarray(instances.read(window).max(axis=0, initial=0), np.int32)


def _without_boundaries(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return labels in which every voxel of label 0 has that of the nearest instance.

    Examples
    --------
    >>> _without_boundaries(np.array([[0, 1, 0, 0, 0, 0, 2]], np.int32)).tolist()
    [[1, 1, 1, 1, 2, 2, 2]]
    """
    empty = labels == 0
    if not empty.any() or empty.all():
        return labels
    nearest = _nearest(empty, return_distances=False, return_indices=True)
    return np.asarray(labels[tuple(nearest)])


class _Sums:
    """What both scores are made of, summed over partitions that have no instance in common."""

    def __init__(self) -> None:
        self._squares = np.zeros(3)
        self._logarithms = np.zeros(3)
        self._voxels = 0

    def add(self, truth: Index, prediction: Index, count: Index) -> None:
        """Add one table; predicted voxels with number 0 are instances of one voxel each."""
        alone = prediction == 0
        singles = int(count[alone].sum())
        rows = np.bincount(truth, count)
        columns = np.bincount(prediction[~alone], count[~alone])
        tables = (count[~alone].astype(float), rows[rows > 0], columns[columns > 0])
        for place, part in enumerate(tables):
            self._squares[place] += (part**2).sum() + (singles if place != 1 else 0)
            self._logarithms[place] += (part * np.log(part)).sum()
        self._voxels += int(count.sum())

    def rand(self) -> float:
        """Return the F-score of pairs of voxels."""
        joint, truth, prediction = self._squares
        return float(2 * joint / (truth + prediction)) if self._voxels else math.nan

    def information(self) -> float:
        """Return the F-score of the information about each other."""
        if not self._voxels:
            return math.nan
        joint, truth, prediction = np.log(self._voxels) - self._logarithms / self._voxels
        if truth + prediction < 1e-12:
            return 1.0  # one instance on either side
        return float(max(0.0, 2 * (truth + prediction - joint) / (truth + prediction)))
