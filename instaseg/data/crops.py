"""Boxes cut out of samples, wherever they lie: outside, an image is mirrored.

Positions are voxels of the sample; a box may begin at negative ones::

      mirror | image .............. | mirror
        [ crop of the image     )
             [ crop of the labels )
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.data.config import SamplingSettings
from instaseg.data.layers import OneLayer, PackedLayers, pack
from instaseg.data.normalization import Statistics
from instaseg.geometry import Box, reflected_indices, whole
from instaseg.io.arrays import Reader, slabs
from instaseg.io.samples import Sample

TRIES = 20
_MOST_FOREGROUND = 2**22
_MOST_OF_SLAB = 2**18


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


def separate_mirrored(
    labels: NDArray[np.int32], inside: Box, *, above: int | None = None
) -> NDArray[np.int32]:
    """Give mirrored copies of instances that do not touch the original an id of their own.

    Otherwise an instance close to the border and its mirror image would count as one.

    Parameters
    ----------
    labels : ndarray of int32
        A crop that is partly mirrored; not changed.
    inside : Box
        Its part that lies in the image.
    above : int, optional
        New ids begin above this; by default above the greatest in `labels`.

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
    ids = np.cumsum(new).astype(np.int32) + (labels.max() if above is None else above)
    return np.where(new[components], ids[components], labels)


def _everything(array: Reader | NDArray[Any]) -> tuple[slice, ...]:
    """Return the index of all of an array."""
    return tuple(slice(0, n) for n in array.shape)


@dataclass(frozen=True)
class CropImage:
    """A sample that crops are cut from, in memory or on disk.

    Parameters
    ----------
    raw, labels, mask : ndarray or Reader
        Image ``(c, [z,] y, x)``, layers of labels ``(l, [z,] y, x)``, mask ``([z,] y, x)``. In no
        layer do instances overlap; ids are unique over all of them.
    statistics : Statistics
        What the image is normalised with.
    resolution : tuple of float
        Physical size of a voxel per axis.
    num_layers : int
        Layers of a crop; those the sample lacks are empty.
    """

    raw: Reader | NDArray[Any]
    labels: Reader | NDArray[Any]
    mask: Reader | NDArray[Any] | None
    statistics: Statistics
    resolution: tuple[float, ...]
    num_layers: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the spatial axes."""
        return tuple(self.labels.shape[1:])

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        arrays = [a for a in (self.raw, self.labels, self.mask) if a is not None]
        return sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays)

    def in_memory(self) -> CropImage:
        """Return the same with all arrays read.

        Raises
        ------
        DataError
            If one is damaged.
        """
        return replace(
            self,
            raw=self.raw[_everything(self.raw)],
            labels=self.labels[_everything(self.labels)],
            mask=None if self.mask is None else self.mask[_everything(self.mask)],
        )

    def crop_raw(self, box: Box) -> NDArray[np.float32]:
        """Return the normalised image in a box, ``(c, *box.shape)``."""
        return self.statistics.apply(read_box(self.raw, box))

    def crop_labels(self, box: Box) -> NDArray[np.int32]:
        """Return the layers in a box, ``(num_layers, *box.shape)``; ids are only good within it."""
        labels = read_box(self.labels, box)
        if labels.dtype.itemsize > 4:
            labels = fastremap.renumber(labels)[0]
        if len(labels) == self.num_layers:
            layers = labels.astype(np.int32)
        else:
            layers = np.zeros((self.num_layers, *box.shape), dtype=np.int32)
            layers[: len(labels)] = labels
        inside = box.intersect(whole(self.shape))
        if inside == box or not all(inside.shape):
            return layers
        inside = inside.shift(tuple(-b for b in box.begin))
        for layer in layers[: len(labels)]:
            layer[:] = separate_mirrored(layer, inside, above=int(layers.max()))
        return layers

    def crop_mask(self, box: Box) -> NDArray[np.uint8]:
        """Return 1 where labels are complete, in a box."""
        if self.mask is None:
            return np.ones(box.shape, dtype=np.uint8)
        complete: NDArray[np.bool_] = read_box(self.mask, box) != 0
        return complete.astype(np.uint8)


def open_crop_image(sample: Sample, statistics: Statistics) -> CropImage:
    """Return a sample ready for cropping from disk; instance channels are read once, to pack them.

    Raises
    ------
    DataError
        If an array is missing or damaged.
    """
    truth = sample.open_labels()
    if truth is None:
        raise ValueError(f"sample {sample.name} has no labels")
    labels = PackedLayers(truth, pack(truth)) if sample.truth == "instances" else OneLayer(truth)
    return CropImage(
        raw=sample.open_raw(),
        labels=labels,
        mask=sample.open_mask(),
        statistics=statistics,
        resolution=sample.resolution,
        num_layers=labels.shape[0],
    )


class VoxelIndex:
    """Voxels in groups, to draw from.

    Parameters
    ----------
    parts : iterable of (ndarray, ndarray)
        Positions in the flat array, and the group of each, part by part.
    shape : tuple of int
        Shape of the array.
    """

    def __init__(
        self, parts: Iterable[tuple[NDArray[np.intp], NDArray[Any]]], shape: tuple[int, ...]
    ) -> None:
        found = list(parts)
        groups = np.concatenate([g for _, g in found]) if found else np.zeros(0, dtype=np.intp)
        order = np.argsort(groups, kind="stable")
        groups = groups[order]
        self._shape = shape
        self._positions = np.concatenate([p for p, _ in found])[order] if found else groups
        changes = np.flatnonzero(groups[1:] != groups[:-1]) + 1
        self._starts = np.r_[0, changes][: groups.size].astype(np.intp)
        self._ends = np.r_[self._starts[1:], groups.size]
        self.groups: int = len(self._starts)

    def draw(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Return a voxel: each group is as likely, then each of its voxels."""
        group = int(rng.integers(self.groups))
        position = rng.integers(self._starts[group], self._ends[group])
        return tuple(int(i) for i in np.unravel_index(self._positions[position], self._shape))


