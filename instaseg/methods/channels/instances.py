"""The instances of one label image, and what several channels need of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import fastremap
import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.regions.distance import distance_per_label


class Instances:
    """The instances of one label image; each measure is computed once, where it is first used.

    Parameters
    ----------
    labels : ndarray of int, ([z,] y, x)
        0 is background; ids may be any.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    inner : tuple of slice, optional
        The part that targets are made for, all by default; what is slow leaves out the rest.
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        spacing: Sequence[float],
        inner: tuple[slice, ...] | None = None,
    ) -> None:
        renumbered, names = fastremap.renumber(labels, preserve_zero=True, in_place=False)
        self.labels: NDArray[np.int32] = np.ascontiguousarray(renumbered, dtype=np.int32)
        """``([z,] y, x)``: 0 is background, instances are 1 ... `count`."""
        self.count = len(names) - (0 in names)
        """Number of instances."""
        self.spacing = tuple(float(one) for one in spacing)
        self.inner = inner or tuple(slice(0, n) for n in self.labels.shape)
        """The part that targets are made for."""

    @property
    def ndim(self) -> int:
        """Spatial axes."""
        return self.labels.ndim

    @cached_property
    def foreground(self) -> NDArray[np.bool_]:
        """Where there is an instance."""
        return self.labels > 0

    @cached_property
    def places(self) -> tuple[NDArray[np.intp], ...]:
        """Index per axis of every foreground voxel."""
        return np.nonzero(self.foreground)

    @cached_property
    def owners(self) -> NDArray[np.int32]:
        """Instance of every foreground voxel, in the order of :attr:`places`."""
        found: NDArray[np.int32] = self.labels[self.places]
        return found

    @cached_property
    def boxes(self) -> list[tuple[slice, ...]]:
        """Bounding box of instance ``i + 1``."""
        return [box for box in ndimage.find_objects(self.labels) if box is not None]

    @cached_property
    def wanted(self) -> list[tuple[int, tuple[slice, ...]]]:
        """Number and bounding box of the instances that reach into the inner part."""
        return [
            (number, box)
            for number, box in enumerate(self.boxes, start=1)
            if all(
                one.start < part.stop and part.start < one.stop
                for one, part in zip(box, self.inner, strict=True)
            )
        ]

    @cached_property
    def distance(self) -> NDArray[np.float32]:
        """Distance of every foreground voxel to the nearest one outside its instance."""
        return finite_distance(self.labels, self.spacing)

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Centre of mass per instance in voxels, ``(count + 1, ndim)``; row 0 is not used."""
        sizes = np.maximum(np.bincount(self.owners, minlength=self.count + 1), 1)
        sums = [np.bincount(self.owners, axis, self.count + 1) for axis in self.places]
        found: NDArray[np.float64] = np.stack(sums, axis=1) / sizes[:, None]
        return found

    @cached_property
    def middles(self) -> NDArray[np.int64]:
        """Voxel of each instance nearest its centre of mass, ``(count + 1, ndim)``.

        Of voxels equally near, the first in raster order; row 0 is not used.
        """
        away = self.squared_distance_to(self.centres)
        # rounded, or the last bit would choose among voxels that are equally near
        order = np.lexsort((np.round(away, 6), self.owners))
        _, first = np.unique(self.owners[order], return_index=True)
        found = np.zeros((self.count + 1, self.ndim), np.int64)
        found[1:] = np.stack([axis[order[first]] for axis in self.places], axis=1)
        return found

    def squared_distance_to(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Return the squared distance of every foreground voxel to the point of its instance.

        Parameters
        ----------
        points : ndarray, (count + 1, ndim)
            In voxels, by instance.

        Returns
        -------
        ndarray of float64, (n,)
            Squared physical units, in the order of :attr:`places`.
        """
        total = np.zeros(len(self.owners))
        for axis, (place, size) in enumerate(zip(self.places, self.spacing, strict=True)):
            total += ((place - points[self.owners, axis]) * size) ** 2
        return total

    def painted(self, values: NDArray[Any], *, background: float = 0.0) -> NDArray[np.float32]:
        """Return an image of values given for every foreground voxel."""
        image = np.full(self.labels.shape, background, np.float32)
        image[self.places] = values
        return image


def finite_distance(labels: NDArray[np.integer], spacing: Sequence[float]) -> NDArray[np.float32]:
    """Return the distance of every labelled voxel to the nearest one that is not of its label.

    Where a label fills the whole array, to what lies beyond the array.
    """
    distance = distance_per_label(labels, spacing)
    if np.isinf(distance).any():
        return distance_per_label(labels, spacing, border="wall")
    return distance


def extremes(
    owners: NDArray[np.int32], values: NDArray[Any], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the largest value of every instance.

    Parameters
    ----------
    owners : ndarray of int32, (n,)
        Instance 1 ... `count` of each value.
    values : ndarray, (n,)
        Numbers.
    count : int
        Number of instances.

    Returns
    -------
    least, largest : ndarray of float64, (count + 1,)
        By instance; row 0 is not used.
    """
    least, largest = np.full(count + 1, np.inf), np.full(count + 1, -np.inf)
    _extremes(owners, values, least, largest)
    return least, largest


@nb.njit(cache=True, nogil=True)
def _extremes(owners: Any, values: Any, least: Any, largest: Any) -> None:
    for i in range(owners.size):
        owner, value = owners[i], values[i]
        least[owner] = min(least[owner], value)
        largest[owner] = max(largest[owner], value)
