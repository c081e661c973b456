"""What post-processing knows of a sample beside its instances."""

from __future__ import annotations

from dataclasses import dataclass

from instaseg.io.arrays import ArraySource


@dataclass(frozen=True)
class Scene:
    """What post-processing knows of a sample beside its instances.

    Parameters
    ----------
    spacing : tuple of float
        Physical size of a voxel per axis; its length is the number of spatial axes.
    roi : ArraySource, optional
        Not 0 where instances are kept, ``([z,] y, x)``. Needed where ``roi_key`` is set.
    mask : ArraySource, optional
        True where instances may grow, ``([z,] y, x)``. Needed where ``[voronoi] head`` is set.
    """

    spacing: tuple[float, ...]
    roi: ArraySource | None = None
    mask: ArraySource | None = None

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.spacing)


def without_units(ndim: int) -> Scene:
    """Return a scene whose unit of length is the voxel."""
    return Scene((1.0,) * ndim)
