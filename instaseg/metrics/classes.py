"""How well predicted classes agree with the true ones, voxel by voxel; both may be on disk.

Everything follows from counts that add up over slabs and over samples: how many voxels of every
true class were given every class, and how many voxels of their boundaries agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.work import Run
from instaseg.geometry import grid, whole
from instaseg.io.arrays import ArraySource, slabs
from instaseg.regions.distance import distance_per_label, inclusive

Scores = dict[str, Any]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ClassCounts:
    """Numbers of voxels.

    Parameters
    ----------
    confusion : ndarray of int64, (classes, classes)
        Voxels of each true class (first axis) that were given each class (second axis).
    boundary : ndarray of int64, (classes, 2)
        Voxels that lie at the boundary of a class in the truth or in the prediction, and in both.
        That of class 0 is not counted.
    patches : int
        Patches in which a class other than 0 occurs on either side.
    patch_iou : float
        Sum over these of the mean IoU of such classes.
    """

    confusion: Counts
    boundary: Counts
    patches: int = 0
    patch_iou: float = 0.0

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """Return the counts of both."""
        return ClassCounts(
            self.confusion + other.confusion,
            self.boundary + other.boundary,
            self.patches + other.patches,
            self.patch_iou + other.patch_iou,
        )


def score_classes(
    truth: ArraySource,
    prediction: ArraySource,
    *,
    num_classes: int,
    spacing: Sequence[float],
    boundary_distance: float = 0.0,
    patch_shape: Sequence[int] | None = None,
    run: Run = run_here,
) -> Scores:
    """Return the scores of one sample.

    Parameters
    ----------
    truth, prediction : array of int, ([z,] y, x)
        Classes below `num_classes`, in memory or on disk, read slab by slab; voxels where the truth
        is negative are not compared.
    num_classes : int
        Number of classes, background included.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    boundary_distance : float
        Physical width of a boundary; 0 counts none.
    patch_shape : sequence of int, optional
        Patches from the first voxel on, ``([z,] y, x)``, whose IoU is averaged; None counts none.
    run : callable
        Runs tasks on parts of both sides; in other processes only where both are on disk.

    Returns
    -------
    dict
        See :func:`class_scores`.
    """
    counts = count_classes(
        truth,
        prediction,
        num_classes=num_classes,
        spacing=spacing,
        boundary_distance=boundary_distance,
        run=run,
    )
    if patch_shape is not None:
        counts += count_patches(truth, prediction, patch_shape, num_classes=num_classes)
    return class_scores(counts)


def count_patches(
    truth: ArraySource, prediction: ArraySource, patch_shape: Sequence[int], *, num_classes: int
) -> ClassCounts:
    """Return how well patches agree, one by one; parameters as of :func:`score_classes`."""
    none = ClassCounts(
        np.zeros((num_classes, num_classes), np.int64), np.zeros((num_classes, 2), np.int64)
    )
    overlaps = []
    for box in grid(whole(truth.shape), patch_shape):
        true, found = (np.asarray(side[box.slices], np.int16) for side in (truth, prediction))
        known = true >= 0
        general = class_scores(
            replace(none, confusion=_confusion(true[known], found[known], num_classes))
        )
        overlaps.append(general["general"]["foreground_iou"])
    counted = [value for value in overlaps if not math.isnan(value)]
    return replace(none, patches=len(counted), patch_iou=math.fsum(counted))


def count_classes(
    truth: ArraySource,
    prediction: ArraySource,
    *,
    num_classes: int,
    spacing: Sequence[float],
    boundary_distance: float = 0.0,
    run: Run = run_here,
) -> ClassCounts:
    """Return the counts of one sample; parameters as of :func:`score_classes`."""
    how = _How(truth, prediction, num_classes, tuple(spacing), boundary_distance)
    counted = run(_count_slab, [_Slab(how, index) for index in slabs(truth.shape)], "compare")
    none = ClassCounts(
        np.zeros((num_classes, num_classes), np.int64), np.zeros((num_classes, 2), np.int64)
    )
    return sum(counted, start=none)


@dataclass(frozen=True)
class _How:
    """What is compared, and how; see :func:`score_classes`."""

    truth: ArraySource
    prediction: ArraySource
    num_classes: int
    spacing: tuple[float, ...]
    boundary_distance: float


@dataclass(frozen=True)
class _Slab:
    """A part in which both sides are compared."""

    how: _How
    index: tuple[slice, ...]

    def __str__(self) -> str:
        return f"voxels {self.index}"


def _count_slab(slab: _Slab) -> ClassCounts:
    """Return the counts of a slab."""
    how, first = slab.how, slab.index[0]
    reach = math.ceil(how.boundary_distance / how.spacing[0])
    wide = slice(max(0, first.start - reach), min(how.truth.shape[0], first.stop + reach))
    inner = slice(first.start - wide.start, first.stop - wide.start)
    true = np.asarray(how.truth[(wide, *slab.index[1:])], np.int16)
    found = np.asarray(how.prediction[(wide, *slab.index[1:])], np.int16)
    known = true >= 0
    # without a truth both sides are alike, so that no boundary begins there
    true = np.where(known, true, found)
    boundary = np.zeros((how.num_classes, 2), np.int64)
    if how.boundary_distance > 0:
        limit = inclusive(how.boundary_distance)
        at_true, at_found = (_edge(side, how.spacing, limit)[inner] for side in (true, found))
        boundary = _count_boundaries(
            (true[inner], at_true & known[inner]),
            (found[inner], at_found & known[inner]),
            how.num_classes,
        )
    inside = known[inner]
    confusion = _confusion(true[inner][inside], found[inner][inside], how.num_classes)
    return ClassCounts(confusion, boundary)


def _confusion(true: NDArray[np.int16], found: NDArray[np.int16], num_classes: int) -> Counts:
    """Return how many of some voxels of each true class were given each class."""
    pairs = true.astype(np.int64) * num_classes + found
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, -1)


def _edge(classes: NDArray[np.int16], spacing: Sequence[float], limit: float) -> NDArray[np.bool_]:
    """Return the voxels of classes other than 0 that are near what is not their class."""
    # the end of the image is a boundary too, as in the source
    distance = distance_per_label(classes, spacing, border="wall")
    return (classes > 0) & (distance <= limit)


def _count_boundaries(
    true: tuple[NDArray[np.int16], NDArray[np.bool_]],
    found: tuple[NDArray[np.int16], NDArray[np.bool_]],
    num_classes: int,
) -> Counts:
    """Return, for every class, how many voxels lie at a boundary on one side, and on both."""

    def count(classes: NDArray[np.int16], chosen: NDArray[np.bool_]) -> Counts:
        return np.bincount(classes[chosen], minlength=num_classes)

    shared = count(true[0], true[1] & found[1] & (true[0] == found[0]))
    return np.stack([count(*true) + count(*found) - shared, shared], axis=1)


def class_scores(counts: ClassCounts) -> Scores:
    """Return the scores that follow from counts.

    Parameters
    ----------
    counts : ClassCounts
        Of one sample or of many.

    Returns
    -------
    dict
        ``general`` with scores of all classes together, ``classes.<n>`` with those of one class,
        and ``confusion_matrix.<true>.<predicted>``, see :mod:`instaseg.metrics.config`. A class
        that occurs on neither side has no score (NaN); means leave it out, and ``general.skipped``
        counts such classes. ``mean_iou`` and ``mean_dice`` are over all classes, as in the PASCAL
        VOC challenge [1]_, ``foreground_iou`` and ``foreground_dice`` over all but class 0, so that
        of two classes they are those of class 1; ``patch_iou`` is the mean of it over
        ``patches``. ``boundary_iou`` [2]_ is the mean over all but
        class 0, with Euclidean distances.

    References
    ----------
    .. [1] Everingham et al., The Pascal Visual Object Classes Challenge: A Retrospective, IJCV
       2015, https://doi.org/10.1007/s11263-014-0733-5
    .. [2] Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR
       2021, https://doi.org/10.1109/CVPR46437.2021.01508

    Examples
    --------
    >>> counts = ClassCounts(np.array([[5, 1], [0, 3]]), np.zeros((2, 2), int))
    >>> class_scores(counts)["classes"]["1"]["iou"]
    0.75
    """
    confusion = counts.confusion
    per_class = {
        str(number): _of_class(confusion, counts.boundary[number], number)
        for number in range(len(confusion))
    }
    voxels = int(confusion.sum())
    ious = [scores["iou"] for scores in per_class.values()]
    dices = [scores["dice"] for scores in per_class.values()]
    boundaries = [scores["boundary_iou"] for scores in per_class.values()]
    general: Scores = {
        "accuracy": _ratio(int(np.trace(confusion)), voxels),
        "mean_iou": _mean(ious),
        "foreground_iou": _mean(ious[1:]),
        "mean_dice": _mean(dices),
        "foreground_dice": _mean(dices[1:]),
        "boundary_iou": _mean(boundaries[1:]),
        "patch_iou": counts.patch_iou / counts.patches if counts.patches else math.nan,
        "patches": counts.patches,
        "skipped": sum(map(math.isnan, ious)),
        "voxels": voxels,
    }
    cells = {
        str(true): {str(found): int(number) for found, number in enumerate(row)}
        for true, row in enumerate(confusion)
    }
    return {"general": general, "classes": per_class, "confusion_matrix": cells}


def _of_class(confusion: Counts, boundary: Counts, number: int) -> Scores:
    """Return the scores of one class."""
    true, found = int(confusion[number].sum()), int(confusion[:, number].sum())
    shared = int(confusion[number, number])
    either, both = boundary.tolist()
    return {
        "iou": _ratio(shared, true + found - shared),
        "dice": _ratio(2 * shared, true + found),
        "precision": _ratio(shared, found),
        "recall": _ratio(shared, true),
        "boundary_iou": _ratio(both, either),
        "true": true,
        "predicted": found,
        "shared": shared,
        "boundary_either": either,
        "boundary_shared": both,
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def pooled_class_scores(samples: Sequence[Scores]) -> Scores:
    """Return the scores of all samples taken as one: from the sums of their counts.

    Parameters
    ----------
    samples : sequence of dict
        At least one, of :func:`class_scores` with the same number of classes.
    """
    return class_scores(sum_counts([counts_of(sample) for sample in samples]))


def sum_counts(counts: Sequence[ClassCounts]) -> ClassCounts:
    """Return the counts of several samples together."""
    first, *others = counts
    return sum(others, start=first)


def counts_of(scores: Scores) -> ClassCounts:
    """Return the counts that scores were made from."""
    cells = scores["confusion_matrix"]
    numbers = range(len(cells))
    return ClassCounts(
        np.array([[cells[str(true)][str(found)] for found in numbers] for true in numbers]),
        np.array(
            [
                [scores["classes"][str(n)][f"boundary_{side}"] for side in ("either", "shared")]
                for n in numbers
            ]
        ),
        scores["general"]["patches"],
        scores["general"]["patch_iou"] * scores["general"]["patches"]
        if scores["general"]["patches"]
        else 0.0,
    )
