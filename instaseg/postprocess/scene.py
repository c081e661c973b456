"""What post-processing knows of a sample beside its instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Source(Protocol):
    """An array in memory or on disk; indexing reads that part."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent per axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return the part named by one slice per axis."""


@dataclass(frozen=True)
class Scene:
    """What post-processing knows of a sample beside its instances.

    Parameters
    ----------
    spacing : tuple of float
        Physical size of a voxel per axis; its length is the number of spatial axes.
    roi : Source, optional
        Not 0 where instances are kept, ``([z,] y, x)``. Needed where ``roi_key`` is set.
    mask : Source, optional
        True where instances may grow, ``([z,] y, x)``. Needed where ``[voronoi] head`` is set.
    """

    spacing: tuple[float, ...]
    roi: Source | None = None
    mask: Source | None = None

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.spacing)


def without_units(ndim: int) -> Scene:
    """Return a scene whose unit of length is the voxel."""
    return Scene((1.0,) * ndim)
