"""What the network learns to predict: which voxels around each voxel share its instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.geometry import partners
from instaseg.methods.patches.offsets import drop_flat_axis, window


def patch_targets(
    labels: NDArray[Any], patch_shape: Sequence[int], *, ndim: int | None = None
) -> NDArray[np.bool_]:
    """Return the patch of every voxel.

    Parameters
    ----------
    labels : ([z,] y, x) integer or bool, or (n, [z,] y, x)
        Labelled instances, 0 is background; or one channel per instance, 0 outside it, where
        instances overlap.
    patch_shape : sequence of int
        Odd sides of the patch in voxels, two or three.
    ndim : {2, 3}, optional
        Number of spatial axes; the number of sides of `patch_shape` where left out. An array with
        one axis more has instance channels.

    Returns
    -------
    (K, [z,] y, x) bool
        True where the voxel at an offset (raster order) has the same instance as the centre; False
        where the centre is background or belongs to more than one instance, and outside the image.

    Raises
    ------
    DataError
        If sides are even, or `labels` has neither as many axes as `patch_shape` nor one more, or is
        not of integers.

    Notes
    -----
    ``target[o](p) = L(p + o) == L(p) and L(p) > 0``. Units: voxels.

    Examples
    --------
    >>> patch_targets(np.array([[1, 1, 2, 0]]), (1, 3))[:, 0].astype(int)
    array([[0, 1, 0, 0],
           [1, 1, 1, 0],
           [1, 0, 0, 0]])
    """
    labels = np.asarray(labels)
    spatial = ndim or (2 if labels.ndim == 2 else len(patch_shape))
    shape = drop_flat_axis(patch_shape, spatial)
    patch = window(shape)
    if labels.dtype.kind not in "iub":
        raise DataError(
            f"labels must be integers, 0 for background; got {labels.dtype}: convert them with "
            "astype(int) if they hold whole numbers"
        )
    if len(shape) != spatial or labels.ndim not in (spatial, spatial + 1):
        raise DataError(
            f"labels must have the {spatial} axes of patch_shape {tuple(shape)}, or one more for "
            f"instance channels; got shape {labels.shape}"
        )
    offsets = patch.offsets()[:, 3 - spatial :]
    if labels.ndim == spatial:
        return _of_labels(labels, offsets)
    return _of_instances(labels != 0, offsets)


def _of_labels(labels: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    target = np.zeros((len(offsets), *labels.shape), dtype=bool)
    foreground = labels > 0
    for k, offset in enumerate(offsets):
        here, there = partners(labels.shape, offset)
        target[k][here] = (labels[here] == labels[there]) & foreground[here]
    return target


def _of_instances(instances: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the patches of voxels with exactly one instance: all voxels of that instance."""
    shape = instances.shape[1:]
    target = np.zeros((len(offsets), *shape), dtype=bool)
    alone = instances & (np.count_nonzero(instances, axis=0) == 1)
    for k, offset in enumerate(offsets):
        here, there = partners(shape, offset)
        for single, whole in zip(alone, instances, strict=True):
            target[k][here] |= single[here] & whole[there]
    return target
