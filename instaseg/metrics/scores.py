"""The scores of one image: how well predicted instances agree with the true ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.work import Run
from instaseg.errors import DataError
from instaseg.io.arrays import ArraySource
from instaseg.metrics.boundaries import boundary_scores
from instaseg.metrics.centre_lines import (
    best_truth,
    centre_line_dice,
    coverage,
    share_inside,
    splits_and_merges,
    transposed,
)
from instaseg.metrics.centre_lines import centre_lines as thin
from instaseg.metrics.config import (
    AVERAGES,
    SIZES,
    THRESHOLDS,
    Assignment,
    Boundaries,
    CentreLines,
    Criterion,
    threshold_key,
    with_needed,
)
from instaseg.metrics.instance_classes import InstanceClasses, class_scores
from instaseg.metrics.matching import Matches, match
from instaseg.metrics.overlaps import (
    Hits,
    Index,
    Instances,
    Pairs,
    Shown,
    Tally,
    Voxels,
    crowding,
    depth,
    find_instances,
    hits,
    windows,
)
from instaseg.metrics.ratios import Scores, count_ratios, matched_scores


@dataclass(frozen=True)
class Localisation:
    """What every pair of instances shares, by the chosen criterion.

    Parameters
    ----------
    score : Pairs
        Intersection over union, or clDice: what matches are made by.
    recall, own_recall : Pairs
        Share of a true instance (or its centre line) inside a prediction; `own_recall` without the
        voxels where true instances overlap.
    best : ndarray of int64, (n_pred,)
        True instance that holds most of a prediction, -1 for background.
    """

    score: Pairs
    recall: Pairs
    own_recall: Pairs
    best: Index


@dataclass(frozen=True)
class LineLocalisation(Localisation):
    """The same by centre lines, and these.

    Parameters
    ----------
    lines : Voxels
        Centre lines of the truth.
    inside : Hits
        Predictions their voxels lie in.
    """

    lines: Voxels
    inside: Hits


def score_instances(
    truth: ArraySource,
    prediction: ArraySource,
    *,
    ndim: int,
    criterion: Criterion = "iou",
    assignment: Assignment = "hungarian",
    thresholds: Sequence[float] = THRESHOLDS,
    remove_small: int = 0,
    partly: bool = False,
    centre_lines: CentreLines = "measure",
    boundaries: Boundaries = "skip",
    dim: Sequence[int] = (),
    size_limits: Sequence[int] = (),
    classes: InstanceClasses | None = None,
    run: Run = run_here,
) -> Scores:
    """Score predicted instances against true ones.

    Parameters
    ----------
    truth, prediction : array of bool or int
        Labels ``([z,] y, x)``, or ``(n, [z,] y, x)`` with one or several instances per channel,
        independently for either side; 0 is background. Spatial shapes must agree. In memory or on
        disk (anything with `shape`, `dtype` and slices): they are read block by block, and never
        held whole.
    ndim : {2, 3}
        Number of spatial axes; tells labels from channels.
    criterion : {"iou", "cldice"}
        Score of a pair: intersection over union, or the harmonic mean of the share of the
        predicted centre line inside the true instance and of the true one inside the prediction.
    assignment : {"hungarian", "greedy"}
        As many matches as possible, or best pair first (ties: by truth, then by prediction).
    thresholds : sequence of float
        A pair is a match where its score is strictly larger; those the averages need are always
        added.
    remove_small : int
        Predictions of at most this many voxels are left out.
    partly : bool
        The truth is labelled partly: an unmatched prediction is a false positive only where more
        of it lies in one labelled instance than in the background.
    centre_lines : {"measure", "skip"}
        `measure` gives ``general`` its centre-line scores for either criterion; thinning costs
        about as much as the rest in 2-D, more in large volumes. `skip` leaves these names out
        (only with criterion `iou`).
    boundaries : {"skip", "sections", "volume"}
        How ``rRAND`` and ``rINF`` are made; see
        :func:`instaseg.metrics.boundaries.boundary_scores`.
    dim : sequence of int
        True instances that are hard to see: their labels, or in an array with several channels the
        numbers of their channels, from 1.
    size_limits : sequence of int
        Voxels of the largest small and of the largest medium true instance; empty for no scores by
        size.
    classes : InstanceClasses, optional
        Of which class the instances of both sides are.
    run : callable
        Runs tasks on parts of both sides, such as a :class:`instaseg.blockwise.scheduler.Pool`
        does; in other processes only where both sides are on disk.

    Returns
    -------
    dict
        Plain Python numbers. ``general``: ``Num GT``, ``Num Pred``, ``Num skipped`` (1 for an image
        without anything to find or counted as found), ``avg_gt_skel_coverage`` (mean share of a
        true centre line covered by the predictions that lie mostly in that instance), ``FS`` and
        ``FM`` (false splits and merges, many to many), ``avg_f1_cov_score`` (mean of coverage and
        ``avFscore``; the ranking score of FISBe is that of counts summed over images, see
        :func:`instaseg.metrics.summary.pooled_scores`), ``rRAND`` and ``rINF``. ``subsets``: for
        the true instances that share voxels with another one (``overlapping``), for the ``dim``
        ones, and with limits for ``small``, ``medium`` and ``large`` ones ``Num GT``, the matches
        at 0.5 ``TP`` and their share ``recall_0_5``, ``mean_iou`` (intersection over union with the
        prediction that is theirs when the best pairs are taken first, one to one; 0 where there is
        none) and ``coverage`` (of their centre lines).
        ``confusion_matrix``: for every threshold ``th_0_5``, ``th_0_55`` ... the counts ``AP_TP``,
        ``AP_FP``, ``AP_FN``; ``precision``, ``recall``, ``AP`` (their product), ``fscore`` =
        2TP/(2TP+FP+FN), ``S`` = TP/(TP+FP+FN); the sum of the scores of the matches divided by TP
        (``mean_matched_score``), by the true instances (``mean_true_score``) and by TP + FP/2 +
        FN/2 (``panoptic_quality`` [1]_); ``false_split``, ``false_merge``; ``clDice_TP`` and
        ``avg_tp_skel_coverage`` (mean clDice and clRecall of the matches); and the averages
        ``avAP`` (0.5, 0.55 ... 0.95), ``avAP19`` and ``avFscore`` (0.1 ... 0.9), ``avS`` (0.5 ...
        0.9) and ``avS10`` (as avAP), the score of the Data Science Bowl 2018 and of the Sartorius
        cell segmentation. With `classes` also ``classes``, see
        :func:`instaseg.metrics.instance_classes.class_scores`.

    Raises
    ------
    DataError
        For shapes that differ, float or negative labels, or an `ndim` that does not fit.
    ValueError
        For thresholds outside [0, 1), or centre lines skipped with criterion `cldice`.

    Notes
    -----
    With one side empty all shares are 0. Shares of an image without true and without counted
    predicted instances, shares of a subset without instances, and boundary scores without any true
    instance, do not exist: they are NaN, and averages leave them out.

    References
    ----------
    .. [1] Kirillov et al., Panoptic segmentation, CVPR 2019, eq. 1,
       https://doi.org/10.1109/CVPR.2019.00963

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2]])
    >>> prediction = np.array([[5, 5, 5, 0, 0, 0]])
    >>> scores = score_instances(truth, prediction, ndim=2)
    >>> at = scores["confusion_matrix"]["th_0_7"]
    >>> at["AP_TP"], at["AP_FP"], at["AP_FN"], at["precision"], at["recall"], at["S"]
    (1, 0, 1, 1.0, 0.5, 0.5)
    """
    _check(thresholds, criterion, centre_lines)
    true, predicted = paired_instances(
        truth, prediction, ndim=ndim, remove_small=remove_small, run=run
    )
    lines = locate_by_lines(true, predicted, run=run) if centre_lines == "measure" else None
    by_lines = lines is not None and criterion == "cldice"
    where = lines if lines and by_lines else locate_by_voxels(true, predicted, run=run)
    wanted = with_needed(thresholds)
    matched = dict(zip(wanted, match(where.score, wanted, assignment=assignment), strict=True))
    confusion = {
        t: _confusion(t, matches, where, lines, partly=partly) for t, matches in matched.items()
    }
    averages = {
        name: float(np.mean([confusion[t][part] for t in used]))
        for name, (part, used) in AVERAGES.items()
    }
    skipped = int(math.isnan(confusion[wanted[0]]["S"]))
    general: dict[str, float | int] = {
        "Num GT": len(true),
        "Num Pred": len(predicted),
        "Num skipped": skipped,
    }
    if lines is not None:
        general |= _line_scores(true, predicted, lines)
        general["avg_f1_cov_score"] = (
            averages["avFscore"] + float(general["avg_gt_skel_coverage"])
        ) / 2
    if boundaries != "skip":
        general |= boundary_scores(true, predicted, extent=boundaries)
    chosen = {"overlapping": true.overlapping, "dim": _named(true, dim)}
    chosen |= _by_size(true, size_limits)
    overlap = None
    if any(members.any() for members in chosen.values()):
        overlap = (locate_by_voxels(true, predicted, run=run) if by_lines else where).score
    subsets = {
        name: _subset_scores(members, matched[0.5], overlap, lines)
        for name, members in chosen.items()
    }
    listed = {threshold_key(t): found for t, found in confusion.items()}
    scores = {"general": general, "subsets": subsets, "confusion_matrix": listed | averages}
    if classes is not None:
        scores["classes"] = class_scores(
            true, predicted, where.score, classes=classes, assignment=assignment
        )
    return scores


def _check(thresholds: Sequence[float], criterion: Criterion, lines: CentreLines) -> None:
    """Refuse thresholds and combinations that have no meaning."""
    if not all(0 <= t < 1 for t in thresholds):
        raise ValueError(f"thresholds must be from 0 to below 1; got {list(thresholds)}")
    if criterion == "cldice" and lines == "skip":
        raise ValueError("centre_lines must be 'measure' where criterion is 'cldice'; got 'skip'")


def paired_instances(
    truth: ArraySource,
    prediction: ArraySource,
    *,
    ndim: int,
    remove_small: int = 0,
    run: Run = run_here,
) -> tuple[Instances, Instances]:
    """Return the instances of both sides, checked; see :func:`score_instances`."""
    true = find_instances(truth, ndim=ndim, name="truth", run=run)
    predicted = find_instances(
        prediction, ndim=ndim, name="prediction", remove_small=remove_small, run=run
    )
    if true.shape != predicted.shape:
        raise DataError(
            "truth and prediction must have the same spatial shape; got"
            f" {true.shape} and {predicted.shape}. Were they made from the same image?"
        )
    return true, predicted


def _named(true: Instances, dim: Sequence[int]) -> NDArray[np.bool_]:
    """Return which instances are listed, by label or, where there are several channels, channel."""
    named = true.channel + 1 if len(true.numberings) > 1 else true.label
    return np.isin(named, np.array(dim, np.int64))


def _by_size(true: Instances, limits: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
    """Return which instances are small, medium and large; nothing without limits."""
    if not limits:
        return {}
    size = np.searchsorted(np.array(limits, np.int64), true.sizes)
    return {name: size == number for number, name in enumerate(SIZES)}


def _subset_scores(
    members: NDArray[np.bool_],
    matches: Matches,
    overlap: Pairs | None,
    lines: LineLocalisation | None,
) -> Scores:
    """Return the scores of some of the true instances; `overlap` holds all intersections."""
    count = int(members.sum())
    found = int(members[matches.truth].sum())
    scores: Scores = {
        "Num GT": count,
        "TP": found,
        "recall_0_5": found / count if count else math.nan,
        "mean_iou": math.nan,
    }
    if lines is not None:
        scores["coverage"] = math.nan
    if count and overlap is not None:
        (own,) = match(overlap, [0.0], assignment="greedy")
        scores["mean_iou"] = float(own.score[members[own.truth]].sum() / count)
        if lines is not None:
            covered = coverage(lines.lines, lines.inside, lines.best)
            scores["coverage"] = float(covered[members].mean())
    return scores


@dataclass(frozen=True)
class _Window:
    """A part of the volume in which both sides are compared."""

    true: Instances | Shown
    predicted: Instances | Shown
    place: tuple[slice, ...]
    overlaps: Literal["some", "none"]

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: of all instances those that the window shows."""
        sides = {"true": self.true, "predicted": self.predicted}
        shown = {
            name: side.shown_in(self.place) if isinstance(side, Instances) else side
            for name, side in sides.items()
        }
        return {**self.__dict__, **shown}

    def __str__(self) -> str:
        return f"voxels {self.place}"


