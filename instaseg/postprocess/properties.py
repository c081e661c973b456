"""Properties of one instance, measured in physical units on its mask.

Every function sees the instance alone, in its bounding box, so it does not matter how large the
image is or what lies beside it. Sources: perimeter by crossings after Cauchy and Crofton as in
Legland, Kieu, Devaux, Image Anal Stereol 26:83 (2007), doi:10.5566/ias.v26.p83-92; surfaces by
marching cubes, Lewiner et al., J Graph Tools 8:1 (2003), doi:10.1080/10867651.2003.10487582;
sphericity after Wadell, J Geol 43:250 (1935), doi:10.1086/624298.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes, mesh_surface_area, perimeter, regionprops

from instaseg.errors import DataError

Perimeter = Literal["crofton", "contour"]


@dataclass(frozen=True, eq=False)
class Body:
    """An instance in its bounding box.

    Parameters
    ----------
    mask : ndarray of bool, ([z,] y, x)
        At least one voxel is True, also on every face of the box.
    spacing : tuple of float
        Physical size of a voxel per axis.
    perimeter_by : {"crofton", "contour"}
        How a perimeter is measured, in 2-D.
    """

    mask: NDArray[np.bool_]
    spacing: tuple[float, ...]
    perimeter_by: Perimeter = "crofton"

    @cached_property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def size(self) -> float:
        """Area or volume: voxels times the physical size of one."""
        return self.voxels * math.prod(self.spacing)

    @cached_property
    def perimeter(self) -> float:
        """Length of the border, in 2-D."""
        if self.perimeter_by == "crofton":
            return crofton_perimeter(self.mask, self.spacing)
        return float(perimeter(self.mask)) * self.spacing[0]

    @cached_property
    def surface(self) -> float:
        """Area of the mesh around the voxels, in 3-D."""
        # Padded, or a box that fills its bounding box would have no surface.
        padded = np.pad(self.mask, 1).astype(np.float32)
        points, faces, _, _ = marching_cubes(padded, 0.5, spacing=self.spacing)
        return float(mesh_surface_area(points, faces))

    @cached_property
    def hull(self) -> ConvexHull:
        """Convex hull of the corners of the voxels, in physical units."""
        # Only the outermost voxels of every line can lie on the hull.
        last = self.mask.shape[-1] - 1
        there = self.mask.any(axis=-1)
        firsts = self.mask.argmax(axis=-1)[there]
        lasts = last - self.mask[..., ::-1].argmax(axis=-1)[there]
        lines = np.argwhere(there)
        ends = np.concatenate([np.column_stack([lines, firsts]), np.column_stack([lines, lasts])])
        corners = np.array(list(itertools.product((0, 1), repeat=self.mask.ndim)))
        points = np.unique((ends[:, None] + corners).reshape(-1, self.mask.ndim), axis=0)
        return ConvexHull(points * np.array(self.spacing))

    @cached_property
    def region(self) -> Any:
        """The instance as ``skimage.measure`` describes it."""
        return regionprops(self.mask.astype(np.uint8), spacing=self.spacing)[0]


def _sphericity_cubed(body: Body) -> float:
    return 36 * math.pi * body.size**2 / body.surface**3


def _circularity(body: Body) -> float:
    return 4 * math.pi * body.size / body.perimeter**2 if body.perimeter else 0.0


def _feret_diameter(body: Body) -> float:
    return float(pdist(body.hull.points[body.hull.vertices]).max())


def _diameter(body: Body) -> float:
    return float(max(n * size for n, size in zip(body.mask.shape, body.spacing, strict=True)))


_MEASURES: dict[str, Callable[[Body], float]] = {
    "voxels": lambda body: body.voxels,
    "area": lambda body: body.size,
    "volume": lambda body: body.size,
    "diameter": _diameter,
    "feret_diameter": _feret_diameter,
    "perimeter": lambda body: body.perimeter,
    "surface": lambda body: body.surface,
    "circularity": _circularity,
    "elongation": lambda body: body.perimeter**2 / (4 * math.pi * body.size),
    "sphericity": lambda body: math.cbrt(_sphericity_cubed(body)),
    "sphericity_cubed": _sphericity_cubed,
    "solidity": lambda body: body.size / float(body.hull.volume),
}


def measure(body: Body, names: Sequence[str]) -> dict[str, float]:
    """Return properties of an instance by name.

    Parameters
    ----------
    body : Body
        The instance.
    names : sequence of str
        Keys of :data:`instaseg.postprocess.config.PROPERTIES` for its number of axes.

    Examples
    --------
    >>> measure(Body(np.ones((2, 3), bool), (1.0, 0.5)), ["area", "diameter"])
    {'area': 3.0, 'diameter': 2.0}
    """
    return {name: float(_measure_of(name)(body)) for name in names}


def _measure_of(name: str) -> Callable[[Body], float]:
    if name in _MEASURES:
        return _MEASURES[name]
    return lambda body: float(getattr(body.region, name))


def crofton_perimeter(mask: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """Return the perimeter of a mask from its crossings with lines in four directions.

    Crofton's formula says that a curve's length is half the integral of its crossings with lines
    over the lines' angle and distance. Lines run along both axes and both diagonals of the pixels;
    each stands for the angles nearer to it than to the others. With square pixels this is
    ``skimage.measure.perimeter_crofton`` with four directions.

    Parameters
    ----------
    mask : ndarray of bool, (y, x)
    spacing : sequence of float
        Physical size of a pixel along y and x.
    """
    height, width = spacing
    diagonal = math.atan2(height, width)
    directions = {
        (0, 1): diagonal,
        (1, 0): math.pi / 2 - diagonal,
        (1, 1): math.pi / 4,
        (1, -1): math.pi / 4,
    }
    padded = np.pad(mask, 1)
    total = 0.0
    for (down, right), angles in directions.items():
        ahead = np.roll(padded, (-down, -right), axis=(0, 1))
        crossings = int(np.count_nonzero(padded != ahead))
        apart = height * width / math.hypot(down * height, right * width)
        total += angles * apart * crossings
    return total / 2


def check_properties(
    names: Sequence[str], spacing: Sequence[float], perimeter_by: Perimeter
) -> None:
    """Check that properties can be measured with a spacing.

    Raises
    ------
    DataError
        For a perimeter along the contour where pixels are not square.
    """
    needing = [name for name in names if name in ("perimeter", "circularity", "elongation")]
    if needing and perimeter_by == "contour" and len(set(spacing)) > 1:
        raise DataError(
            f'[postprocessing] perimeter = "contour" ({", ".join(needing)}): expected square'
            f' pixels, found the spacing {list(spacing)}; use perimeter = "crofton"'
        )
