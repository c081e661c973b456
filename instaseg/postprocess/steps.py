"""Steps that change which voxels instances have: debris, holes, border, region of interest.

Each takes a :class:`~instaseg.postprocess.channel.Channel` and changes it. Memory is that of a few
blocks, the planes between blocks while components are joined, and some words per instance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import fill_voids
import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import Components, label_block, local_labels, merge
from instaseg.blockwise.grid import BlockGrid
from instaseg.geometry import Box, Coordinate
from instaseg.postprocess.channel import Channel, Instance, Labels
from instaseg.postprocess.scene import Source

Mask = NDArray[np.bool_]


def keep_largest_components(channel: Channel) -> None:
    """Keep the largest connected part of every instance.

    Parts are connected by faces, edges and corners; of equally large ones the first in raster order
    stays.
    """
    blocks = channel.blocks
    results = [
        label_block(channel.read(blocks.read_box(n)), box.shape)
        for n, box in enumerate(blocks.boxes)
    ]
    components = merge(blocks, lambda block, names: {name: results[block][name] for name in names})
    keep = _kept(components)

    # A block is read with voxels of those that follow, which are not changed yet.
    for block, box in enumerate(blocks.boxes):
        core = tuple(slice(0, n) for n in box.shape)
        values = channel.read(blocks.read_box(block))
        numbers = components.numbers[block][local_labels(values)[core]]
        channel.write(box, np.where(keep[numbers], values[core], np.zeros((), values.dtype)))


def _kept(components: Components) -> Mask:
    """Return by number, from 0 on, whether a component is the largest, then first, of its value."""
    # Components are numbered by their first voxel, and the sort is stable.
    order = np.lexsort((-components.sizes, components.values))
    _, best = np.unique(components.values[order], return_index=True)
    keep = np.zeros(len(order) + 1, bool)
    keep[1 + order[best]] = True
    return keep


def fill_holes(channel: Channel, only: Collection[int] | None = None) -> None:
    """Fill the holes of every instance.

    A hole is background that cannot reach the border of the volume through faces without crossing
    the instance. Only background voxels are filled: an instance inside the hole stays, and a hole
    inside that one becomes part of it, not of the outer one.

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
        if min(instance.box.shape) >= 3:  # else there is no room for a hole
            _fill_holes_of(channel, label, instance)


def _fill_holes_of(channel: Channel, label: int, instance: Instance) -> None:
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
            # Without a rim, fill_voids 2.1 takes some voxels on edges of a volume for holes.
            filled = fill_voids.fill(np.pad(values, 1), in_place=True)
            return np.asarray(filled, bool)[(slice(1, -1),) * values.ndim] & ~values

        return at_once

    def outside(block: int) -> Mask:
        return ~mask(blocks.read_box(block))

    results = [
        label_block(outside(n), box.shape, neighbours="faces") for n, box in enumerate(blocks.boxes)
    ]
    components = merge(blocks, lambda block, names: {name: results[block][name] for name in names})
    enclosed = np.ones(len(components.sizes) + 1, bool)
    enclosed[0] = False
    for block, box in enumerate(blocks.boxes):
        labels = local_labels(outside(block), "faces")[tuple(slice(0, n) for n in box.shape)]
        for plane in _border_planes(labels, box, blocks.shape):
            enclosed[components.numbers[block][plane]] = False

    def in_block(block: int) -> Mask:
        core = tuple(slice(0, n) for n in blocks.boxes[block].shape)
        labels = local_labels(outside(block), "faces")[core]
        return np.asarray(enclosed[components.numbers[block][labels]])

    return in_block


def _border_planes(values: Labels, box: Box, shape: Coordinate) -> list[Labels]:
    """Return the planes of a block that lie at the border of a volume of `shape`."""
    lower = [values.take(0, a) for a in range(len(shape)) if box.begin[a] == 0 and values.size]
    upper = [values.take(-1, a) for a, n in enumerate(shape) if box.end[a] == n and values.size]
    return lower + upper


def clear_border(channel: Channel) -> None:
    """Remove instances that touch the border of the volume."""
    touching: set[int] = set()
    for box in channel.blocks.boxes:
        for plane in _border_planes(channel.read(box), box, channel.blocks.shape):
            touching.update(np.unique(plane).tolist())
    channel.remove(touching - {0})


def remove_by_size(channel: Channel, removed: Callable[[int], bool]) -> None:
    """Remove instances for whose number of voxels `removed` returns true."""
    channel.remove([label for label, one in channel.instances().items() if removed(one.size)])


def keep_inside(channel: Channel, roi: Source) -> None:
    """Make background of what lies outside a region of interest, that is where it is 0."""

    def inside(box: Box, values: Labels) -> Labels:
        return np.where(roi[box.slices] != 0, values, np.zeros((), values.dtype))

    channel.change(inside)
