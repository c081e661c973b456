"""The scores of one image: how well predicted instances agree with the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
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
    THRESHOLDS,
    Assignment,
    CentreLines,
    Criterion,
    threshold_key,
    with_needed,
)
from instaseg.metrics.matching import Matches, match
from instaseg.metrics.overlaps import (
    Index,
    Instances,
    Pairs,
    Values,
    Voxels,
    find_instances,
    mask_of,
    outside,
    shared_voxels,
    voxels_of,
)

Scores = dict[str, Any]


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
    voxels : Voxels
        What recall is measured on: the true instances, or their centre lines.
    """

    score: Pairs
    recall: Pairs
    own_recall: Pairs
    best: Index
    voxels: Voxels


def score_instances(
    truth: NDArray[Any],
    prediction: NDArray[Any],
    *,
    ndim: int,
    criterion: Criterion = "iou",
    assignment: Assignment = "hungarian",
    thresholds: Sequence[float] = THRESHOLDS,
    remove_small: int = 0,
    partly: bool = False,
    centre_lines: CentreLines = "measure",
) -> Scores:
    """Score predicted instances against true ones.

    Parameters
    ----------
    truth, prediction : ndarray of bool or int
        Labels ``([z,] y, x)``, or ``(n, [z,] y, x)`` with one or several instances per channel,
        independently for either side; 0 is background. Spatial shapes must agree.
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

    Returns
    -------
    dict
        Plain Python numbers, never NaN. ``general``: ``Num GT``, ``Num Pred``,
        ``avg_gt_skel_coverage`` (mean share of a true centre line covered by the predictions that
        lie mostly in that instance), ``FS`` and ``FM`` (false splits and merges, many to many),
        ``avg_f1_cov_score`` (mean of coverage and ``avFscore``). ``confusion_matrix``: for every
        threshold ``th_0_5``, ``th_0_55`` ... the counts ``AP_TP``, ``AP_FP``, ``AP_FN``;
        ``precision``, ``recall``, ``AP`` (their product), ``fscore`` = 2TP/(2TP+FP+FN), ``S`` =
        TP/(TP+FP+FN); ``false_split``, ``false_merge``; ``clDice_TP`` and
        ``avg_tp_skel_coverage`` (mean clDice and clRecall of the matches); and the averages
        ``avAP`` (0.5, 0.55 ... 0.95), ``avAP19`` and ``avFscore`` (0.1 ... 0.9), ``avS``
        (0.5 ... 0.9).

    Raises
    ------
    DataError
        For shapes that differ, float or negative labels, or an `ndim` that does not fit.
    ValueError
        For thresholds outside [0, 1), or centre lines skipped with criterion `cldice`.

    Notes
    -----
    An image without true and without counted predicted instances is a perfect one: all shares are
    1, all counts 0. With one side empty all shares are 0.

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
    true, predicted = paired_instances(truth, prediction, ndim=ndim, remove_small=remove_small)
    lines = locate_by_lines(true, predicted) if centre_lines == "measure" else None
    where = lines if lines and criterion == "cldice" else locate_by_voxels(true, predicted)
    wanted = with_needed(thresholds)
    confusion = {
        t: _confusion(t, matches, where, lines, partly=partly)
        for t, matches in zip(
            wanted, match(where.score, wanted, assignment=assignment), strict=True
        )
    }
    averages = {
        name: float(np.mean([confusion[t][part] for t in used]))
        for name, (part, used) in AVERAGES.items()
    }
    general: dict[str, float | int] = {"Num GT": len(true), "Num Pred": len(predicted)}
    if lines is not None:
        general |= _line_scores(true, predicted, lines)
        general["avg_f1_cov_score"] = (
            averages["avFscore"] + float(general["avg_gt_skel_coverage"])
        ) / 2
    listed = {threshold_key(t): found for t, found in confusion.items()}
    return {"general": general, "confusion_matrix": listed | averages}


def _check(thresholds: Sequence[float], criterion: Criterion, lines: CentreLines) -> None:
    """Refuse thresholds and combinations that have no meaning."""
    if not all(0 <= t < 1 for t in thresholds):
        raise ValueError(f"thresholds must be from 0 to below 1; got {list(thresholds)}")
    if criterion == "cldice" and lines == "skip":
        raise ValueError("centre_lines must be 'measure' where criterion is 'cldice'; got 'skip'")


def paired_instances(
    truth: NDArray[Any], prediction: NDArray[Any], *, ndim: int, remove_small: int = 0
) -> tuple[Instances, Instances]:
    """Return the instances of both sides, checked; see :func:`score_instances`."""
    true = find_instances(truth, ndim=ndim, name="truth")
    predicted = find_instances(prediction, ndim=ndim, name="prediction", remove_small=remove_small)
    if true.shape != predicted.shape:
        raise DataError(
            "truth and prediction must have the same spatial shape; got"
            f" {true.shape} and {predicted.shape}. Were they made from the same image?"
        )
    return true, predicted


def locate_by_voxels(true: Instances, predicted: Instances) -> Localisation:
    """Compare every pair of instances that share voxels; the score is intersection over union."""
    voxels = voxels_of(true)
    first, second, shared = shared_voxels(voxels, predicted)
    size, other_size = true.sizes[first], predicted.sizes[second]
    recall = Pairs(first, second, shared / size, (len(true), len(predicted)))
    background = _background_share(voxels_of(predicted), mask_of(true))
    return Localisation(
        recall.with_values(shared / (size + other_size - shared)),
        recall,
        _own_recall(recall, voxels, true, predicted),
        best_truth(recall.with_values(shared / other_size), background),
        voxels,
    )


def locate_by_lines(true: Instances, predicted: Instances) -> Localisation:
    """Compare every pair of instances by their centre lines; the score is clDice."""
    lines, predicted_lines = thin(true), thin(predicted)
    recall = share_inside(lines, predicted)
    precision = transposed(share_inside(predicted_lines, true))
    return Localisation(
        centre_line_dice(precision, recall),
        recall,
        _own_recall(recall, lines, true, predicted),
        best_truth(precision, _background_share(predicted_lines, mask_of(true))),
        lines,
    )


def _own_recall(recall: Pairs, voxels: Voxels, true: Instances, predicted: Instances) -> Pairs:
    """Return the recall without the voxels where true instances overlap."""
    overlap = mask_of(true, at_least=2)
    return share_inside(outside(voxels, overlap), predicted) if overlap.any() else recall


def _background_share(voxels: Voxels, foreground: NDArray[np.bool_]) -> Values:
    """Return the share of every instance's voxels that lie outside `foreground`."""
    left = outside(voxels, foreground)
    return left.sizes / np.maximum(voxels.sizes, 1)


