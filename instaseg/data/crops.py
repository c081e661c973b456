"""Boxes cut out of samples, wherever they lie: outside, an image is mirrored.

Positions are voxels of the sample; a box may begin at negative ones::

      mirror | image .............. | mirror
        [ crop of the image     )
             [ crop of the labels )
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.data.config import SamplingSettings
from instaseg.data.normalization import Statistics
from instaseg.geometry import Box, reflected_indices
from instaseg.io.arrays import Reader, slabs
from instaseg.io.samples import Sample, read_whole

TRIES = 20
_MOST_FOREGROUND = 2**22


def read_box(image: Reader | NDArray[Any], box: Box) -> NDArray[Any]:
    """Return what an image shows in a box, mirrored where the box leaves it.

    Parameters
    ----------
    image : Reader or ndarray
        Its last axes are those of `box`; other axes are taken whole.
    box : Box
        Wanted part, in voxels.

    Returns
    -------
    ndarray
        Of the box's shape, with the leading axes of `image`; may be a view of `image`.

    Examples
    --------
    >>> read_box(np.array([5, 6, 7]), Box((-1,), (5,))).tolist()
    [6, 5, 6, 7, 6, 5]
    """
    lead = len(image.shape) - len(box.begin)
    space = image.shape[lead:]
    indices = [
        reflected_indices(b, e, n) for b, e, n in zip(box.begin, box.end, space, strict=True)
    ]
    begin = tuple(int(i.min()) for i in indices)
    inner = tuple(slice(b, int(i.max()) + 1) for b, i in zip(begin, indices, strict=True))
    part = image[(*(slice(0, n) for n in image.shape[:lead]), *inner)]
    for axis, (index, first) in enumerate(zip(indices, begin, strict=True)):
        if box.begin[axis] < 0 or box.end[axis] > space[axis]:
            part = np.take(part, index - first, axis=lead + axis)
    return np.asarray(part)


def separate_mirrored(labels: NDArray[np.int32], inside: Box) -> NDArray[np.int32]:
    """Give mirrored copies of instances that do not touch the original an id of their own.

    Otherwise an instance close to the border and its mirror image would count as one.

    Parameters
    ----------
    labels : ndarray of int32
        A crop that is partly mirrored; not changed.
    inside : Box
        Its part that lies in the image.

    Returns
    -------
    ndarray of int32
        What is connected to the inside keeps its id, other components get new ones.

    Examples
    --------
    >>> crop = np.array([[4, 0, 4, 0, 3, 3]], dtype=np.int32)  # mirrored left of the third column
    >>> separate_mirrored(crop, Box((0, 2), (1, 6))).tolist()
    [[5, 0, 4, 0, 3, 3]]
    """
    components, count = cc3d.connected_components(
        labels, connectivity=8 if labels.ndim == 2 else 26, return_N=True, out_dtype=np.uint32
    )
    new = np.ones(count + 1, dtype=bool)
    new[fastremap.unique(components[inside.slices])] = False
    new[0] = False
    ids = np.cumsum(new).astype(np.int32) + labels.max()
    return np.where(new[components], ids[components], labels)


@dataclass(frozen=True)
class CropImage:
    """A sample that crops are cut from, in memory or on disk.

    Parameters
    ----------
    raw, labels, mask : ndarray or Reader
        Image ``(c, [z,] y, x)``, labels and mask ``([z,] y, x)``.
    statistics : Statistics
        What the image is normalised with.
    resolution : tuple of float
        Physical size of a voxel per axis.
    """

    raw: Reader | NDArray[Any]
    labels: Reader | NDArray[Any]
    mask: Reader | NDArray[Any] | None
    statistics: Statistics
    resolution: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the spatial axes."""
        return tuple(self.labels.shape)

    def crop_raw(self, box: Box) -> NDArray[np.float32]:
        """Return the normalised image in a box, ``(c, *box.shape)``."""
        return self.statistics.apply(read_box(self.raw, box))

    def crop_labels(self, box: Box) -> NDArray[np.int32]:
        """Return the labels in a box; ids are only good within it."""
        labels = read_box(self.labels, box)
        if labels.dtype.itemsize > 4:
            labels = fastremap.renumber(labels)[0]
        labels = labels.astype(np.int32)
        space = Box((0,) * len(box.begin), self.shape)
        inside = box.intersect(space)
        if inside == box or not all(inside.shape):
            return labels
        return separate_mirrored(labels, inside.shift(tuple(-b for b in box.begin)))

    def crop_mask(self, box: Box) -> NDArray[np.uint8]:
        """Return 1 where labels are complete, in a box."""
        if self.mask is None:
            return np.ones(box.shape, dtype=np.uint8)
        complete: NDArray[np.bool_] = read_box(self.mask, box) != 0
        return complete.astype(np.uint8)


