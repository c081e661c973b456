"""Arrays read at another size: images by weighted means, labels by the nearest voxel.

Voxel centres of both sizes lie evenly over the same extent; output voxel ``i`` of ``m`` looks at
position ``(i + 1/2) n / m - 1/2`` of an axis of ``n`` voxels::

      n = 6    |  0  |  1  |  2  |  3  |  4  |  5  |
      m = 4    |   0    |   1    |   2    |   3    |

Promise: a part of the result equals that part of the whole result, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import box_of
from instaseg.io.arrays import Reader

Taps = tuple[NDArray[np.intp], NDArray[np.float64]]
"""For each output voxel of an axis the voxels it is made of, and their weights, ``(k, m)`` each."""


class ResampledReader:
    """An array on disk or in memory whose last axes are read at another size.

    Parameters
    ----------
    reader : Reader or ndarray
        Its last axes are resampled, leading ones are left alone.
    size : sequence of int
        Extent of the last axes, positive.
    how : {"linear", "nearest"}
        For images: linear between voxels where they become smaller, and the mean over the extent of
        an output voxel (with weights that fall off linearly) where they become larger, so that
        nothing is skipped. For labels: the nearest voxel.
    """

    def __init__(
        self,
        reader: Reader | NDArray[Any],
        size: Sequence[int],
        how: Literal["linear", "nearest"],
    ) -> None:
        self._reader = reader
        self._lead = len(reader.shape) - len(size)
        self._taps = linear_taps if how == "linear" else nearest_taps
        self.shape: tuple[int, ...] = (*reader.shape[: self._lead], *size)
        self.dtype: np.dtype[Any] = reader.dtype
        self.chunks: tuple[int, ...] | None = None
        self.attributes: Mapping[str, Any] = getattr(reader, "attributes", {})

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return the part named by one slice per axis, without steps."""
        old_size, new_size = self._reader.shape[self._lead :], self.shape[self._lead :]
        box = box_of(index[self._lead :], new_size)
        sides = zip(box.begin, box.end, old_size, new_size, strict=True)
        taps = [self._taps(begin, end, old, new) for begin, end, old, new in sides]
        if not all(places.size for places, _ in taps):
            lead = box_of(index[: self._lead], self.shape[: self._lead]).shape
            return np.zeros((*lead, *(places.shape[1] for places, _ in taps)), self.dtype)
        begins = [int(places.min()) for places, _ in taps]
        inner = tuple(
            slice(b, int(places.max()) + 1) for b, (places, _) in zip(begins, taps, strict=True)
        )
        part = self._reader[(*index[: self._lead], *inner)]
        for axis, (begin, (places, weights)) in enumerate(zip(begins, taps, strict=True)):
            part = _along(part, self._lead + axis, (places - begin, weights))
        return _as_type(part, self.dtype)


def linear_taps(begin: int, end: int, old: int, new: int) -> Taps:
    """Return what output voxels `begin` to `end` of an axis are made of.

    Parameters
    ----------
    begin, end : int
        Output voxels.
    old, new : int
        Extent of the axis before and after.

    Examples
    --------
    >>> places, weights = linear_taps(0, 4, 8, 4)  # halved: 1/4 of what lies beside each pair
    >>> places[:, 1].tolist(), weights[:, 1].tolist()
    ([1, 2, 3, 4], [0.125, 0.375, 0.375, 0.125])
    """
    if old == new:
        return nearest_taps(begin, end, old, new)
    ratio = old / new
    reach = max(1.0, ratio)
    centre = (np.arange(begin, end) + 0.5) * ratio - 0.5
    first = np.floor(centre - reach).astype(np.intp) + 1
    places = first + np.arange(math.ceil(2 * reach))[:, np.newaxis]
    weights = np.maximum(0, 1 - np.abs(places - centre) / reach)
    return np.clip(places, 0, old - 1), weights / weights.sum(axis=0)


def nearest_taps(begin: int, end: int, old: int, new: int) -> Taps:
    """Return the one voxel that each of the output voxels `begin` to `end` shows."""
    # (2 i + 1) old / (2 new), in whole numbers: no rounding can move a voxel.
    places = (2 * np.arange(begin, end) + 1) * old // (2 * new)
    return places[np.newaxis], np.ones((1, end - begin))


def resampled_labels(labels: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Return labels whose last axes have another size, by the nearest voxel.

    Examples
    --------
    >>> resampled_labels(np.array([1, 2, 3]), (6,)).tolist()
    [1, 1, 2, 2, 3, 3]
    """
    if labels.shape[labels.ndim - len(size) :] == tuple(size):
        return labels
    reader = ResampledReader(labels, size, "nearest")
    return reader[tuple(slice(0, n) for n in reader.shape)]


class ResampledParts:
    """Labels that come part by part, at another size; the nearest voxel.

    Parameters
    ----------
    labels : BlockLabels
        Something with a shape and ``parts``, whose last axes are resampled.
    size : sequence of int
        Extent of the last axes.
    """

    def __init__(self, labels: Any, size: Sequence[int]) -> None:
        self._labels = labels
        self._lead = len(labels.shape) - len(size)
        self.shape: tuple[int, ...] = (*labels.shape[: self._lead], *size)

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Yield places and their labels: each part fills the output voxels that show it."""
        lead, old_shape, new_shape = self._lead, self._labels.shape, self.shape
        sources = [
            nearest_taps(0, new, old, new)[0][0]
            for old, new in zip(old_shape[lead:], new_shape[lead:], strict=True)
        ]
        for place, values in self._labels.parts():
            target, part = list(place[:lead]), values
            for axis, (inner, source) in enumerate(zip(place[lead:], sources, strict=True)):
                first, last = np.searchsorted(source, [inner.start, inner.stop])
                target.append(slice(int(first), int(last)))
                part = np.take(part, source[first:last] - inner.start, axis=lead + axis)
            if part.size:
                yield tuple(target), part


def _along(part: NDArray[Any], axis: int, taps: Taps) -> NDArray[Any]:
    """Return an array of which one axis is resampled."""
    places, weights = taps
    if len(places) == 1:
        moved: NDArray[Any] = np.take(part, places[0], axis=axis)
        return moved
    # Of large integers float32 would lose digits.
    kind = np.result_type(part.dtype, np.float32)
    shape = [1] * part.ndim
    shape[axis] = -1
    total: NDArray[Any] | None = None
    for place, weight in zip(places, weights, strict=True):
        term = np.take(part, place, axis=axis) * weight.astype(kind).reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None  # there is at least one tap
    return total


def _as_type(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in the type of the array they come from; means of integers are rounded."""
    if values.dtype == dtype:
        return values
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values)
    return values.astype(dtype)