def foreground_index(labels: Reader | NDArray[Any]) -> VoxelIndex:
    """Return the voxels of every instance of one sample.

    Parameters
    ----------
    labels : Reader or ndarray
        Layers ``(l, [z,] y, x)``; read slab by slab. Of more than 4 million foreground voxels an
        evenly spaced selection is kept.
    """
    shape = tuple(labels.shape[1:])
    step = max(1, math.prod(shape) // _MOST_FOREGROUND)

    def parts() -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        for layer in range(labels.shape[0]):
            for index in slabs(shape):
                part = np.asarray(labels[(slice(layer, layer + 1), *index)]).ravel()
                found = np.flatnonzero(part)[::step]
                yield found + index[0].start * math.prod(shape[1:]), part[found]

    return VoxelIndex(parts(), shape)


def overlap_index(labels: Reader | NDArray[Any]) -> VoxelIndex:
    """Return the voxels where instances overlap, one group for each pair of instances.

    Parameters
    ----------
    labels : Reader or ndarray
        Layers ``(l, [z,] y, x)``; read slab by slab. Of more than 262144 such voxels in a slab of
        16 million an evenly spaced selection is kept, and at least one of each pair.
    """
    shape = tuple(labels.shape[1:])

    def parts() -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        for index in slabs(shape) if labels.shape[0] > 1 else ():
            offset = index[0].start * math.prod(shape[1:])
            layers = [
                np.asarray(labels[(slice(layer, layer + 1), *index)]).ravel()
                for layer in range(labels.shape[0])
            ]
            for first, second in itertools.combinations(layers, 2):
                found = np.flatnonzero((first != 0) & (second != 0))
                # Ids are below 2**31: a pair of them is one number.
                pairs = first[found].astype(np.int64) << 32 | second[found]
                chosen = _thinned(pairs)
                yield found[chosen] + offset, pairs[chosen]

    return VoxelIndex(parts(), shape)


def _thinned(groups: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the numbers of at most about 2**18 elements, at least one of each group."""
    step = -(-groups.size // _MOST_OF_SLAB)
    if step <= 1:
        return np.arange(groups.size)
    firsts = np.unique(groups, return_index=True)[1]
    return np.union1d(firsts, np.arange(0, groups.size, step))


class _Groups:
    """Voxels in groups, of several samples; each group of any sample is as likely."""

    def __init__(self, indices: Sequence[VoxelIndex]) -> None:
        self._indices = indices
        groups = np.array([index.groups for index in indices], dtype=float)
        self.none: bool = not groups.any()
        self._shares = groups / max(1.0, groups.sum())

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """Return the number of a sample and a voxel in it."""
        number = int(rng.choice(len(self._indices), p=self._shares))
        return number, self._indices[number].draw(rng)


class LocationSampler:
    """Draws where crops are taken: a sample, and the begin of a box in it.

    Parameters
    ----------
    images : sequence of CropImage
        What is cropped.
    settings : SamplingSettings
        Shares of random, foreground and overlap crops, least share of foreground.
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
        self._overlaps = _Groups(
            [overlap_index(image.labels) for image in images]
            if settings.probability_overlap > 0
            else []
        )
        self._foreground = settings.probability_fg
        if self._overlaps.none:
            self._foreground += settings.probability_overlap
        self._instances = _Groups(
            [foreground_index(image.labels) for image in images] if self._foreground > 0 else []
        )

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
            share = float((self._images[number].crop_labels(box) != 0).any(axis=0).mean())
            if share > most:
                best, most = candidate, share
            if share >= self._settings.min_masked:
                break
            candidate = self._draw_once(rng)
        return best

    def _draw_once(self, rng: np.random.Generator) -> tuple[int, Box]:
        """Return one box, of the random, the foreground or the overlap kind."""
        kind = rng.random()
        groups = self._instances if kind < self._foreground else self._overlaps
        if groups.none or kind >= self._foreground + self._settings.probability_overlap:
            number = int(rng.choice(len(self._images), p=self._by_voxels))
            voxel = None
        else:
            number, voxel = groups.draw(rng)
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
