"""Predictions compared with the truth voxel by voxel, for the quality of any method's heads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RATIOS = ("precision", "recall", "fscore", "IoU")
"""Names of the scores of :func:`ratios`."""


def ratios(hits: int, wrong: int, missed: int) -> dict[str, float]:
    """Return precision, recall, F-score and IoU of counted voxels; nothing on both sides is 1.

    Examples
    --------
    >>> ratios(2, 1, 1)["IoU"], ratios(0, 0, 0)["IoU"], ratios(0, 0, 3)["precision"]
    (0.5, 1.0, 0.0)
    """
    if hits + wrong + missed == 0:
        return dict.fromkeys(RATIOS, 1.0)
    return {
        "precision": hits / max(hits + wrong, 1),
        "recall": hits / max(hits + missed, 1),
        "fscore": 2 * hits / (2 * hits + wrong + missed),
        "IoU": hits / (hits + wrong + missed),
    }


def compare(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many voxels are in both, only in `predicted`, and only in `true`."""
    both, found, wanted = (int(np.count_nonzero(a)) for a in (predicted & true, predicted, true))
    return np.array([both, found - both, wanted - both], np.int64)


def instance_channels(truth: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Return labels or instance channels as channels ``(n, [z,] y, x)``."""
    return truth if truth.ndim == ndim + 1 else truth[np.newaxis]
