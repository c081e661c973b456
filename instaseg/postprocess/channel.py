"""Instances in work: one channel of them, or a label image, in memory or on disk.

Steps read boxes of a channel. Most say what becomes of a block and what is around it; some edit an
array of their own (:mod:`instaseg.postprocess.pipeline`). A whole image in memory is the case of
one block, so that there is one code for both, and what is found in blocks is what is found in the
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.work import Run
from instaseg.errors import DataError
from instaseg.geometry import Box
from instaseg.io.arrays import ArraySource

Labels = NDArray[Any]


class Target(Protocol):
    """An array that is written part by part."""

    def __setitem__(self, index: tuple[slice, ...], values: Labels) -> None:
        """Write the part named by one slice per axis."""


class WorkArray(ArraySource, Target, Protocol):
    """An array that is written and read back part by part."""


NewArray = Callable[[str, tuple[int, ...], np.dtype[Any]], AbstractContextManager[WorkArray]]
"""Gives an array of zeros by a name that no other has, shape and dtype, as long as it is open."""


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
class Layer:
    """What is read of a channel; goes to other processes where its array does.

    Parameters
    ----------
    array : ArraySource
        ``([z,] y, x)`` or ``(n, [z,] y, x)``, 0 = background.
    lead : tuple of slice
        Where the channel is on the first axis; empty for a label image.
    blocks : BlockGrid
        The parts that are in memory at once.
    """

    array: ArraySource
    lead: tuple[slice, ...]
    blocks: BlockGrid

    def read(self, box: Box) -> Labels:
        """Return the labels in a box; they are not to be changed."""
        return self.array[(*self.lead, *box.slices)].reshape(box.shape)


@dataclass(frozen=True)
class Channel(Layer):
    """One channel of instances, or all of a label image.

    Parameters
    ----------
    array, lead, blocks
        As for :class:`Layer`.
    spacing : tuple of float
        Physical size of a voxel per axis.
    run : callable
        Runs tasks that read a layer.
    new_array : callable
        Gives arrays for what a step has to keep, of the channel's spatial shape.
    """

    spacing: tuple[float, ...]
    run: Run
    new_array: NewArray

    @property
    def layer(self) -> Layer:
        """What other processes need to read it."""
        return Layer(self.array, self.lead, self.blocks)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.blocks.shape)

    def instances(self) -> dict[int, Instance]:
        """Return the instances by label, ascending.

        Raises
        ------
        DataError
            If labels are negative.
        """
        tasks = [(self.layer, number) for number in range(len(self.blocks))]
        found: dict[int, Instance] = {}
        for of_block in self.run(_instances_in, tasks, "find instances"):
            for label, one in of_block:
                found[label] = _joined(found[label], one) if label in found else one
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Editable(Channel):
    """A channel whose array a step may write to."""

    array: WorkArray

    def write(self, box: Box, values: Labels) -> None:
        """Replace the labels in a box."""
        self.array[(*self.lead, *box.slices)] = values[None] if self.lead else values

    def replace(self, new: Mapping[int, int]) -> None:
        """Give instances other labels."""
        for box in self.blocks.boxes if new else ():
            changed = fastremap.remap(
                self.read(box), dict(new), preserve_missing_labels=True, in_place=False
            )
            self.write(box, changed)


def _instances_in(task: tuple[Layer, int]) -> list[tuple[int, Instance]]:
    """Return label and instance for the labels in a block."""
    layer, number = task
    box = layer.blocks.boxes[number]
    return list(_instances_of(layer.read(box), box, layer.blocks.shape))


def _instances_of(values: Labels, box: Box, shape: Sequence[int]) -> Iterator[tuple[int, Instance]]:
    """Yield label and instance for the labels in a block of a volume of `shape`."""
    check_labels(values)
    if not values.size:
        return
    values = np.ascontiguousarray(values)
    if values.dtype == bool:
        values = values.view(np.uint8)
    labels, first, sizes = fastremap.unique(values, return_index=True, return_counts=True)
    dense = np.searchsorted(labels, values).astype(np.int64) + int(labels[0] > 0)
    boxes = find_objects(dense)
    there = [(int(n), int(i), int(s)) for n, i, s in zip(labels, first, sizes, strict=True) if n]
    for (label, index, size), slices in zip(there, boxes, strict=True):
        place = np.unravel_index(index, box.shape)
        moved = tuple(int(p) + b for p, b in zip(place, box.begin, strict=True))
        part = Box(tuple(s.start for s in slices), tuple(s.stop for s in slices))
        yield (
            label,
            Instance(size, int(np.ravel_multi_index(moved, shape)), part.shift(box.begin)),
        )


def _joined(a: Instance, b: Instance) -> Instance:
    begin = tuple(map(min, a.box.begin, b.box.begin))
    end = tuple(map(max, a.box.end, b.box.end))
    return Instance(a.size + b.size, min(a.first, b.first), Box(begin, end))


def check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], ndim: int) -> None:
    """Check number of axes and type of instances.

    Raises
    ------
    DataError
        For another number of axes, or labels that are no integers.
    """
    if ndim not in (2, 3) or len(shape) not in (ndim, ndim + 1):
        raise DataError(
            "instances: expected ([z,] y, x) or (n, [z,] y, x) with"
            f" {ndim} spatial axes (2 or 3); got shape {shape}"
        )
    if dtype.kind not in "bui":
        raise DataError(
            f"instances: labels must be integers; got {dtype}. Convert them, for example"
            " by instances.astype('int32')"
        )


def check_labels(instances: Labels) -> None:
    """Check the values of a part of instances.

    Raises
    ------
    DataError
        If some are negative.
    """
    if instances.dtype.kind == "i" and instances.size and int(instances.min()) < 0:
        raise DataError(
            f"instances: labels must not be negative; found {int(instances.min())}. 0 is"
            " background, instances are numbered from 1"
        )
