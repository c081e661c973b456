"""Instances of an array, and how many voxels two sets of instances share.

Both sides may be one label image or one channel per instance, in memory or on disk: they are read
block by block, and only tables of instances and of pairs that share voxels are kept, so that
neither a volume nor 70,000 instances need much memory. Blocks in which a channel is empty are noted
when it is first read and not read again: long, thin objects fill few of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.work import Run
from instaseg.errors import DataError
from instaseg.io.arrays import ArraySource

Index = NDArray[np.int64]
Values = NDArray[np.float64]
Window = tuple[slice, ...]

# Ids below this many are looked up in a table of all ids, larger ones by bisection.
_TABLE_LIMIT = 1 << 22

# Voxels of one channel that are read at once: about a cube or square of these sides, of arrays on
# disk as many whole chunks, at least one.
_SIDE = {2: 512, 3: 64}


class _Channels:
    """Labels or channels as integers, one channel of one block after the other.

    Parameters
    ----------
    source : array, ([z,] y, x) or (n, [z,] y, x)
        In memory or on disk.
    ndim : {2, 3}
        Number of spatial axes.
    """

    def __init__(self, source: ArraySource, *, ndim: int) -> None:
        self._source = source
        self._alone = len(source.shape) == ndim
        self.count: int = 1 if self._alone else source.shape[0]
        self.shape: tuple[int, ...] = tuple(source.shape)[-ndim:]
        self.block = _block_shape(self.shape, getattr(source, "chunks", None))

    def read(self, channel: int, window: Window) -> NDArray[Any]:
        """Return one channel of a window."""
        if self._alone:
            block = self._source[window]
        else:
            block = self._source[(slice(channel, channel + 1), *window)][0]
        block = np.asarray(block)
        return block.view(np.uint8) if block.dtype.kind == "b" else block


def _block_shape(shape: Sequence[int], chunks: Sequence[int] | None) -> tuple[int, ...]:
    """Return how many voxels per axis are read at once.

    Examples
    --------
    >>> _block_shape((5000, 40), None), _block_shape((3000, 3000), (1, 200, 1000))
    ((512, 40), (200, 1000))
    """
    side = _SIDE[len(shape)]
    unit = tuple(chunks or ())[-len(shape) :] or (1,) * len(shape)
    block = [max(1, min(c, n)) for c, n in zip(unit, shape, strict=True)]
    for axis in reversed(range(len(block))):
        room = side ** len(shape) // math.prod(block)
        block[axis] *= max(1, min(side // block[axis], room))
        block[axis] = max(1, min(block[axis], shape[axis]))
    return tuple(block)


@dataclass(frozen=True)
class Numbering:
    """New numbers for the sorted ids of one channel."""

    ids: NDArray[Any]
    new: NDArray[np.int32]

    @cached_property
    def _table(self) -> NDArray[np.int32] | None:
        if len(self.ids) and int(self.ids[-1]) >= _TABLE_LIMIT:
            return None
        table = np.zeros(int(self.ids[-1]) + 1 if len(self.ids) else 1, np.int32)
        table[self.ids.astype(np.int64)] = self.new
        return table

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields: the table is made again where it is needed."""
        return {"ids": self.ids, "new": self.new}

    def apply(self, labels: NDArray[Any]) -> NDArray[np.int32]:
        """Return labels, all of them among the ids, as their new numbers."""
        table = self._table
        if table is None:
            return np.asarray(self.new[np.searchsorted(self.ids, labels)])
        return np.asarray(table[labels])


