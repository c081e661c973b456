"""Repair of instances that do not fit in memory: the same result as for the whole, block by block.

The rules are those of :mod:`instaseg.postprocess.repair`. One pass over the volume finds the
components, where only the largest are kept; one finds sizes and bounding boxes; holes are filled
instance by instance in a copy on disk; the last one writes. Memory is that of a few blocks, the
planes between blocks while components are joined, and some words per instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import fastremap
import fill_voids
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from instaseg.blockwise.components import Components, label_block, local_labels, merge
from instaseg.blockwise.grid import BlockGrid
from instaseg.geometry import Box, Coordinate
from instaseg.io.arrays import ArrayWriter, ScratchArray, new_array, scratch_array
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import check_labels, check_shape

Labels = NDArray[Any]
ReadBlock = Callable[[int], Labels]


class Source(Protocol):
    """Instances in memory or on disk; indexing reads that part."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent per axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels."""

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return the part named by one slice per axis."""


@dataclass(frozen=True)
class Target:
    """The array that is written: zarr folder, key and metadata."""

    path: Path
    key: str
    attributes: Mapping[str, Any]


@dataclass
class Instance:
    """What is known of an instance.

    Parameters
    ----------
    size : int
        Voxels.
    first : int
        Index of its first voxel in the flattened volume.
    box : Box
        Its bounding box.
    """

    size: int
    first: int
    box: Box


@dataclass(frozen=True)
class _Channel:
    """One channel of instances, or all of a label image."""

    array: Source
    lead: tuple[slice, ...]

    def read(self, box: Box) -> Labels:
        part = self.array[(*self.lead, *box.slices)]
        return part.reshape(box.shape)


def postprocess_blocks(
    instances: Source,
    settings: PostprocessingSettings,
    *,
    ndim: int,
    block_shape: Coordinate,
    target: Target,
) -> None:
    """Repair instances as :func:`instaseg.postprocess.repair.postprocess` does, block by block.

    Parameters
    ----------
    instances : Source
        ``([z,] y, x)`` or ``(n, [z,] y, x)`` of bool or int, 0 = background. Not changed.
    settings : PostprocessingSettings
        What is done.
    ndim : {2, 3}
        Number of spatial axes.
    block_shape : tuple of int
        Largest part that is in memory at once, in voxels; it does not change the result.
    target : Target
        Where the result is written; the array appears when it is complete.

    Raises
    ------
    DataError
        For float or negative labels, another number of axes, or a full disk.
    """
    shape, dtype = tuple(instances.shape), np.dtype(instances.dtype)
    check_shape(shape, dtype, ndim)
    blocks = BlockGrid(shape[-ndim:], block_shape)
    leads = [(slice(n, n + 1),) for n in range(shape[0])] if len(shape) > ndim else [()]
    with ExitStack() as stack:
        scratch = None
        if settings.fill_holes == "per_instance":
            name = f"{target.key}_scratch"
            opened = scratch_array(target.path, name, shape=shape, dtype=dtype)
            scratch = stack.enter_context(opened)
        channels = [
            _repaired(_Channel(instances, lead), scratch, settings, blocks=blocks) for lead in leads
        ]
        numbers, dtype = _numbering([found for _, found in channels], settings, dtype)
        writer = stack.enter_context(
            new_array(
                target.path, target.key, shape=shape, dtype=dtype, attributes=target.attributes
            )
        )
        for lead, (read, _), of_labels in zip(leads, channels, numbers, strict=True):
            _write_blocks(writer, lead, blocks, _renumbered(read, of_labels, dtype))


def _repaired(
    channel: _Channel,
    scratch: ScratchArray | None,
    settings: PostprocessingSettings,
    *,
    blocks: BlockGrid,
) -> tuple[ReadBlock, dict[int, Instance]]:
    """Return how the blocks of a repaired channel are read, and its instances by label.

    Small instances are still there; `scratch` takes the channel where holes are filled.
    """
    largest = settings.components == "largest"
    read = _largest_components(channel, blocks) if largest else _unchanged(channel, blocks)
    found = _instances(read, blocks)
    if scratch is None:
        return read, found
    _write_blocks(scratch, channel.lead, blocks, read)
    _fill_holes(scratch, channel.lead, found, blocks.block_shape)
    filled = _Channel(scratch, channel.lead)
    return lambda block: filled.read(blocks.boxes[block]), found


def _write_blocks(
    writer: ArrayWriter, lead: tuple[slice, ...], blocks: BlockGrid, read: ReadBlock
) -> None:
    for block, box in enumerate(blocks.boxes):
        values = read(block)
        writer[(*lead, *box.slices)] = values[None] if lead else values


def _unchanged(channel: _Channel, blocks: BlockGrid) -> ReadBlock:
    """Return how to read blocks as they are."""

    def read(block: int) -> Labels:
        values = channel.read(blocks.boxes[block])
        check_labels(values)
        return values

    return read


def _largest_components(channel: _Channel, blocks: BlockGrid) -> ReadBlock:
    """Return how to read blocks without all but the largest component of every instance."""

    def labelled(block: int) -> Labels:
        values = channel.read(blocks.read_box(block))
        check_labels(values)
        return values

    results = [label_block(labelled(n), box.shape) for n, box in enumerate(blocks.boxes)]
    components = merge(blocks, lambda block, names: {name: results[block][name] for name in names})
    keep = _kept(components)

    def read(block: int) -> Labels:
        values = labelled(block)
        core = tuple(slice(0, n) for n in blocks.boxes[block].shape)
        numbers = components.numbers[block][local_labels(values)[core]]
        return np.where(keep[numbers], values[core], np.zeros((), values.dtype))

    return read


def _kept(components: Components) -> NDArray[np.bool_]:
    """Return by number, from 0 on, whether a component is the largest, then first, of its value."""
    # Components are numbered by their first voxel, and the sort is stable.
    order = np.lexsort((-components.sizes, components.values))
    _, best = np.unique(components.values[order], return_index=True)
    keep = np.zeros(len(order) + 1, bool)
    keep[1 + order[best]] = True
    return keep


def _instances(read: ReadBlock, blocks: BlockGrid) -> dict[int, Instance]:
    """Return the instances of a channel by label."""
    found: dict[int, Instance] = {}
    for block, box in enumerate(blocks.boxes):
        values = np.ascontiguousarray(read(block))
        if values.dtype == bool:
            values = values.view(np.uint8)
        labels, first, sizes = fastremap.unique(values, return_index=True, return_counts=True)
        dense = np.searchsorted(labels, values).astype(np.int64) + int(labels[0] > 0)
        boxes = find_objects(dense)
        there = [(int(n), i, int(size)) for n, i, size in zip(labels, first, sizes, strict=True)]
        for (label, index, size), slices in zip([t for t in there if t[0]], boxes, strict=True):
            place = np.unravel_index(int(index), box.shape)
            moved = tuple(int(p) + b for p, b in zip(place, box.begin, strict=True))
            part = Box(tuple(s.start for s in slices), tuple(s.stop for s in slices))
            one = Instance(
                size, int(np.ravel_multi_index(moved, blocks.shape)), part.shift(box.begin)
            )
            found[label] = _joined(found[label], one) if label in found else one
    return found


def _joined(a: Instance, b: Instance) -> Instance:
    begin = tuple(map(min, a.box.begin, b.box.begin))
    end = tuple(map(max, a.box.end, b.box.end))
    return Instance(a.size + b.size, min(a.first, b.first), Box(begin, end))


def _fill_holes(
    scratch: ScratchArray,
    lead: tuple[slice, ...],
    found: dict[int, Instance],
    block_shape: Coordinate,
) -> None:
    """Fill the holes of instances on disk, and add what is filled to their sizes."""
    channel = _Channel(scratch, lead)
    by_box = sorted(found.items(), key=lambda one: (np.prod(one[1].box.shape), one[1].first))
    for label, instance in by_box:
        box = instance.box
        if min(box.shape) < 3:
            continue  # no room for a hole
        inside = BlockGrid(box.shape, block_shape)

        def mask(part: Box, label: int = label, begin: Coordinate = box.begin) -> Labels:
            return np.asarray(channel.read(part.shift(begin)) == label)

        holes = _holes(mask, inside)
        for block, part in enumerate(inside.boxes):
            hole = holes(block)
            if hole.any():
                place = part.shift(box.begin)
                values = channel.read(place).copy()
                filled = hole & (values == 0)
                values[filled] = label
                scratch[(*lead, *place.slices)] = values[None] if lead else values
                instance.size += int(np.count_nonzero(filled))


def _holes(mask: Callable[[Box], Labels], blocks: BlockGrid) -> ReadBlock:
    """Return how to get the holes of a mask in each block, in the order of the blocks.

    They are found in blocks before any is filled. The mask of a block is read again when its holes
    are asked for, together with one voxel beyond its upper faces: blocks that come later, so that
    filling the holes of a block changes nothing for the next ones.
    """
    if len(blocks) == 1:

        def at_once(block: int) -> Labels:
            values = mask(blocks.boxes[block])
            return np.asarray(fill_voids.fill(values, in_place=False), bool) & ~values

        return at_once

    def outside(block: int) -> Labels:
        return ~mask(blocks.read_box(block))

    results = [
        label_block(outside(n), box.shape, neighbours="faces") for n, box in enumerate(blocks.boxes)
    ]
    components = merge(blocks, lambda block, names: {name: results[block][name] for name in names})
    enclosed = np.ones(len(components.sizes) + 1, bool)
    enclosed[0] = False
    for block, box in enumerate(blocks.boxes):
        labels = local_labels(outside(block), "faces")[tuple(slice(0, n) for n in box.shape)]
        for axis, n in enumerate(blocks.shape):
            if box.begin[axis] == 0:
                enclosed[components.numbers[block][labels.take(0, axis)]] = False
            if box.end[axis] == n:
                enclosed[components.numbers[block][labels.take(-1, axis)]] = False

    def in_block(block: int) -> Labels:
        core = tuple(slice(0, n) for n in blocks.boxes[block].shape)
        labels = local_labels(outside(block), "faces")[core]
        return np.asarray(enclosed[components.numbers[block][labels]])

    return in_block


def _numbering(
    channels: list[dict[int, Instance]], settings: PostprocessingSettings, dtype: np.dtype[Any]
) -> tuple[list[tuple[Labels, Labels]], np.dtype[Any]]:
    """Return, for each channel, its labels and their new numbers (0 where removed), and a dtype."""
    left = [
        {label: one.size > settings.remove_small_comps for label, one in sorted(found.items())}
        for found in channels
    ]
    total = sum(sum(kept.values()) for kept in left)
    if settings.relabel == "sequential" and (dtype.kind == "b" or total > np.iinfo(dtype).max):
        dtype = np.min_scalar_type(total)
    numbers, start = [], 1
    for kept in left:
        labels, stays = np.array(list(kept), np.uint64), np.array(list(kept.values()), bool)
        new = labels
        if settings.relabel == "sequential":
            new = (start + np.cumsum(stays) - 1).astype(np.uint64)
            start += int(np.count_nonzero(stays))
        numbers.append((labels, np.where(stays, new, 0).astype(dtype)))
    return numbers, dtype


def _renumbered(read: ReadBlock, numbers: tuple[Labels, Labels], dtype: np.dtype[Any]) -> ReadBlock:
    """Return how to read blocks with new numbers in place of labels."""
    labels, new = numbers

    def renumbered(block: int) -> Labels:
        values = read(block)
        mapped = np.zeros(values.shape, dtype)
        foreground = values > 0
        mapped[foreground] = new[np.searchsorted(labels, values[foreground].astype(np.uint64))]
        return mapped

    return renumbered
