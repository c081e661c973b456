"""Instances of an array, and how many voxels two sets of instances share.

Both sides may be one label image or one channel per instance. Only pairs that share voxels are
stored, so that the tables of 70,000 instances stay small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError

Index = NDArray[np.int64]
Values = NDArray[np.float64]

# Ids below this many are looked up in a table of all ids, larger ones by bisection.
_TABLE_LIMIT = 1 << 26


@dataclass(frozen=True)
class Instances:
    """The instances of one array, numbered from 0 in the order of channel, then label.

    Parameters
    ----------
    channels : ndarray of int32, (n, [z,] y, x)
        Number of the instance plus 1 at every voxel, 0 for background.
    channel : ndarray of int64, (N,)
        Channel every instance lies in.
    label : ndarray, (N,)
        Label every instance has in the array it comes from.
    sizes : ndarray of int64, (N,)
        Voxels of every instance.
    """

    channels: NDArray[np.int32]
    channel: Index
    label: NDArray[Any]
    sizes: Index

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return self.channels.shape[1:]


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
    array: NDArray[Any], *, ndim: int, name: str = "labels", remove_small: int = 0
) -> Instances:
    """Return the instances of a label image or of an array with one channel per instance.

    Every non-zero label of every channel is one instance; the same label in two channels means two.

    Parameters
    ----------
    array : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Labels, 0 = background. Not changed.
    ndim : {2, 3}
        Number of spatial axes.
    name : str
        What the array is called in messages.
    remove_small : int
        Instances of at most this many voxels become background.

    Returns
    -------
    Instances

    Raises
    ------
    DataError
        For another number of axes, for float labels and for negative labels.
    """
    channels = _with_channels(array, ndim=ndim, name=name)
    numbers = np.zeros(channels.shape, np.int32)
    channel_of: list[Index] = []
    label_of: list[NDArray[Any]] = []
    sizes: list[Index] = []
    found = 0
    for number, labels in enumerate(channels):
        ids, counts = fastremap.unique(labels, return_counts=True)
        if len(ids) and ids[0] < 0:
            raise DataError(
                f"{name}: labels must not be negative; found {int(ids[0])}. 0 is background,"
                " instances are numbered from 1"
            )
        keep = (ids > 0) & (counts > remove_small)
        new = np.where(keep, np.cumsum(keep) + found, 0).astype(np.int32)
        numbers[number] = _look_up(labels, ids, new)
        found += int(keep.sum())
        channel_of.append(np.full(int(keep.sum()), number, np.int64))
        label_of.append(ids[keep])
        sizes.append(counts[keep].astype(np.int64))
    none = np.zeros(0, np.int64)
    return Instances(
        numbers,
        np.concatenate([none, *channel_of]),
        np.concatenate(label_of) if label_of else none,
        np.concatenate([none, *sizes]),
    )


def _with_channels(array: NDArray[Any], *, ndim: int, name: str) -> NDArray[Any]:
    """Return `array` as ``(n, [z,] y, x)`` of an integer type, checked."""
    if ndim not in (2, 3):
        raise DataError(f"ndim must be 2 or 3; got {ndim!r}")
    array = np.asarray(array)
    if array.ndim not in (ndim, ndim + 1):
        raise DataError(
            f"{name}: expected {ndim} axes for labels or {ndim + 1} for one channel per instance,"
            f" because ndim is {ndim}; got shape {array.shape}"
        )
    if array.dtype.kind not in "bui":
        raise DataError(
            f"{name}: labels must be integers; got {array.dtype}. Convert them, for example by"
            " labels.astype('int32')"
        )
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    return array if array.ndim == ndim + 1 else array[None]


def _look_up(labels: NDArray[Any], ids: NDArray[Any], new: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return `labels` with every entry of the sorted `ids` replaced by that of `new`."""
    if len(ids) == 0:
        return np.zeros(labels.shape, np.int32)
    if int(ids[-1]) < _TABLE_LIMIT:
        table = np.zeros(int(ids[-1]) + 1, np.int32)
        table[ids] = new
        return np.asarray(table[labels], np.int32)
    return np.asarray(new[np.searchsorted(ids, labels)], np.int32)


def voxels_of(instances: Instances) -> Voxels:
    """Return the voxels of all instances, ordered by channel, then position."""
    positions, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for channel in instances.channels:
        flat = channel.reshape(-1)
        position = np.flatnonzero(flat)
        positions.append(position)
        numbers.append(flat[position].astype(np.int64) - 1)
    return Voxels(np.concatenate(positions), np.concatenate(numbers), instances.sizes)


def outside(voxels: Voxels, mask: NDArray[np.bool_]) -> Voxels:
    """Return the voxels that do not lie in `mask`, an array ``([z,] y, x)``."""
    keep = ~mask.reshape(-1)[voxels.position]
    instance = voxels.instance[keep]
    return Voxels(
        voxels.position[keep], instance, np.bincount(instance, minlength=len(voxels.sizes))
    )


def shared_voxels(voxels: Voxels, others: Instances) -> tuple[Index, Index, Index]:
    """Count the voxels of one set of instances that lie in instances of another.

    Parameters
    ----------
    voxels : Voxels
        Voxels of the first set (whole instances or their centre lines).
    others : Instances
        The second set, in the same volume.

    Returns
    -------
    first, second, count : ndarray of int64, (M,)
        Numbers of the instances of either set, ordered by `first`, then `second`, and the voxels
        they share, at least one.
    """
    base = max(len(others), 1)
    keys = [np.zeros(0, np.int64)]
    for channel in others.channels:
        other = channel.reshape(-1)[voxels.position]
        hit = other > 0
        keys.append(voxels.instance[hit] * base + (other[hit] - 1))
    # with return_counts numpy sorts, without it hashes, which is far slower
    key, count = np.unique(np.concatenate(keys), return_counts=True)
    return key // base, key % base, count.astype(np.int64)


def mask_of(instances: Instances, *, at_least: int = 1) -> NDArray[np.bool_]:
    """Return where at least this many instances lie, an array ``([z,] y, x)``."""
    if len(instances.channels) == 1 and at_least == 1:
        return np.asarray(instances.channels[0] > 0)
    depth = np.zeros(instances.shape, np.int32)
    for channel in instances.channels:
        depth += channel > 0
    return depth >= at_least
