"""Scores of instances by class: a prediction is right where outline and class are.

True and predicted instances of one class are matched among themselves, as panoptic quality does it
(Kirillov et al., CVPR 2019, https://doi.org/10.1109/CVPR.2019.00963); the mean over classes is the
multi-class panoptic quality of nuclei data sets (Gamper et al., PanNuke, arXiv:2003.10778).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instaseg.metrics.config import CLASS_COUNTS, CLASS_MEANS, Assignment
from instaseg.metrics.matching import match
from instaseg.metrics.overlaps import Index, Instances, Pairs
from instaseg.metrics.ratios import (
    Scores,
    count_ratios,
    known_mean,
    matched_scores,
    weighted_mean,
)

ClassOf = Mapping[tuple[int, int], int]
"""Class of an instance by its channel, 0 in a label image, and its label; 0 where not known."""

THRESHOLD = 0.5


@dataclass(frozen=True)
class InstanceClasses:
    """The classes of both sides.

    Parameters
    ----------
    truth : mapping of (int, int) to int
        Class of every true instance; those of class 0, and their matches, are not counted.
    prediction : mapping of (int, int) to int, optional
        Class of every predicted instance; None where nothing tells it, as with a baseline.
    count : int
        Number of classes.
    """

    truth: ClassOf
    prediction: ClassOf | None
    count: int


def class_scores(
    true: Instances,
    predicted: Instances,
    pairs: Pairs,
    *,
    classes: InstanceClasses,
    assignment: Assignment,
) -> Scores:
    """Return the scores by class, of matches at a score above 0.5.

    Parameters
    ----------
    true, predicted : Instances
        Both sides.
    pairs : Pairs
        The score of every pair that shares something.
    classes : InstanceClasses
        What each instance is.
    assignment : {"hungarian", "greedy"}
        How instances are matched.

    Returns
    -------
    dict
        ``matched`` and ``right``: matches of whatever classes whose true class is known, and those
        of the same class; ``accuracy``, the share of these. ``mean``: ``fscore``, ``S`` and
        ``panoptic_quality`` averaged over the classes that occur on either side. For every class,
        by number as text, ``Num GT``, ``Num Pred`` and the counts and shares of its instances,
        matched among themselves. All are NaN where nothing tells the predicted classes.
    """
    if classes.prediction is None:
        return _unknown(classes.count)
    of_true, of_predicted = _numbers(true, classes.truth), _numbers(predicted, classes.prediction)
    (matches,) = match(pairs, [THRESHOLD], assignment=assignment)
    known = of_true[matches.truth] > 0
    right = known & (of_true[matches.truth] == of_predicted[matches.prediction])
    # What was found of an instance whose class nobody knows is right as far as anybody can tell.
    of_predicted[matches.prediction[~known]] = 0
    found: Scores = {
        str(one): _of_class(pairs, of_true == one, of_predicted == one, assignment)
        for one in range(1, classes.count + 1)
    }
    return _with_means({"matched": int(known.sum()), "right": int(right.sum())}, found)


def pooled_class_scores(samples: Sequence[Scores]) -> Scores:
    """Return the scores by class of many samples taken as one, from :func:`class_scores` of each.

    Samples whose predicted classes nothing tells are left out.
    """
    told = [sample for sample in samples if not math.isnan(sample["matched"])]
    if not told:
        return samples[0]
    found = {
        name: _pooled_class([sample[name] for sample in told]) for name in told[0] if name.isdigit()
    }
    counts = {name: sum(sample[name] for sample in told) for name in ("matched", "right")}
    return _with_means(counts, found)


def _numbers(instances: Instances, classes: ClassOf) -> Index:
    """Return the class of every instance, 0 where it is not known."""
    names = zip(instances.channel.tolist(), instances.label.tolist(), strict=True)
    return np.array([classes.get(name, 0) for name in names], np.int64)


def _of_class(
    pairs: Pairs, true: NDArray[np.bool_], predicted: NDArray[np.bool_], assignment: Assignment
) -> Scores:
    """Return counts and shares of the instances of one class."""
    number, other = np.cumsum(true) - 1, np.cumsum(predicted) - 1
    both = true[pairs.truth] & predicted[pairs.prediction]
    counts = int(true.sum()), int(predicted.sum())
    own = Pairs(number[pairs.truth[both]], other[pairs.prediction[both]], pairs.value[both], counts)
    (matches,) = match(own, [THRESHOLD], assignment=assignment)
    ratios = count_ratios(len(matches), counts[1] - len(matches), counts[0] - len(matches))
    none = math.nan if math.isnan(ratios["S"]) else 0.0
    mean = float(matches.score.mean()) if len(matches) else none
    return {"Num GT": counts[0], "Num Pred": counts[1], **ratios, **matched_scores(mean, ratios)}


def _pooled_class(parts: Sequence[Scores]) -> Scores:
    ratios = count_ratios(*(sum(part[name] for part in parts) for name in CLASS_COUNTS[2:]))
    matches = [part["AP_TP"] for part in parts]
    mean = weighted_mean([part["mean_matched_score"] for part in parts], matches)
    counts = {name: sum(part[name] for part in parts) for name in CLASS_COUNTS[:2]}
    return {**counts, **ratios, **matched_scores(mean, ratios)}


def _with_means(counts: Mapping[str, int], found: Mapping[str, Scores]) -> Scores:
    """Return all scores together: of matches, means over classes, and of each class."""
    occurring = [scores for scores in found.values() if not math.isnan(scores["S"])]
    mean = {name: known_mean([scores[name] for scores in occurring]) for name in CLASS_MEANS}
    accuracy = counts["right"] / counts["matched"] if counts["matched"] else math.nan
    return {**counts, "accuracy": accuracy, "mean": mean, **found}


def _unknown(count: int) -> Scores:
    """Return the same names without values."""
    blank = count_ratios(0, 0, 0)
    of_one = dict.fromkeys(("Num GT", "Num Pred", *blank), math.nan)
    of_one |= matched_scores(math.nan, of_one)
    scores: Scores = dict.fromkeys(("matched", "right", "accuracy"), math.nan)
    scores["mean"] = dict.fromkeys(CLASS_MEANS, math.nan)
    return {**scores, **{str(one): dict(of_one) for one in range(1, count + 1)}}