@dataclass(frozen=True)
class Instances:
    """The instances of one array, numbered from 0 in the order of channel, then label.

    Parameters
    ----------
    source : _Channels
        Labels as they were given; read block by block.
    numberings : tuple of Numbering, (n,)
        For every channel its labels and the number of each instance plus 1; 0 for what is left out.
    occupied : ndarray of bool, (n, [z,] y, x)
        Which blocks of every channel hold labels, one entry per block.
    channel : ndarray of int64, (N,)
        Channel every instance lies in.
    label : ndarray, (N,)
        Label every instance has in the array it comes from.
    sizes : ndarray of int64, (N,)
        Voxels of every instance.
    begin, end : ndarray of int64, (N, axes)
        First voxel of every instance's box, and the voxel after its last.
    """

    source: _Channels
    numberings: tuple[Numbering, ...]
    occupied: NDArray[np.bool_]
    channel: Index
    label: NDArray[Any]
    sizes: Index
    begin: Index
    end: Index

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return self.source.shape

    def entries(self, window: Window) -> Iterator[tuple[int, Index, Index]]:
        """Yield what a window holds, channel by channel; empty channels are left out.

        Yields
        ------
        channel, position, number : int, ndarray of int64, ndarray of int64
            Index into the flattened window, ascending, and number of the instance there.
        """
        for channel in self._occupied_channels(window):
            yield from _entries(self.source, channel, self.numberings[channel], window)

    def shown_in(self, window: Window) -> Shown:
        """Return the instances that a window shows, under the same numbers; small to send."""
        low, high = ([getattr(side, end) for side in window] for end in ("start", "stop"))
        channels = self._occupied_channels(window)
        near = ((self.begin < high) & (self.end > low)).all(axis=1)
        numbers = np.where(near, np.arange(1, len(self) + 1, dtype=np.int32), 0)
        numberings = {channel: self._renumbered(channel, numbers) for channel in channels}
        return Shown(self.source, numberings, len(self))

    def subset(self, members: Index) -> Instances:
        """Return some of the instances, numbered from 0 in their order; small to send."""
        block = np.array(self.source.block)
        low = self.begin[members].min(axis=0) // block * block
        high = -(-self.end[members].max(axis=0) // block) * block
        near = ((self.begin < high) & (self.end > low)).all(axis=1)
        numbers = np.zeros(len(self), np.int32)
        numbers[members] = np.arange(1, len(members) + 1)
        numberings = [self._renumbered(c, numbers, near) for c in range(len(self.numberings))]
        columns = (self.channel, self.label, self.sizes, self.begin, self.end)
        return Instances(
            self.source, tuple(numberings), self.occupied, *(one[members] for one in columns)
        )

    def _renumbered(
        self, channel: int, numbers: NDArray[np.int32], near: NDArray[np.bool_] | None = None
    ) -> Numbering:
        """Return the numbering of a channel with new numbers, 0 for what is left out.

        Ids of instances that are not `near` (left out: those without a number) are dropped; those
        that never were counted stay.
        """
        ids, new = self.numberings[channel].ids, self.numberings[channel].new
        instance = new[new > 0] - 1
        kept = new == 0
        kept[new > 0] = numbers[instance] > 0 if near is None else near[instance]
        renumbered = np.zeros(len(ids), np.int32)
        renumbered[new > 0] = numbers[instance]
        return Numbering(ids[kept], renumbered[kept])

    def _occupied_channels(self, window: Window) -> list[int]:
        """Return the channels that hold labels in the blocks of a window."""
        blocks = tuple(
            slice(side.start // b, -(-side.stop // b))
            for side, b in zip(window, self.source.block, strict=True)
        )
        cells = self.occupied[(slice(None), *blocks)]
        found: list[int] = np.flatnonzero(cells.any(axis=tuple(range(1, cells.ndim)))).tolist()
        return found

    def read(self, window: Window) -> NDArray[np.int32]:
        """Return number + 1 of the instances in a window, ``(n, [z,] y, x)``, 0 = background."""
        extent = tuple(side.stop - side.start for side in window)
        numbers = np.zeros((len(self.numberings), *extent), np.int32)
        for channel, position, number in self.entries(window):
            numbers[channel].reshape(-1)[position] = number + 1
        return numbers

    @cached_property
    def overlapping(self) -> NDArray[np.bool_]:
        """Whether every instance shares a voxel with another one, ``(N,)``."""
        overlapping = np.zeros(len(self), bool)
        for window in windows(self) if len(self.numberings) > 1 else ():
            entries = list(self.entries(window))
            if len(entries) > 1:
                crowd = crowding(entries, window)
                for _, position, number in entries:
                    overlapping[np.unique(number[crowd[position] > 1])] = True
        return overlapping


@dataclass(frozen=True)
class Shown:
    """What a window shows of some instances.

    Parameters
    ----------
    source : _Channels
        Labels as they were given.
    numberings : dict of int to Numbering
        Those of the channels that hold labels in the window.
    count : int
        Number of all instances.
    """

    source: _Channels
    numberings: dict[int, Numbering]
    count: int

    def __len__(self) -> int:
        """Return the number of all instances."""
        return self.count

    def entries(self, window: Window) -> Iterator[tuple[int, Index, Index]]:
        """Yield what the window holds, as :meth:`Instances.entries` does."""
        for channel, numbering in self.numberings.items():
            yield from _entries(self.source, channel, numbering, window)


def _entries(
    source: _Channels, channel: int, numbering: Numbering, window: Window
) -> Iterator[tuple[int, Index, Index]]:
    """Yield what one channel of a window holds; nothing if it is empty."""
    labels = source.read(channel, window).reshape(-1)
    position = np.flatnonzero(labels != 0)
    number = numbering.apply(labels[position])
    if not number.all():
        position, number = position[number > 0], number[number > 0]
    if len(position):
        yield channel, position, number.astype(np.int64) - 1


@dataclass(frozen=True)
class Voxels:
    """Voxels of instances as a flat list; instances may share voxels.

    Parameters
    ----------
    position : ndarray of int64, (V,)
        Index into the flattened volume.
    instance : ndarray of int64, (V,)
        Number of the instance the voxel belongs to.
    sizes : ndarray of int64, (N,)
        Voxels per instance.
    """

    position: Index
    instance: Index
    sizes: Index


@dataclass(frozen=True)
class Hits:
    """Voxels of one set of instances that lie in instances of another.

    Parameters
    ----------
    voxel : ndarray of int64, (H,)
        Which of the voxels of a list.
    other : ndarray of int64, (H,)
        Number of an instance it lies in; a voxel may lie in several.
    others : int
        Number of instances of the other set.
    """

    voxel: Index
    other: Index
    others: int


@dataclass(frozen=True)
class Pairs:
    """A value for every pair of instances that has one; all others are 0.

    Parameters
    ----------
    truth, prediction : ndarray of int64, (M,)
        Numbers of the instances, ordered by `truth`, then `prediction`.
    value : ndarray of float64, (M,)
        Voxels shared, or a score made of them.
    shape : tuple of int
        Number of true and of predicted instances.
    """

    truth: Index
    prediction: Index
    value: Values
    shape: tuple[int, int]

    def dense(self) -> Values:
        """Return the values as a matrix ``(true, predicted)``."""
        matrix = np.zeros(self.shape)
        matrix[self.truth, self.prediction] = self.value
        return matrix

    def keys(self) -> Index:
        """Return one ascending number per pair."""
        return self.truth * self.shape[1] + self.prediction

    def with_values(self, value: Values) -> Pairs:
        """Return the same pairs with other values."""
        return Pairs(self.truth, self.prediction, value, self.shape)

    def at(self, truth: Index, prediction: Index) -> Values:
        """Return the values of the given pairs, 0 where a pair has none."""
        if len(self.value) == 0:
            return np.zeros(len(truth))
        keys = self.keys()
        wanted = truth * self.shape[1] + prediction
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, self.value[place], 0.0)


def find_instances(
    array: ArraySource,
    *,
    ndim: int,
    name: str = "labels",
    remove_small: int = 0,
    run: Run = run_here,
) -> Instances:
    """Return the instances of a label image or of an array with one channel per instance.

    Every non-zero label of every channel is one instance; the same label in two channels means two.

    Parameters
    ----------
    array : array of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Labels, 0 = background, in memory or on disk (anything with `shape`, `dtype` and slices).
        Not changed; it is read again whenever voxels are needed.
    ndim : {2, 3}
        Number of spatial axes.
    name : str
        What the array is called in messages.
    remove_small : int
        Instances of at most this many voxels become background.
    run : callable
        Runs tasks on parts of the array; for any but this process the array has to be on disk.

    Returns
    -------
    Instances

    Raises
    ------
    DataError
        For another number of axes, for float labels and for negative labels.
    """
    source = _checked(array, ndim=ndim, name=name)
    found = [_Found([], [], [], []) for _ in range(source.count)]
    grid = tuple(-(-n // b) for n, b in zip(source.shape, source.block, strict=True))
    occupied = np.zeros((source.count, *grid), bool)
    parts = [_Part(source, window, name) for window in _cut(source.shape, source.block)]
    for part, in_part in zip(parts, run(_instances_in, parts, "find instances"), strict=True):
        place = tuple(side.start // b for side, b in zip(part.window, source.block, strict=True))
        for channel, of_part in in_part:
            occupied[(channel, *place)] = True
            found[channel].add(of_part)
    numberings: list[Numbering] = []
    tables: list[tuple[Index, NDArray[Any], Index, Index, Index]] = []
    total = 0
    for channel, of_channel in enumerate(found):
        ids, sizes, begin, end = of_channel.merged(ndim)
        keep = sizes > remove_small
        new = np.where(keep, np.cumsum(keep) + total, 0).astype(np.int32)
        total += int(keep.sum())
        numberings.append(Numbering(ids, new))
        number = np.full(int(keep.sum()), channel, np.int64)
        tables.append((number, ids[keep], sizes[keep], begin[keep], end[keep]))
    if not tables:
        none, boxes = np.zeros(0, np.int64), np.zeros((0, ndim), np.int64)
        return Instances(source, (), occupied, none, none, none, boxes, boxes)
    columns = (np.concatenate(part) for part in zip(*tables, strict=True))
    return Instances(source, tuple(numberings), occupied, *columns)


@dataclass(frozen=True)
class _Found:
    """Ids, voxels and boxes of one channel, one entry per block."""

    ids: list[NDArray[Any]]
    sizes: list[Index]
    begin: list[Index]
    end: list[Index]

    def add(self, found: _OfBlock) -> None:
        """Note the instances of one block."""
        for kept, new in zip((self.ids, self.sizes, self.begin, self.end), found, strict=True):
            kept.append(new)

    def merged(self, ndim: int) -> tuple[NDArray[Any], Index, Index, Index]:
        """Return ids, voxels, begin and end of boxes of all blocks together."""
        if not self.ids:
            none, boxes = np.zeros(0, np.int64), np.zeros((0, ndim), np.int64)
            return none, none, boxes, boxes
        ids, place = np.unique(np.concatenate(self.ids), return_inverse=True)
        sizes = np.zeros(len(ids), np.int64)
        np.add.at(sizes, place, np.concatenate(self.sizes))
        begin = np.full((len(ids), ndim), np.iinfo(np.int64).max)
        np.minimum.at(begin, place, np.concatenate(self.begin))
        end = np.zeros((len(ids), ndim), np.int64)
        np.maximum.at(end, place, np.concatenate(self.end))
        return ids, sizes, begin, end


_OfBlock = tuple[NDArray[Any], Index, Index, Index]
"""Ids, voxels, begin and end of boxes of the instances of one channel in one block."""


@dataclass(frozen=True)
class _Part:
    """A block in which instances are looked for."""

    source: _Channels
    window: Window
    name: str

    def __str__(self) -> str:
        return f"{self.name}, voxels {self.window}"


def _instances_in(part: _Part) -> list[tuple[int, _OfBlock]]:
    """Return the channels that hold something in a block, and what."""
    found = []
    for channel in range(part.source.count):
        labels = part.source.read(channel, part.window)
        if labels.any():
            found.append((channel, _instances_of(labels, part)))
    return found


def _instances_of(labels: NDArray[Any], part: _Part) -> _OfBlock:
    ids, counts = fastremap.unique(labels, return_counts=True)
    if ids[0] < 0:
        raise DataError(
            f"{part.name}: labels must not be negative; found {int(ids[0])}. 0 is background,"
            " instances are numbered from 1"
        )
    ids, counts = ids[ids > 0], counts[ids > 0]
    numbered = np.zeros(labels.shape, np.int32)
    inside = labels != 0
    numbering = Numbering(ids, np.arange(1, len(ids) + 1, dtype=np.int32))
    numbered[inside] = numbering.apply(labels[inside])
    boxes = find_objects(numbered)
    origin = np.array([side.start for side in part.window])
    begin = np.array([[side.start for side in box] for box in boxes]) + origin
    end = np.array([[side.stop for side in box] for box in boxes]) + origin
    return ids, counts.astype(np.int64), begin, end


def _checked(array: ArraySource, *, ndim: int, name: str) -> _Channels:
    """Return an array of an integer type and a fitting number of axes, to be read in blocks."""
    if ndim not in (2, 3):
        raise DataError(f"ndim must be 2 or 3; got {ndim!r}")
    if len(array.shape) not in (ndim, ndim + 1):
        raise DataError(
            f"{name}: expected {ndim} axes for labels or {ndim + 1} for one channel per instance,"
            f" because ndim is {ndim}; got shape {tuple(array.shape)}"
        )
    if array.dtype.kind not in "bui":
        raise DataError(
            f"{name}: labels must be integers; got {array.dtype}. Convert them, for example by"
            " labels.astype('int32')"
        )
    return _Channels(array, ndim=ndim)


def _cut(shape: Sequence[int], block: Sequence[int]) -> Iterator[Window]:
    """Yield windows that tile a volume.

    Examples
    --------
    >>> [window[0] for window in _cut((5, 4), (2, 4))]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for begin in itertools.product(*(range(0, n, b) for n, b in zip(shape, block, strict=True))):
        yield tuple(slice(b, min(b + s, n)) for b, s, n in zip(begin, block, shape, strict=True))


def windows(instances: Instances) -> Iterator[Window]:
    """Yield the windows in which instances are read; together they are the volume."""
    return _cut(instances.shape, instances.source.block)


def crowding(entries: Sequence[tuple[int, Index, Index]], window: Window) -> NDArray[np.uint16]:
    """Return how many instances lie at every voxel of a flattened window."""
    crowd = np.zeros(math.prod(side.stop - side.start for side in window), np.uint16)
    for _, position, _ in entries:
        crowd[position] += 1
    return crowd


def collect(instances: Instances, members: Index) -> Voxels:
    """Return the voxels of some instances, ordered by instance, then position.

    Parameters
    ----------
    instances : Instances
        Only blocks that meet the box of a member are read.
    members : ndarray of int64
        Numbers of the instances.
    """
    wanted = np.zeros(len(instances), bool)
    wanted[members] = True
    begin, end = instances.begin[members], instances.end[members]
    positions, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for window in windows(instances):
        low, high = [side.start for side in window], [side.stop for side in window]
        if not ((begin < high) & (end > low)).all(axis=1).any():
            continue
        for _, position, number in instances.entries(window):
            keep = wanted[number]
            positions.append(_in_volume(position[keep], window, instances.shape))
            numbers.append(number[keep])
    position, number = np.concatenate(positions), np.concatenate(numbers)
    order = np.lexsort((position, number))
    sizes = np.bincount(number, minlength=len(instances))
    return Voxels(position[order], number[order], sizes)


def _in_volume(position: Index, window: Window, shape: Sequence[int]) -> Index:
    """Return indices into a flattened window as indices into the flattened volume."""
    extent = tuple(side.stop - side.start for side in window)
    local = np.unravel_index(position, extent)
    voxel = tuple(axis + side.start for axis, side in zip(local, window, strict=True))
    return np.asarray(np.ravel_multi_index(voxel, tuple(shape)), np.int64)


def hits(voxels: Voxels, others: Instances) -> Hits:
    """Return which voxels of a list lie in which of the other instances.

    Parameters
    ----------
    voxels : Voxels
        Centre lines, or whole instances, in the same volume.
    others : Instances
        Read where there are voxels.
    """
    found, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for which, local, window in _by_window(voxels, others):
        extent = tuple(side.stop - side.start for side in window)
        flat = np.ravel_multi_index(local, extent)
        scratch = np.full(math.prod(extent), -1, np.int64)
        for _, position, number in others.entries(window):
            scratch[position] = number
            there = scratch[flat]
            found.append(which[there >= 0])
            numbers.append(there[there >= 0])
            scratch[position] = -1
    return Hits(np.concatenate(found), np.concatenate(numbers), len(others))


def _by_window(
    voxels: Voxels, others: Instances
) -> Iterator[tuple[Index, tuple[Index, ...], Window]]:
    """Yield which voxels of a list lie in a window, and where in it, for windows that have any."""
    if len(voxels.position) == 0:
        return
    shape, block = others.shape, others.source.block
    axes = np.unravel_index(voxels.position, shape)
    grid = tuple(-(-n // b) for n, b in zip(shape, block, strict=True))
    cells = tuple(axis // b for axis, b in zip(axes, block, strict=True))
    cell = np.ravel_multi_index(cells, grid)
    order = np.argsort(cell, kind="stable")
    for which in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        begin = [int(c[which[0]]) * b for c, b in zip(cells, block, strict=True)]
        window = tuple(slice(b, min(b + s, n)) for b, s, n in zip(begin, block, shape, strict=True))
        yield which, tuple(axis[which] - b for axis, b in zip(axes, begin, strict=True)), window


def shared_voxels(voxels: Voxels, inside: Hits) -> tuple[Index, Index, Index]:
    """Count the voxels of one set of instances that lie in instances of another.

    Returns
    -------
    first, second, count : ndarray of int64, (M,)
        Numbers of the instances of either set, ordered by `first`, then `second`, and the voxels
        they share, at least one.
    """
    tally = Tally(inside.others)
    tally.add(voxels.instance[inside.voxel], inside.other)
    return tally.counts()


def depth(voxels: Voxels, inside: Hits) -> Index:
    """Return in how many of the other instances every voxel of a list lies, ``(V,)``."""
    return np.bincount(inside.voxel, minlength=len(voxels.position))


class Tally:
    """Counts pairs of numbers that come block by block.

    Parameters
    ----------
    others : int
        Second numbers are below this.
    """

    def __init__(self, others: int) -> None:
        self._base = max(others, 1)
        self._keys: list[Index] = [np.zeros(0, np.int64)]
        self._counts: list[Index] = [np.zeros(0, np.int64)]

    def add(self, first: Index, second: Index) -> None:
        """Count pairs once each."""
        if len(first):
            key, count = fastremap.unique(first * self._base + second, return_counts=True)
            self._keys.append(key.astype(np.int64))
            self._counts.append(count.astype(np.int64))

    def merge(self, counted: tuple[Index, Index, Index]) -> None:
        """Add what another tally has counted, from its :meth:`counts`."""
        first, second, count = counted
        self._keys.append(first * self._base + second)
        self._counts.append(count)

    def counts(self) -> tuple[Index, Index, Index]:
        """Return first and second number and count of every pair, ordered by both numbers."""
        key, place = np.unique(np.concatenate(self._keys), return_inverse=True)
        count = np.zeros(len(key), np.int64)
        np.add.at(count, place, np.concatenate(self._counts))
        return key // self._base, key % self._base, count
