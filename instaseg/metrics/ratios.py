"""Shares made of counts, and means that leave out what does not exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Scores = dict[str, Any]


def matched_scores(mean: float, ratios: Scores) -> Scores:
    """Return the mean score of the matches, per true instance, and the panoptic quality.

    Parameters
    ----------
    mean : float
        Mean score of the matches; 0 without any.
    ratios : dict
        From :func:`count_ratios`.
    """
    return {
        "mean_matched_score": mean,
        "mean_true_score": mean * ratios["recall"],
        "panoptic_quality": mean * ratios["fscore"],
    }


def count_ratios(true_positive: int, false_positive: int, false_negative: int) -> Scores:
    """Return the counts with precision, recall, AP, fscore and S.

    Notes
    -----
    A share of nothing is 0, except where there was nothing to find and nothing was found: then all
    are NaN.
    """
    total = true_positive + false_positive + false_negative

    def share(part: int, whole: int) -> float:
        none = 0.0 if total else math.nan
        return part / whole if whole else none

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


def known_mean(values: Sequence[float]) -> float:
    """Return the mean of the values that exist; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float:
    """Return the weighted mean; without any weight the value of a sample that has one, or NaN."""
    counting = np.array(weights) > 0
    if not counting.any():
        return known_mean(values)
    return float(np.average(np.array(values)[counting], weights=np.array(weights)[counting]))
