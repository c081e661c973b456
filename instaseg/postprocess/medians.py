"""Median filters on predictions, whole and in parts that are read with what lies around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from instaseg.geometry import Box, Coordinate, whole
from instaseg.io.arrays import ArraySource
from instaseg.postprocess.config import MedianFilter


def filter_channels(values: NDArray[Any], filters: Sequence[MedianFilter]) -> NDArray[Any]:
    """Return every channel after some median filters, as ``scipy.ndimage.median_filter`` does them.

    Beyond its border an image is mirrored, the outermost voxel included (``mode="reflect"``).

    Parameters
    ----------
    values : ndarray, (channels, [z,] y, x)
        As a prediction is stored: float16, uint8 or another number. Not changed.
    filters : sequence of MedianFilter
        Applied one after the other.

    Returns
    -------
    ndarray
        Same shape and dtype: a median over an odd number of values is one of them.

    Examples
    --------
    >>> filter_channels(np.uint8([[[0, 9, 0, 5, 5]]]), [MedianFilter("xy", 3)]).tolist()
    [[[0, 0, 5, 5, 5]]]
    """
    # scipy does not know half precision
    wide = np.float32 if values.dtype == np.float16 else values.dtype
    filtered = np.empty_like(values)
    for channel, target in zip(values, filtered, strict=True):
        image = channel.astype(wide)
        for one in filters:
            image = median_filter(image, size=_sides(one, image.ndim), mode="reflect")
        target[...] = image
    return filtered


def reach(filters: Sequence[MedianFilter], ndim: int) -> Coordinate:
    """Return how many voxels filters look away from a voxel along each axis."""
    sides = [_sides(one, ndim) for one in filters]
    return tuple(sum(side[axis] // 2 for side in sides) for axis in range(ndim))


def filter_box(
    prediction: ArraySource, channels: slice, box: Box, filters: Sequence[MedianFilter]
) -> NDArray[Any]:
    """Return a part of a prediction after some filters, equal to that part of the whole.

    Parameters
    ----------
    prediction : ArraySource
        ``(channels, [z,] y, x)``; the part is read with what the filters need around it.
    channels : slice
        The channels of the part.
    box : Box
        Its voxels.
    filters : sequence of MedianFilter
        Applied one after the other.
    """
    ndim = len(box.shape)
    outer = box.grow(reach(filters, ndim)).intersect(whole(prediction.shape[1:]))
    filtered = filter_channels(prediction[(channels, *outer.slices)], filters)
    return filtered[(slice(None), *box.relative_to(outer).slices)]


def _sides(one: MedianFilter, ndim: int) -> Coordinate:
    """Return the box of a filter, in voxels per axis."""
    return tuple(one.size if axis in one.axes else 1 for axis in "zyx"[-ndim:])
