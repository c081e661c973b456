"""How well predictions agree with the truth before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.methods.deep_watershed.decoding import Evidence
from instaseg.methods.deep_watershed.targets import Targets

QUALITY = ("foreground.IoU", "directions.cosine", "depth.accuracy")


def quality(
    evidence: Evidence, truth: Targets, edges: Sequence[float], mask: NDArray[Any] | None
) -> dict[str, float]:
    """Return scores by dotted name, best when highest; those without any voxel are left out.

    Parameters
    ----------
    evidence : Evidence
        Predictions.
    truth : Targets
        Of the same image.
    edges : sequence of float
        Ascending depths between levels.
    mask : ndarray, ([z,] y, x), optional
        Not 0 where labels are complete.

    Returns
    -------
    dict
        ``foreground.IoU``: of the voxels with probability above one half; ``directions.cosine``:
        mean over the voxels of instances that have one; ``depth.accuracy``: share of the voxels of
        instances whose predicted depth lies in the true level.
    """
    known = np.ones(truth.depth.shape, bool) if mask is None else mask != 0
    inside = truth.classes > 0
    found = evidence.foreground > 0.5
    scores = {}
    either = ((found | inside) & known).sum()
    if either:
        scores["foreground.IoU"] = float((found & inside & known).sum() / either)
    directed = inside & (truth.directions != 0).any(axis=0)
    if evidence.directions is not None and directed.any():
        vectors = evidence.directions.astype(np.float32)[:, directed]
        length = np.maximum(np.sqrt((vectors**2).sum(axis=0)), 1e-6)
        cosine = (vectors * truth.directions[:, directed]).sum(axis=0) / length
        scores["directions.cosine"] = float(cosine.mean())
    if inside.any():
        # halfway between two edges the deeper level is the likelier one
        reached = np.concatenate([[0], edges])
        middles = (reached[1:] + reached[:-1]) / 2
        levels = np.searchsorted(middles, evidence.depth[inside])
        scores["depth.accuracy"] = float((levels == truth.levels[inside]).mean())
    return scores