Counted = tuple[Index, Index, Index]


def _compare(window: _Window) -> tuple[Counted, Counted, Counted, Counted]:
    """Count the voxels of a part of the volume.

    Returns those of pairs of instances; of pairs where a single true instance lies; of predictions
    outside of true instances; of true instances where other true ones lie.
    """
    true, predicted, overlap = window.true, window.predicted, window.overlaps == "some"
    together, alone = Tally(len(predicted)), Tally(len(predicted))
    outside, shared = Tally(1), Tally(1)
    truth, prediction = list(true.entries(window.place)), list(predicted.entries(window.place))
    crowd = crowding(truth, window.place)
    for _, position, number in prediction:
        free = number[crowd[position] == 0]
        outside.add(free, np.zeros_like(free))
    for _, position, number in truth if overlap else ():
        crowded = number[crowd[position] > 1]
        shared.add(crowded, np.zeros_like(crowded))
    scratch = np.full(len(crowd), -1, np.int64)
    for (_, position, first), (_, place, number) in product(truth, prediction):
        scratch[place] = number
        second = scratch[position]
        scratch[place] = -1
        both = second >= 0
        together.add(first[both], second[both])
        if overlap:
            both &= crowd[position] == 1
            alone.add(first[both], second[both])
    return together.counts(), alone.counts(), outside.counts(), shared.counts()


