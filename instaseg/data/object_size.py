"""Images brought to a common size of their objects.

The diameter of an object is that of the disc (or ball) with as many voxels; that of an image is the
median of its objects. An image of diameter ``d`` is resized by ``target / d``. Objects are
instances, or where classes are learnt, connected regions of classes above 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import local_labels
from instaseg.data.classes import ClassMap
from instaseg.data.config import ObjectSizeSettings
from instaseg.data.layers import class_image
from instaseg.io.arrays import Reader, slabs
from instaseg.io.samples import Sample

logger = logging.getLogger(__name__)

Objects = Literal["instances", "regions"]
"""What is measured: labelled instances, or connected regions of classes above 0."""

LEAST_DIAMETER = 2.0
"""Diameter in voxels below which something is not counted: it is debris."""


def diameters(
    labels: Reader | NDArray[Any],
    settings: ObjectSizeSettings,
    *,
    ndim: int,
    objects: Objects = "instances",
) -> NDArray[np.float64]:
    """Return the diameters of objects in voxels, in no particular order.

    Parameters
    ----------
    labels : Reader or ndarray
        ``([z,] y, x)``, or ``(n, [z,] y, x)`` with one channel per instance; read slab by slab, of
        16 million voxels at most, in each of which regions are regions of their own.
    settings : ObjectSizeSettings
        Which axes count: in the plane, an instance in a volume is as large as its largest section.
    ndim : int
        Spatial axes.
    objects : {"instances", "regions"}
        Whether `labels` are of instances or of classes.
    """
    solid = settings.axes == "all" and ndim == 3
    channels = len(labels.shape) > ndim
    ids, counts = [], []
    for labelled, number in _counts(labels, ndim, objects, sections=ndim == 3 and not solid):
        ids.append(labelled)
        counts.append(number)
    if not ids:
        return np.zeros(0)
    names, place = np.unique(np.concatenate(ids), return_inverse=True)
    sizes = np.zeros(len(names))
    combine = np.add if solid or ndim == 2 else np.maximum
    combine.at(sizes, place, np.concatenate(counts))
    sizes = sizes[(sizes > 0) & ((names != 0) | channels)]
    found: NDArray[np.float64] = np.cbrt(6 * sizes / np.pi) if solid else 2 * np.sqrt(sizes / np.pi)
    return found


def _counts(
    labels: Reader | NDArray[Any], ndim: int, objects: Objects, *, sections: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield labels (or numbers of channels) and their voxels, by slab, or by section of it."""
    space = tuple(labels.shape[len(labels.shape) - ndim :])
    before = 0
    for index in slabs(space):
        if len(labels.shape) == ndim:
            block = labels[index]
            for part in block if sections else (block,):
                found, number = np.unique(
                    part if objects == "instances" else local_labels(part > 0), return_counts=True
                )
                yield np.where(found > 0, found.astype(np.int64) + before, 0), number
                before += int(found[-1]) if objects == "regions" else 0
            continue
        for channel in range(labels.shape[0]):
            block = labels[(slice(channel, channel + 1), *index)][0] != 0
            for part in block if sections else (block,):
                yield np.array([channel]), np.array([np.count_nonzero(part)])


def median_diameter(
    labels: Reader | NDArray[Any],
    settings: ObjectSizeSettings,
    *,
    ndim: int,
    objects: Objects = "instances",
) -> float | None:
    """Return the median diameter of an image's objects in voxels, None where it shows none."""
    found = diameters(labels, settings, ndim=ndim, objects=objects)
    found = found[found >= LEAST_DIAMETER]
    return float(np.median(found)) if found.size else None


def resized(sample: Sample, diameter: float, settings: ObjectSizeSettings) -> Sample:
    """Return a sample whose objects of some diameter have the target's, when it is opened.

    Parameters
    ----------
    sample : Sample
        At its own size.
    diameter : float
        In voxels of the sample as it is stored.
    settings : ObjectSizeSettings
        Target, axes that are resized, and by how much at most.
    """
    assert settings.target != "none", "ask before"
    factor = settings.target / diameter
    factor = min(max(factor, 1 / settings.max_factor), settings.max_factor)
    shape = sample.open_raw().shape[1:]
    flat = sample.ndim - 2 if settings.axes == "plane" else 0
    return sample.resized(
        tuple(n if axis < flat else max(1, round(n * factor)) for axis, n in enumerate(shape))
    )


@dataclass(frozen=True)
class MeasuredSamples:
    """Samples with labels, resized by them.

    Parameters
    ----------
    samples : tuple of Sample
        In the order in which they were given.
    diameter : float
        Median of the samples' diameters in voxels, before they were resized.
    """

    samples: tuple[Sample, ...]
    diameter: float


def resized_by_labels(
    samples: Sequence[Sample],
    settings: ObjectSizeSettings,
    *,
    class_map: ClassMap | None = None,
    typical: float | None = None,
) -> MeasuredSamples:
    """Return samples resized by what their labels show; labels are read once.

    Parameters
    ----------
    samples : sequence of Sample
        With labels.
    settings : ObjectSizeSettings
        With a target.
    class_map : ClassMap, optional
        What labels mean where they are classes.
    typical : float, optional
        Diameter that counts for samples without instances; by default the median of the others.

    Raises
    ------
    DataError
        If an array is missing or damaged.
    """
    found = [_diameter(sample, settings, class_map) for sample in samples]
    known = [diameter for diameter in found if diameter is not None]
    assert settings.target != "none", "ask before"
    middle = float(np.median(known)) if known else settings.target
    otherwise = middle if typical is None else typical
    if known:
        logger.info(
            "objects of %.1f voxels (median of images, %.1f to %.1f) are resized to %.1f",
            *(middle, min(known), max(known), settings.target),
        )
    sized = (
        resized(sample, otherwise if diameter is None else diameter, settings)
        for sample, diameter in zip(samples, found, strict=True)
    )
    return MeasuredSamples(tuple(sized), middle)


def _diameter(
    sample: Sample, settings: ObjectSizeSettings, class_map: ClassMap | None
) -> float | None:
    labels = sample.open_labels()
    if labels is None:
        return None
    if class_map is None:
        return median_diameter(labels, settings, ndim=sample.ndim)
    classes = class_image(sample, labels, class_map)
    return median_diameter(classes, settings, ndim=sample.ndim, objects="regions")
