"""Intensities of images brought to a common range, the same in training and prediction.

A normalised value is ``(value - offset) * factor``, with one offset and factor per channel. The
numbers come from the training data as a whole (scope ``dataset``; stored with the checkpoint) or
from each whole image (scope ``sample``), never from a crop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.data.config import NormalizationSettings
from instaseg.io.arrays import Reader, slabs
from instaseg.io.samples import Sample

Values = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Distinct values in ascending order, and how often each occurs."""

_MOST_VALUES = 2**24


@dataclass(frozen=True)
class Statistics:
    """Offset and factor per channel; empty where each image is measured by itself.

    Parameters
    ----------
    offset, factor : tuple of float
        A normalised value is ``(value - offset) * factor``.
    """

    offset: tuple[float, ...] = ()
    factor: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain lists, for a checkpoint."""
        return {"offset": list(self.offset), "factor": list(self.factor)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[float]]) -> Statistics:
        """Return what :meth:`to_dict` was called on."""
        return cls(
            tuple(float(v) for v in values["offset"]), tuple(float(v) for v in values["factor"])
        )

    def apply(self, block: NDArray[Any]) -> NDArray[np.float32]:
        """Return a block ``(c, [z,] y, x)`` normalised; `block` is not changed."""
        if not self.offset:
            raise ValueError("statistics are empty; get those of the image from for_sample")
        per_channel = (-1,) + (1,) * (block.ndim - 1)
        offset = np.asarray(self.offset, dtype=np.float32).reshape(per_channel)
        factor = np.asarray(self.factor, dtype=np.float32).reshape(per_channel)
        return (block.astype(np.float32) - offset) * factor


def fit(samples: Sequence[Sample], settings: NormalizationSettings) -> Statistics:
    """Measure a training set, to be stored with the checkpoint.

    Parameters
    ----------
    samples : sequence of Sample
        The training data.
    settings : NormalizationSettings
        Kind and scope.

    Returns
    -------
    Statistics
        Of all images together, each voxel counting once; empty for scope ``sample``.

    Notes
    -----
    Percentiles of 8 and 16 bit images are exact. Of others, and of more than 16 million voxels of
    one image, an evenly spaced selection of that many is measured.
    """
    if settings.scope == "sample":
        return Statistics()
    readers = [sample.resized(None).open_raw() for sample in samples]
    channels = samples[0].channels
    return _measure([[_values(r, c) for r in readers] for c in range(channels)], settings)


def for_sample(
    sample: Sample, settings: NormalizationSettings, statistics: Statistics
) -> Statistics:
    """Return what one image is normalised with: `statistics`, or its own where these are empty."""
    if statistics.offset:
        return statistics
    reader = sample.resized(None).open_raw()
    return _measure([[_values(reader, c)] for c in range(sample.channels)], settings)


def normalize(
    raw: NDArray[Any], settings: NormalizationSettings, statistics: Statistics
) -> NDArray[np.float32]:
    """Return a whole image normalised.

    Parameters
    ----------
    raw : ndarray
        The image, ``(c, [z,] y, x)``, of any real type; not changed.
    settings : NormalizationSettings
        Kind and scope.
    statistics : Statistics
        From :func:`fit`, or from a checkpoint.

    Returns
    -------
    ndarray of float32
        Same shape. A constant image becomes 0.

    Examples
    --------
    >>> image = np.array([[[0, 64, 128]]], dtype=np.uint8)
    >>> normalize(image, NormalizationSettings(kind="min_max"), Statistics())
    array([[[0. , 0.5, 1. ]]], dtype=float32)
    """
    if statistics.offset:
        return statistics.apply(raw)
    return _measure([[_values(raw, c)] for c in range(raw.shape[0])], settings).apply(raw)


def _measure(channels: Iterable[Sequence[Values]], settings: NormalizationSettings) -> Statistics:
    """Return offset and factor from the values of each channel, pooled over images."""
    pairs = [_offset_and_factor(_pool(images), settings) for images in channels]
    return Statistics(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))


def _values(image: Reader | NDArray[Any], channel: int) -> Values:
    """Return the finite values of one channel and how often they occur, read slab by slab."""
    shape: tuple[int, ...] = tuple(image.shape)
    if np.issubdtype(image.dtype, np.integer) and image.dtype.itemsize <= 2:
        lowest = int(np.iinfo(image.dtype).min)
        counts = np.zeros(2 ** (8 * image.dtype.itemsize), dtype=np.int64)
        for index in slabs(shape[1:]):
            block = image[(slice(channel, channel + 1), *index)]
            counts += np.bincount(block.ravel().astype(np.int64) - lowest, minlength=counts.size)
        present = np.flatnonzero(counts)
        return (present + lowest).astype(np.float64), counts[present]
    step = max(1, -(-int(np.prod(shape[1:])) // _MOST_VALUES))
    parts = [
        np.asarray(image[(slice(channel, channel + 1), *index)]).ravel()[::step]
        for index in slabs(shape[1:])
    ]
    values = np.concatenate(parts).astype(np.float64)
    distinct, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    return distinct, counts.astype(np.int64)


def _pool(images: Sequence[Values]) -> Values:
    """Return the values of several images as those of one."""
    values = np.concatenate([image[0] for image in images])
    counts = np.concatenate([image[1] for image in images])
    order = np.argsort(values, kind="stable")
    return values[order], counts[order]


def _offset_and_factor(pooled: Values, settings: NormalizationSettings) -> tuple[float, float]:
    """Return offset and factor of one channel; a channel without contrast gets factor 1."""
    values, counts = pooled
    if settings.kind == "none" or values.size == 0:
        return 0.0, 1.0
    if settings.kind == "mean_std":
        mean = float(np.average(values, weights=counts))
        spread = float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))
        return mean, 1.0 / spread if spread > 0 else 1.0
    if settings.kind == "min_max":
        low, high = float(values[0]), float(values[-1])
    else:
        low, high = (_percentile(values, counts, q) for q in (settings.lower, settings.upper))
        if high <= low:
            # A few bright spots on an even background: the percentiles see only background.
            low, high = float(values[0]), float(values[-1])
    return low, 1.0 / (high - low) if high > low else 1.0


def _percentile(values: NDArray[np.float64], counts: NDArray[np.int64], percentile: float) -> float:
    """Return a percentile as ``numpy.percentile`` does (linear), from values and their counts."""
    ends = np.cumsum(counts)
    position = percentile / 100 * (int(ends[-1]) - 1)
    below, above = np.floor(position), np.ceil(position)
    low, high = values[np.searchsorted(ends, [below, above], side="right")]
    return float(low + (high - low) * (position - below))