def locate_by_voxels(true: Instances, predicted: Instances, *, run: Run = run_here) -> Localisation:
    """Compare every pair of instances that share voxels; the score is intersection over union."""
    shape = (len(true), len(predicted))
    together, alone = Tally(len(predicted)), Tally(len(predicted))
    outside, shared = Tally(1), Tally(1)
    overlap = bool(true.overlapping.any())
    words: Literal["some", "none"] = "some" if overlap else "none"
    tasks = [_Window(true, predicted, place, words) for place in windows(true)]
    for counted in run(_compare, tasks, "compare"):
        for tally, part in zip((together, alone, outside, shared), counted, strict=True):
            tally.merge(part)
    own_sizes = true.sizes.copy()
    crowded, _, lost = shared.counts()
    own_sizes[crowded] -= lost
    first, second, count = together.counts()
    size, other_size = true.sizes[first], predicted.sizes[second]
    recall = Pairs(first, second, count / size, shape)
    own_recall = recall
    if overlap:
        own_first, own_second, own = alone.counts()
        own_recall = Pairs(own_first, own_second, own / own_sizes[own_first], shape)
    free, _, left = outside.counts()
    background = np.zeros(len(predicted))
    background[free] = left / predicted.sizes[free]
    return Localisation(
        recall.with_values(count / (size + other_size - count)),
        recall,
        own_recall,
        best_truth(recall.with_values(count / other_size), background),
    )


