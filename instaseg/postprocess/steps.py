"""Steps that change which voxels instances have: debris, holes, border, region of interest.

Some edit a :class:`~instaseg.postprocess.channel.Editable`, others give a :class:`Change` that is
made of every block by itself. Memory is that of a few blocks, the planes between blocks while
components are joined, and some words per instance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import fill_voids
import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import Components, find_components
from instaseg.blockwise.grid import BlockGrid
from instaseg.geometry import Box, Coordinate
from instaseg.io.arrays import ArraySource
from instaseg.postprocess.channel import Channel, Editable, Instance, Labels

Mask = NDArray[np.bool_]


class Change(Protocol):
    """What becomes of labels, from what lies around them; goes to other processes."""

    @property
    def halo(self) -> Sequence[int]:
        """How far it looks, in voxels per axis."""

    def __call__(self, values: Labels, box: Box) -> Labels:
        """Return what becomes of the labels in a box; right where all of the halo is there."""


@dataclass(frozen=True, eq=False)
class Removal:
    """Instances become background.

    Parameters
    ----------
    labels : ndarray of int
        Which, ascending.
    halo : tuple of int
        0 per axis: nothing around a voxel is looked at.
    """

    labels: NDArray[np.integer]
    halo: Coordinate

    def __call__(self, values: Labels, box: Box) -> Labels:
        """Return the labels without those that are removed."""
        del box
        # of the same type: NumPy compares int64 with uint64 as floating-point numbers
        removed = np.isin(values, self.labels.astype(values.dtype))
        return np.where(removed, np.zeros((), values.dtype), values)


def removal(labels: Collection[int], ndim: int) -> Removal:
    """Return the change that removes instances."""
    return Removal(np.array(sorted(labels) or [0]), (0,) * ndim)


@dataclass(frozen=True, eq=False)
class KeepInside:
    """What lies outside a region of interest, that is where it is 0, becomes background.

    Parameters
    ----------
    roi : ArraySource
        ``([z,] y, x)``.
    halo : tuple of int
        0 per axis: nothing around a voxel is looked at.
    """

    roi: ArraySource
    halo: Coordinate

    def __call__(self, values: Labels, box: Box) -> Labels:
        """Return the labels inside the region."""
        return np.where(self.roi[box.slices] != 0, values, np.zeros((), values.dtype))


def keep_largest_components(channel: Editable) -> None:
    """Keep the largest connected part of every instance.

    Parts are connected by faces, edges and corners; of equally large ones the first in raster order
    stays.
    """
    blocks = channel.blocks
    components, numbers = find_components(channel.read, blocks)
    keep = _kept(components)

    # A block is read with voxels of those that follow, which are not changed yet.
    for block, box in enumerate(blocks.boxes):
        values = channel.read(box)
        channel.write(box, np.where(keep[numbers(block)], values, np.zeros((), values.dtype)))


def _kept(components: Components) -> Mask:
    """Return by number, from 0 on, whether a component is the largest, then first, of its value."""
    # Components are numbered by their first voxel, and the sort is stable.
    order = np.lexsort((-components.sizes, components.values))
    _, best = np.unique(components.values[order], return_index=True)
    keep = np.zeros(len(order) + 1, bool)
    keep[1 + order[best]] = True
    return keep


def fill_holes(channel: Editable, only: Collection[int] | None = None) -> None:
    """Fill the holes of every instance.

    A hole is background that cannot reach the border of the volume through faces without crossing
    the instance; axes of one voxel have no border. Only background voxels are filled: an instance
    inside the hole stays, and a hole inside that one becomes part of it, not of the outer one.

    Parameters
    ----------
    channel : Channel
        The instances.
    only : collection of int, optional
        Labels of those whose holes are filled; all by default.
    """
    found = channel.instances()
    wanted = [(label, found[label]) for label in found if only is None or label in only]
    # A smaller box cannot enclose a larger one, so inner instances come first.
    for label, instance in sorted(wanted, key=lambda one: (np.prod(one[1].box.shape), one[0])):
        if _has_room(instance.box.shape, channel.blocks.shape):
            _fill_holes_of(channel, label, instance)


def _has_room(box: Coordinate, volume: Coordinate) -> bool:
    """Return whether a bounding box of this shape has room for a hole.

    A volume of one slice is like an image; a line of voxels has no holes.
    """
    sides = [n for n, whole in zip(box, volume, strict=True) if whole > 1]
    return len(sides) > 1 and min(sides) >= 3


def _fill_holes_of(channel: Editable, label: int, instance: Instance) -> None:
    box = instance.box
    inside = BlockGrid(box.shape, channel.blocks.block_shape)

    def mask(part: Box) -> Mask:
        return np.asarray(channel.read(part.shift(box.begin)) == label)

    holes = _holes(mask, inside)
    for block, part in enumerate(inside.boxes):
        hole = holes(block)
        if hole.any():
            place = part.shift(box.begin)
            values = channel.read(place).copy()
            values[hole & (values == 0)] = label
            channel.write(place, values)


def _holes(mask: Callable[[Box], Mask], blocks: BlockGrid) -> Callable[[int], Mask]:
    """Return how to get the holes of a mask in each block, in the order of the blocks.

    They are found in blocks before any is filled. The mask of a block is read again when its holes
    are asked for, together with one voxel beyond its upper faces: blocks that come later, so that
    filling the holes of a block changes nothing for the next ones.
    """
    if len(blocks) == 1:

        def at_once(block: int) -> Mask:
            values = mask(blocks.boxes[block])
            # What lies in one slice of a volume has a rim in the slice, and none above it.
            flat = values.squeeze()
            # Without a rim, fill_voids 2.1 takes some voxels on edges of a volume for holes.
            filled = np.asarray(fill_voids.fill(np.pad(flat, 1), in_place=True), bool)
            return filled[(slice(1, -1),) * flat.ndim].reshape(values.shape) & ~values

        return at_once

    components, numbers = find_components(lambda box: ~mask(box), blocks, neighbours="faces")
    enclosed = np.ones(len(components.sizes) + 1, bool)
    enclosed[0] = False
    for block, box in enumerate(blocks.boxes):
        for plane in _border_planes(numbers(block), box, blocks.shape):
            enclosed[plane] = False
    return lambda block: np.asarray(enclosed[numbers(block)])


def _border_planes(values: Labels, box: Box, shape: Coordinate) -> list[Labels]:
    """Return the planes of a block that lie at the border of a volume of `shape`.

    An axis of one voxel has no border: a volume of one slice has that of an image.
    """
    long = [a for a, n in enumerate(shape) if n > 1 and values.size]
    lower = [values.take(0, a) for a in long if box.begin[a] == 0]
    upper = [values.take(-1, a) for a in long if box.end[a] == shape[a]]
    return lower + upper


def clear_border(channel: Channel) -> Removal:
    """Return the removal of instances at the border of the volume; axes of one voxel have none."""
    touching: set[int] = set()
    for box in channel.blocks.boxes:
        for plane in _border_planes(channel.read(box), box, channel.blocks.shape):
            touching.update(np.unique(plane).tolist())
    return removal(touching - {0}, channel.ndim)


def remove_by_size(channel: Channel, removed: Callable[[int], bool]) -> Removal:
    """Return the removal of instances for whose number of voxels `removed` returns true."""
    found = channel.instances().items()
    return removal([label for label, one in found if removed(one.size)], channel.ndim)
