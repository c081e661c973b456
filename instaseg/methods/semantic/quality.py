"""Quality of probabilities themselves: overlap of the most probable class, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.io.quantise import dequantise
from instaseg.methods.semantic.config import LabelSettings
from instaseg.methods.semantic.decode import classes_of
from instaseg.metrics.classes import class_scores, count_classes

BINS = 15
"""Intervals of confidence for the calibration error."""

OVERLAPS = ("accuracy", "mean_iou", "foreground_iou", "mean_dice", "foreground_dice")


def quality_names() -> tuple[str, ...]:
    """Return the dotted names of all scores."""
    return (*(f"classes.{name}" for name in OVERLAPS), "calibration.agreement")


def quality(prediction: NDArray[Any], truth: NDArray[Any], num_classes: int) -> dict[str, float]:
    """Return all scores of one sample's prediction; those without a value are left out.

    Parameters
    ----------
    prediction : ndarray, (1, [z,] y, x) or (classes, [z,] y, x)
        As stored.
    truth : ndarray of int, ([z,] y, x)
        Classes, negative where there is none.
    num_classes : int
        With the background.
    """
    found = classes_of(prediction, LabelSettings())
    counts = count_classes(truth, found, num_classes=num_classes, spacing=(1.0,) * truth.ndim)
    general = class_scores(counts)["general"]
    known = truth >= 0
    scores = {f"classes.{name}": general[name] for name in OVERLAPS}
    if known.any():
        probability = confidence(prediction)[known]
        scores["calibration.agreement"] = 1 - calibration_error(
            probability, found[known] == truth[known]
        )
    return {name: value for name, value in scores.items() if not np.isnan(value)}


def confidence(prediction: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probability ``([z,] y, x)`` of the most probable class."""
    probability = dequantise(prediction)
    if len(probability) > 1:
        return np.asarray(probability.max(axis=0))
    return np.asarray(np.maximum(probability[0], 1 - probability[0]))


def calibration_error(probability: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: how far confidence and accuracy are apart.

    Parameters
    ----------
    probability : ndarray of float, (n,)
        Of the class that was chosen.
    right : ndarray of bool, (n,)
        Whether it is the true one.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3,
    https://arxiv.org/abs/1706.04599; with 15 intervals of equal width.

    Examples
    --------
    >>> calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1, 1, 1, 0], bool))
    0.0
    """
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    confident = np.bincount(place, weights=probability, minlength=BINS)
    correct = np.bincount(place, weights=right, minlength=BINS)
    return float(np.abs(confident - correct).sum() / len(probability))
