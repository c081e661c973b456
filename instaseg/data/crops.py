"""Boxes cut out of samples, wherever they lie: outside, an image is mirrored.

Positions are voxels of the sample; a box may begin at negative ones::

      mirror | image .............. | mirror
        [ crop of the image     )
             [ crop of the labels )
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import local_labels
from instaseg.data.classes import ClassMap
from instaseg.data.config import Beyond, SamplingSettings
from instaseg.data.layers import ClassLayer, OneLayer, PackedLayers, pack
from instaseg.data.normalization import Statistics
from instaseg.data.points import PointLayers
from instaseg.geometry import Box, reflected_indices, whole
from instaseg.io.arrays import Reader, slabs
from instaseg.io.samples import Sample

BEYOND = -1
"""Label beyond the image where nothing is known there."""

TRIES = 20
_MOST_LISTED = 2**22
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
    components = local_labels(labels)
    new = np.ones(int(components.max(initial=0)) + 1, dtype=bool)
    new[fastremap.unique(components[inside.slices])] = False
    new[0] = False
    ids = np.cumsum(new).astype(np.int32) + (labels.max() if above is None else above)
    return np.where(new[components], ids[components], labels)


def known_box(labels: NDArray[np.integer]) -> Box:
    """Return the smallest box with all voxels of a crop ``(l, [z,] y, x)`` that are not `BEYOND`.

    Examples
    --------
    >>> known_box(np.array([[[-1, 0, 3, -1]]]))
    Box(begin=(0, 1), end=(1, 3))
    """
    known = labels[0] != BEYOND
    if known.all():
        return whole(known.shape)
    places = [np.flatnonzero(known.any(axis=_others(known.ndim, a))) for a in range(known.ndim)]
    return Box(
        tuple(int(p[0]) if len(p) else 0 for p in places),
        tuple(int(p[-1]) + 1 if len(p) else 0 for p in places),
    )


def targets_inside(
    labels: NDArray[np.integer],
    context: Sequence[int],
    make: Callable[[NDArray[Any], tuple[slice, ...]], Mapping[str, NDArray[Any]]],
) -> dict[str, NDArray[Any]]:
    """Return the targets of a crop without its context, made of what lies in the image.

    Parameters
    ----------
    labels : ndarray of int, (l, [z,] y, x)
        Layers with context, `BEYOND` outside the image.
    context : sequence of int
        Voxels around the part that is wanted.
    make : callable
        Makes arrays ``(n, *part)`` by name of the known part of the labels, ``(l, *part)`` without
        a negative one, and the index of what is wanted of it.

    Returns
    -------
    dict of ndarray
        Of the crop without its context; 0 outside the image.
    """
    core, known = whole(labels.shape[1:]).grow([-c for c in context]), known_box(labels)
    inside = core.intersect(known)
    inner = inside.relative_to(known).slices
    place = (slice(None), *inside.relative_to(core).slices)
    # not negative: the borders of deformed crops are curved
    found = make(np.maximum(labels[(slice(None), *known.slices)], 0), inner)
    targets = {}
    for name, values in found.items():
        targets[name] = np.zeros((len(values), *core.shape), values.dtype)
        targets[name][place] = values[(slice(None), *inner)]
    return targets


def _others(ndim: int, axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(ndim) if a != axis)


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
    ids : {"instances", "classes"}
        What labels are: of classes there is one layer, in which voxels without a class are -1.
    beyond : {"mirrored", "unknown"}
        Labels of instances beyond the image: mirrored as the image is, or `BEYOND`.
    classes : ndarray or Reader, optional
        Classes of instances ``([z,] y, x)``, 0 where none is known.
    """

    raw: Reader | NDArray[Any]
    labels: Reader | NDArray[Any]
    mask: Reader | NDArray[Any] | None
    statistics: Statistics
    resolution: tuple[float, ...]
    num_layers: int = 1
    ids: Literal["instances", "classes"] = "instances"
    beyond: Beyond = "mirrored"
    classes: Reader | NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the spatial axes."""
        return tuple(self.labels.shape[1:])

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        arrays = [a for a in (self.raw, self.labels, self.mask, self.classes) if a is not None]
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
            classes=None if self.classes is None else self.classes[_everything(self.classes)],
        )

    def crop_raw(self, box: Box) -> NDArray[np.float32]:
        """Return the normalised image in a box, ``(c, *box.shape)``."""
        return self.statistics.apply(read_box(self.raw, box))

    def crop_labels(self, box: Box) -> NDArray[np.int32]:
        """Return the layers in a box, ``(num_layers, *box.shape)``.

        Ids of instances are only good within it; classes are the same in every box.
        """
        if self.ids == "classes":
            return read_box(self.labels, box).astype(np.int32)
        inside = box.intersect(whole(self.shape))
        if inside == box or not all(inside.shape):
            return self._layers(box)
        part = inside.relative_to(box)
        if self.beyond == "unknown":
            layers = np.full((self.num_layers, *box.shape), BEYOND, np.int32)
            layers[(slice(None), *part.slices)] = self._layers(inside)
            return layers
        layers = self._layers(box)
        for layer in layers[: self.labels.shape[0]]:
            layer[:] = separate_mirrored(layer, part, above=int(layers.max()))
        return layers

    def _layers(self, box: Box) -> NDArray[np.int32]:
        """Return the layers in a box, mirrored beyond the image."""
        labels = read_box(self.labels, box)
        if labels.dtype.itemsize > 4:
            labels = fastremap.renumber(labels)[0]
        if len(labels) == self.num_layers:
            return labels.astype(np.int32)
        layers = np.zeros((self.num_layers, *box.shape), dtype=np.int32)
        layers[: len(labels)] = labels
        return layers

    def crop_mask(self, box: Box) -> NDArray[np.uint8]:
        """Return 1 where labels are complete, in a box."""
        if self.mask is None:
            return np.ones(box.shape, dtype=np.uint8)
        complete: NDArray[np.bool_] = read_box(self.mask, box) != 0
        return complete.astype(np.uint8)

    def crop_classes(self, box: Box) -> NDArray[np.uint8]:
        """Return the classes of instances in a box, 0 where none is known, as in the background."""
        if self.classes is None:
            return np.zeros(box.shape, dtype=np.uint8)
        inside = (read_box(self.labels, box) > 0).any(axis=0)
        return np.where(inside, read_box(self.classes, box), 0).astype(np.uint8)


@dataclass(frozen=True)
class PointImage(CropImage):
    """A sample whose ground truth is points; its `labels` are :class:`PointLayers`.

    Nothing is known outside of the image: sites are not mirrored, and the mask is 0 there.
    """

    def in_memory(self) -> CropImage:
        """Return the same with image and mask read."""
        assert self.mask is not None
        raw, mask = self.raw[_everything(self.raw)], self.mask[_everything(self.mask)]
        return replace(self, raw=raw, mask=mask)

    def crop_labels(self, box: Box) -> NDArray[np.int32]:
        """Return the layers in a box, ``(4, *box.shape)``."""
        assert isinstance(self.labels, PointLayers)
        return self.labels.in_box(box)

    def crop_mask(self, box: Box) -> NDArray[np.uint8]:
        """Return 1 where sites are complete, in a box."""
        mask = np.zeros(box.shape, dtype=np.uint8)
        inside = box.intersect(whole(self.shape))
        if all(inside.shape):
            part = inside.relative_to(box).slices
            mask[part] = super().crop_mask(inside)
        return mask


def _open_point_image(sample: Sample, statistics: Statistics) -> PointImage:
    """Return a sample with points, ready for cropping from disk."""
    raw, mask = sample.open_raw(), sample.open_mask()
    layers = PointLayers(sample.read_points(), tuple(raw.shape[1:]))
    return PointImage(
        raw=raw,
        labels=layers,
        mask=np.ones(raw.shape[1:], np.uint8) if mask is None else mask,
        statistics=statistics,
        resolution=sample.resolution,
        num_layers=layers.shape[0],
    )


def open_crop_image(
    sample: Sample,
    statistics: Statistics,
    class_map: ClassMap | None = None,
    *,
    beyond: Beyond = "mirrored",
    instance_classes: int = 0,
) -> CropImage:
    """Return a sample ready for cropping from disk; instance channels are read once, to pack them.

    Parameters
    ----------
    sample : Sample
        With labels.
    statistics : Statistics
        What the image is normalised with.
    class_map : ClassMap, optional
        What labels mean where they are classes.
    beyond : {"mirrored", "unknown"}
        What labels of instances are beyond the image.
    instance_classes : int
        Classes of instances; 0 reads none.

    Raises
    ------
    DataError
        If an array is missing or damaged.
    """
    if sample.truth == "points":
        return _open_point_image(sample, statistics)
    truth = sample.open_labels()
    if truth is None:
        raise ValueError(f"sample {sample.name} has no labels")
    labels: PackedLayers | OneLayer | ClassLayer
    labels = PackedLayers(truth, pack(truth)) if sample.truth == "instances" else OneLayer(truth)
    if class_map is not None:
        labels = ClassLayer(labels, class_map)
    return CropImage(
        raw=sample.open_raw(),
        labels=labels,
        mask=sample.open_mask(),
        statistics=statistics,
        resolution=sample.resolution,
        num_layers=labels.shape[0],
        ids="instances" if class_map is None else "classes",
        beyond=beyond,
        classes=sample.open_classes() if instance_classes else None,
    )


class VoxelIndex:
    """Voxels in groups, to draw from.

    Parameters
    ----------
    parts : iterable of (ndarray, ndarray)
        Positions in the flat array, and the group of each, part by part.
    shape : tuple of int
        Shape of the array.
    step : int
        Of so many voxels about one is listed.

    Attributes
    ----------
    groups : ndarray, (g,)
        The groups there are, ascending.
    sizes : ndarray of int64, (g,)
        Voxels of each in the array, about.
    """

    def __init__(
        self,
        parts: Iterable[tuple[NDArray[np.intp], NDArray[Any]]],
        shape: tuple[int, ...],
        step: int = 1,
    ) -> None:
        found = list(parts)
        of_each = np.concatenate([g for _, g in found]) if found else np.zeros(0, dtype=np.intp)
        order = np.argsort(of_each, kind="stable")
        self.groups, self._starts, counts = np.unique(
            of_each[order], return_index=True, return_counts=True
        )
        self._ends = self._starts + counts
        self.sizes: NDArray[np.int64] = counts.astype(np.int64) * step
        small = math.prod(shape) < 2**32
        positions = np.concatenate([p for p, _ in found])[order] if found else of_each
        self._positions = positions.astype(np.uint32 if small else np.uint64)
        self._shape = shape

    def draw(self, rng: np.random.Generator, number: int) -> tuple[int, ...]:
        """Return a voxel of the group of a number, each as likely."""
        position = int(self._positions[rng.integers(self._starts[number], self._ends[number])])
        return tuple(int(i) for i in np.unravel_index(position, self._shape))


def foreground_index(labels: Reader | NDArray[Any]) -> VoxelIndex:
    """Return the voxels of every instance of one sample, or of every class.

    Parameters
    ----------
    labels : Reader or ndarray
        Layers ``(l, [z,] y, x)``; read slab by slab. Of images of more than 4 million voxels an
        evenly spaced selection of the foreground is kept, and at least one voxel of each group in a
        slab.
    """
    shape = tuple(labels.shape[1:])
    step = max(1, math.prod(shape) // _MOST_LISTED)

    def parts() -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        for layer in range(labels.shape[0]):
            for index in slabs(shape):
                part = np.asarray(labels[(slice(layer, layer + 1), *index)]).ravel()
                found = np.flatnonzero(part > 0)
                chosen = _every(part[found], step)
                yield found[chosen] + index[0].start * math.prod(shape[1:]), part[found][chosen]

    return VoxelIndex(parts(), shape, step)


def background_index(labels: Reader | NDArray[Any]) -> VoxelIndex:
    """Return the voxels of the background of one sample, as one group.

    Parameters
    ----------
    labels : Reader or ndarray
        Layers ``(l, [z,] y, x)``; read slab by slab. Of images of more than 4 million voxels an
        evenly spaced selection is kept.
    """
    shape = tuple(labels.shape[1:])
    step = max(1, math.prod(shape) // _MOST_LISTED)

    def parts() -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        for index in slabs(shape):
            layers = np.asarray(labels[(slice(0, labels.shape[0]), *index)])
            found = np.flatnonzero((layers == 0).all(axis=0))[::step]
            yield found + index[0].start * math.prod(shape[1:]), np.zeros(found.size, np.intp)

    return VoxelIndex(parts(), shape, step)


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
    return _every(groups, -(-groups.size // _MOST_OF_SLAB))


def _every(groups: NDArray[Any], step: int) -> NDArray[np.intp]:
    """Return the numbers of every so-and-so-manieth element, and of one of each group."""
    if step <= 1:
        return np.arange(groups.size)
    firsts = np.unique(groups, return_index=True)[1]
    return np.union1d(firsts, np.arange(0, groups.size, step))


class _Groups:
    """Voxels in groups, of several samples, drawn by the weights of the groups.

    Parameters
    ----------
    indices : sequence of VoxelIndex
        One for each sample.
    weights : sequence of ndarray
        For each, the weight of every group; need not sum to 1.
    """

    def __init__(self, indices: Sequence[VoxelIndex], weights: Sequence[NDArray[Any]]) -> None:
        self._indices = indices
        self._firsts = np.cumsum([0, *(len(each) for each in weights)])
        self._until = np.cumsum(np.concatenate([np.zeros(0), *weights]))
        self.none: bool = not self._until.size

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """Return the number of a sample and a voxel in it."""
        place = int(np.searchsorted(self._until, rng.random() * self._until[-1], side="right"))
        place = min(place, self._until.size - 1)
        number = int(np.searchsorted(self._firsts, place, side="right")) - 1
        return number, self._indices[number].draw(rng, place - int(self._firsts[number]))


def _equal(indices: Sequence[VoxelIndex]) -> _Groups:
    """Return groups each of which is as likely."""
    return _Groups(indices, [np.ones(len(index.groups)) for index in indices])


def _by_size(indices: Sequence[VoxelIndex]) -> _Groups:
    """Return groups of which every voxel is as likely."""
    return _Groups(indices, [index.sizes for index in indices])


def _by_class(indices: Sequence[VoxelIndex]) -> _Groups:
    """Return groups of the same numbers in all samples: each number as likely, then each voxel."""
    totals: Counter[int] = Counter()
    for index in indices:
        totals.update(dict(zip(index.groups.tolist(), index.sizes.tolist(), strict=True)))
    return _Groups(
        indices,
        [
            index.sizes / np.array([totals[group] for group in index.groups.tolist()], dtype=float)
            for index in indices
        ],
    )


@dataclass(frozen=True)
class Location:
    """Where a crop is taken.

    Parameters
    ----------
    number : int
        Of the sample.
    box : Box
        In it, in voxels.
    voxel : tuple of int, optional
        The voxel the box was chosen for; None where it was drawn evenly.
    """

    number: int
    box: Box
    voxel: tuple[int, ...] | None

    def numbers(self) -> NDArray[np.int64]:
        """Return all of it but the box's shape as one row of numbers."""
        voxel = self.voxel or (-1,) * len(self.box.begin)
        return np.array([self.number, *self.box.begin, *voxel], np.int64)

    @classmethod
    def from_numbers(cls, numbers: NDArray[np.int64], shape: Sequence[int]) -> Location:
        """Return the location of a row of :meth:`numbers`, of a box of a shape."""
        number, *places = (int(n) for n in numbers)
        begin, voxel = tuple(places[: len(shape)]), tuple(places[len(shape) :])
        end = tuple(b + s for b, s in zip(begin, shape, strict=True))
        return cls(number, Box(begin, end), None if voxel[0] < 0 else voxel)