def open_crop_image(sample: Sample, statistics: Statistics, *, where: str) -> CropImage:
    """Return a sample ready for cropping; `where` is ``memory`` or ``disk``.

    Raises
    ------
    DataError
        If an array is missing or damaged.
    """
    raw, labels, mask = sample.open_raw(), sample.open_labels(), sample.open_mask()
    if labels is None:
        raise ValueError(f"sample {sample.name} has no labels")
    if where == "disk":
        return CropImage(raw, labels, mask, statistics, sample.resolution)
    return CropImage(
        raw=read_whole(raw),
        labels=read_whole(labels),
        mask=None if mask is None else read_whole(mask),
        statistics=statistics,
        resolution=sample.resolution,
    )


class ForegroundIndex:
    """Voxels of every instance of one sample, to draw from.

    Parameters
    ----------
    labels : Reader or ndarray
        Instance labels; read slab by slab. Of more than 4 million foreground voxels an evenly
        spaced selection is kept.
    """

    def __init__(self, labels: Reader | NDArray[Any]) -> None:
        self._shape: tuple[int, ...] = tuple(labels.shape)
        step = max(1, int(np.prod(self._shape)) // _MOST_FOREGROUND)
        positions, ids = [], []
        plane = int(np.prod(self._shape[1:]))
        for index in slabs(self._shape):
            part = np.asarray(labels[index]).ravel()
            found = np.flatnonzero(part)[::step]
            positions.append(found + index[0].start * plane)
            ids.append(part[found])
        order = np.argsort(np.concatenate(ids), kind="stable")
        self._positions: NDArray[np.intp] = np.concatenate(positions)[order]
        sorted_ids = np.concatenate(ids)[order]
        self._starts = np.flatnonzero(np.r_[True, sorted_ids[1:] != sorted_ids[:-1]])
        if sorted_ids.size == 0:
            self._starts = np.zeros(0, dtype=np.intp)
        self.instances: int = len(self._starts)
        self._ends = np.r_[self._starts[1:], sorted_ids.size]

    def draw(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Return a voxel of an instance: each instance is as likely, then each of its voxels."""
        instance = int(rng.integers(self.instances))
        position = rng.integers(self._starts[instance], self._ends[instance])
        return tuple(int(i) for i in np.unravel_index(self._positions[position], self._shape))


class LocationSampler:
    """Draws where crops are taken: a sample, and the begin of a box in it.

    Parameters
    ----------
    images : sequence of CropImage
        What is cropped.
    settings : SamplingSettings
        Shares of random and foreground crops, least share of foreground.
    shape : sequence of int
        Shape of the box, in voxels; it lies inside the sample where it fits.
    """

    def __init__(
        self, images: Sequence[CropImage], settings: SamplingSettings, shape: Sequence[int]
    ) -> None:
        self._images = images
        self._settings = settings
        self._shape = tuple(shape)
        voxels = np.array([np.prod(image.shape, dtype=float) for image in images])
        self._by_voxels = voxels / voxels.sum()
        foreground = settings.probability_fg > 0
        self._index = [ForegroundIndex(image.labels) for image in images] if foreground else []
        instances = np.array([index.instances for index in self._index], dtype=float)
        self._by_instances = instances / max(1.0, instances.sum())

    def draw(self, rng: np.random.Generator) -> tuple[int, Box]:
        """Return the number of a sample and a box in it.

        With `min_masked` the first of at most 20 boxes with enough foreground is taken, else the
        one with most.
        """
        best, most = self._draw_once(rng), -1.0
        if self._settings.min_masked == 0:
            return best
        candidate = best
        for _ in range(TRIES):
            number, box = candidate
            share = float((self._images[number].crop_labels(box) != 0).mean())
            if share > most:
                best, most = candidate, share
            if share >= self._settings.min_masked:
                break
            candidate = self._draw_once(rng)
        return best

    def _draw_once(self, rng: np.random.Generator) -> tuple[int, Box]:
        """Return one box, of the random or the foreground kind."""
        foreground = rng.random() < self._settings.probability_fg and self._by_instances.sum() > 0
        shares = self._by_instances if foreground else self._by_voxels
        number = int(rng.choice(len(self._images), p=shares))
        voxel = self._index[number].draw(rng) if foreground else None
        begin = []
        for axis, (extent, size) in enumerate(
            zip(self._images[number].shape, self._shape, strict=True)
        ):
            low, high = min(0, extent - size), max(0, extent - size)
            if voxel is not None:
                low, high = max(low, voxel[axis] - size + 1), min(high, voxel[axis])
            begin.append(int(rng.integers(low, high + 1)))
        end = tuple(b + s for b, s in zip(begin, self._shape, strict=True))
        return number, Box(tuple(begin), end)