def locate_by_lines(
    true: Instances, predicted: Instances, *, run: Run = run_here
) -> LineLocalisation:
    """Compare every pair of instances by their centre lines; the score is clDice."""
    lines, predicted_lines = thin(true, run=run), thin(predicted, run=run)
    inside, inside_truth = hits(lines, predicted), hits(predicted_lines, true)
    recall = share_inside(lines, inside)
    own_recall = recall
    if true.overlapping.any():
        own_recall = share_inside(lines, inside, depth(lines, hits(lines, true)) < 2)
    precision = transposed(share_inside(predicted_lines, inside_truth))
    free = predicted_lines.instance[depth(predicted_lines, inside_truth) == 0]
    background = np.bincount(free, minlength=len(predicted)) / np.maximum(predicted_lines.sizes, 1)
    return LineLocalisation(
        centre_line_dice(precision, recall),
        recall,
        own_recall,
        best_truth(precision, background),
        lines,
        inside,
    )


def _line_scores(
    true: Instances, predicted: Instances, lines: LineLocalisation
) -> dict[str, float | int]:
    """Return coverage, false splits and false merges of the centre lines."""
    covered = coverage(lines.lines, lines.inside, lines.best)
    overlaps = bool(true.overlapping.any() or predicted.overlapping.any())
    splits, merges = splits_and_merges(
        lines.lines, lines.inside, lines.recall, overlaps="some" if overlaps else "none"
    )
    without = 0.0 if len(predicted) else math.nan
    return {
        "avg_gt_skel_coverage": float(covered.mean()) if len(true) else without,
        "FS": splits,
        "FM": merges,
    }


def _confusion(
    threshold: float,
    matches: Matches,
    where: Localisation,
    lines: LineLocalisation | None,
    *,
    partly: bool,
) -> dict[str, float | int]:
    """Return counts and shares at one threshold."""
    n_true, n_predicted = where.score.shape
    unmatched = np.ones(n_predicted, bool)
    unmatched[matches.prediction] = False
    on_instance = int((unmatched & (where.best >= 0)).sum())
    false = on_instance if partly else n_predicted - len(matches)
    found = count_ratios(len(matches), false, n_true - len(matches))
    none = math.nan if math.isnan(found["S"]) else 0.0
    mean = float(matches.score.mean()) if len(matches) else none
    found |= matched_scores(mean, found)
    found["false_split"] = on_instance
    found["false_merge"] = _beyond_one_truth(where, threshold)
    if lines is not None:
        for name, pairs in (("clDice_TP", lines.score), ("avg_tp_skel_coverage", lines.recall)):
            values = pairs.at(matches.truth, matches.prediction)
            found[name] = float(values.mean()) if len(values) else none
    return found


def merging_pairs(where: Localisation, threshold: float) -> Index:
    """Return the prediction of every pair whose true instance it covers with recall > `threshold`.

    The pair counts only where this also holds without the voxels in which true instances overlap.
    """
    own = where.own_recall.at(where.recall.truth, where.recall.prediction)
    return where.recall.prediction[(where.recall.value > threshold) & (own > threshold)]


def _beyond_one_truth(where: Localisation, threshold: float) -> int:
    """Return the number of true instances beyond the first that one prediction covers."""
    covering = merging_pairs(where, threshold)
    return len(covering) - len(np.unique(covering))