def _line_scores(
    true: Instances, predicted: Instances, lines: Localisation
) -> dict[str, float | int]:
    """Return coverage, false splits and false merges of the centre lines."""
    covered = coverage(lines.voxels, predicted, lines.best)
    splits, merges = splits_and_merges(true, predicted, lines.voxels, lines.recall)
    both_empty = float(len(true) == 0 and len(predicted) == 0)
    return {
        "avg_gt_skel_coverage": float(covered.mean()) if len(true) else both_empty,
        "FS": splits,
        "FM": merges,
    }


def _confusion(
    threshold: float,
    matches: Matches,
    where: Localisation,
    lines: Localisation | None,
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
    found["false_split"] = on_instance
    found["false_merge"] = _beyond_one_truth(where, threshold)
    if lines is not None:
        empty = float(found["S"] == 1 and len(matches) == 0)
        for name, pairs in (("clDice_TP", lines.score), ("avg_tp_skel_coverage", lines.recall)):
            values = pairs.at(matches.truth, matches.prediction)
            found[name] = float(values.mean()) if len(values) else empty
    return found


def count_ratios(true_positive: int, false_positive: int, false_negative: int) -> Scores:
    """Return the counts with precision, recall, AP, fscore and S.

    Notes
    -----
    A share of nothing is 0, except where there was nothing to find and nothing was found: then all
    are 1.
    """
    total = true_positive + false_positive + false_negative

    def share(part: int, whole: int) -> float:
        return part / whole if whole else float(total == 0)

    precision = share(true_positive, true_positive + false_positive)
    recall = share(true_positive, true_positive + false_negative)
    return {
        "AP_TP": true_positive,
        "AP_FP": false_positive,
        "AP_FN": false_negative,
        "precision": precision,
        "recall": recall,
        "AP": precision * recall,
        "fscore": share(2 * true_positive, total + true_positive),
        "S": share(true_positive, total),
    }


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