class LocationSampler:
    """Draws where crops are taken: a sample, and a box in it.

    Which kind of voxel a crop is chosen for (none, of the foreground, of the background, of an
    overlap) is drawn first, then a voxel of that kind from a list: no map of probabilities is made,
    and voxels at the border are listed like all others.

    Parameters
    ----------
    images : sequence of CropImage
        What is cropped.
    settings : SamplingSettings
        Shares of random, foreground, background and overlap crops, least share of foreground.
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
        overlaps, foreground = settings.probability_overlap, settings.probability_fg
        overlapping = _equal([overlap_index(i.labels) for i in images] if overlaps > 0 else [])
        if overlapping.none:
            overlaps, foreground = 0.0, foreground + overlaps
        inside = self._foreground() if foreground > 0 else _equal([])
        outside = _by_size(
            [background_index(i.labels) for i in images] if settings.probability_bg > 0 else []
        )
        self._kinds = [
            (share, groups)
            for share, groups in (
                (foreground, inside),
                (overlaps, overlapping),
                (settings.probability_bg, outside),
            )
            if not groups.none
        ]

    def _foreground(self) -> _Groups:
        """Return the voxels of the foreground, weighted as the settings say."""
        indices = [foreground_index(image.labels) for image in self._images]
        if self._settings.balance == "voxels":
            return _by_size(indices)
        return _by_class(indices) if self._images[0].ids == "classes" else _equal(indices)

    def draw(self, rng: np.random.Generator) -> Location:
        """Return where a crop is taken.

        With `min_masked` the first of at most 20 boxes with enough foreground is taken, else the
        one with most.
        """
        best, most = self._draw_once(rng), -1.0
        if self._settings.min_masked == 0:
            return best
        candidate = best
        for _ in range(TRIES):
            labels = self._images[candidate.number].crop_labels(candidate.box)
            share = float((labels > 0).any(axis=0).mean())
            if share > most:
                best, most = candidate, share
            if share >= self._settings.min_masked:
                break
            candidate = self._draw_once(rng)
        return best

    def _draw_once(self, rng: np.random.Generator) -> Location:
        """Return one box, of the kind that is drawn first."""
        kind = rng.random()
        for share, groups in self._kinds:
            if kind < share:
                number, voxel = groups.draw(rng)
                return Location(number, self._box(rng, number, voxel), voxel)
            kind -= share
        number = int(rng.choice(len(self._images), p=self._by_voxels))
        return Location(number, self._box(rng, number, None), None)

    def _box(self, rng: np.random.Generator, number: int, voxel: tuple[int, ...] | None) -> Box:
        """Return a box in a sample, around a voxel if there is one."""
        begin = []
        for axis, (extent, size) in enumerate(
            zip(self._images[number].shape, self._shape, strict=True)
        ):
            low, high = min(0, extent - size), max(0, extent - size)
            if voxel is not None and self._settings.place == "centre":
                low = high = min(max(voxel[axis] - size // 2, low), high)
            elif voxel is not None:
                low, high = max(low, voxel[axis] - size + 1), min(high, voxel[axis])
            begin.append(int(rng.integers(low, high + 1)))
        end = tuple(b + s for b, s in zip(begin, self._shape, strict=True))
        return Box(tuple(begin), end)
