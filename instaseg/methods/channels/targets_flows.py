"""Targets of flows: directions along which heat from the middle of an instance has spread.

C. Stringer et al., Cellpose: a generalist algorithm for cellular segmentation, Nature Methods 18
(2021), doi:10.1038/s41592-020-01018-x, "Creation of training data".
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.methods.channels.instances import Instances


def flow(instances: Instances) -> NDArray[np.float32]:
    """Return the direction to the middle of the own instance, around its corners.

    Heat flows in at the voxel nearest the centre of mass; in each step a voxel takes the mean of
    the 3^d voxels around it, outside of the instance it is cold. The flow is the gradient of the
    heat.

    Returns
    -------
    ndarray of float32, (ndim, [z,] y, x)
        Unit vectors in physical space, axes in the order of the array's; 0 in the background, in
        instances of one voxel, and in those that do not reach into the inner part.
    """
    found = np.zeros((instances.ndim, *instances.labels.shape), np.float32)
    spacing = np.array(instances.spacing).reshape(-1, *(1,) * instances.ndim)
    wide = tuple(axis for axis, n in enumerate(instances.labels.shape) if n > 1)
    for number, box in instances.wanted:
        own = instances.labels[box] == number
        middle = instances.middles[number] - [one.start for one in box]
        gradient = _relative_gradient(_heat(own, middle, wide), own, wide) / spacing
        length = np.linalg.norm(gradient, axis=0)
        # symmetric neighbours cancel out but for the last bits
        known = own & (length > _NOISE)
        found[:, *box][:, known] = gradient[:, known] / length[known]
    return found


# A gradient is divided by the heat itself, so this is the same for all sizes.
_NOISE = 1e-9


def _heat(
    own: NDArray[np.bool_], middle: NDArray[np.int64], wide: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the heat of one instance ``own.shape + 2`` after as often as it has spread."""
    extents = [own.shape[axis] for axis in wide]
    rounds = 2 * (sum(extents) + 4) if len(wide) <= 2 else 6 * (sum(extents) + 3)
    # volumes of one slice are images, rows of voxels too
    shape = (1,) * (3 - own.ndim) + own.shape
    inside = np.pad(own.reshape(shape).astype(np.float64), 1)
    inside /= 3.0 ** len(wide)
    heat = np.zeros(inside.shape)
    place = tuple(int(one) + 1 for one in (*(0,) * (3 - own.ndim), *middle))
    _spread(heat, inside, place, rounds)
    return heat.reshape(heat.shape[3 - own.ndim :]) if own.ndim == 3 else heat[1]


def _relative_gradient(
    heat: NDArray[np.float64], own: NDArray[np.bool_], wide: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the difference of the heat behind and before, by the heat at the voxel itself."""
    core = tuple(slice(1, -1) for _ in own.shape)
    scale = np.where(heat[core] > 0, heat[core], 1.0)
    gradient = np.zeros((own.ndim, *own.shape))
    for axis in wide:
        ahead, behind = list(core), list(core)
        ahead[axis], behind[axis] = slice(2, None), slice(0, -2)
        gradient[axis] = (heat[tuple(ahead)] - heat[tuple(behind)]) / scale
    return gradient


@nb.njit(cache=True, nogil=True)
def _spread(heat: Any, inside: Any, middle: Any, rounds: int) -> None:
    """Let heat flow in at one voxel and spread, so often.

    `inside` is what a sum of neighbours is multiplied by: 0 outside. All arrays have a cold frame
    of one voxel. Sums over the neighbourhood are formed along one axis after the other.
    """
    depth, height, width = heat.shape
    along_x, along_y = np.zeros(heat.shape), np.zeros(heat.shape)
    for _ in range(rounds):
        heat[middle[0], middle[1], middle[2]] += 1.0
        for z in range(1, depth - 1):
            for y in range(1, height - 1):
                for x in range(1, width - 1):
                    along_x[z, y, x] = heat[z, y, x - 1] + heat[z, y, x] + heat[z, y, x + 1]
        for z in range(1, depth - 1):
            for y in range(1, height - 1):
                for x in range(1, width - 1):
                    along_y[z, y, x] = (
                        along_x[z, y - 1, x] + along_x[z, y, x] + along_x[z, y + 1, x]
                    )
        for z in range(1, depth - 1):
            for y in range(1, height - 1):
                for x in range(1, width - 1):
                    heat[z, y, x] = inside[z, y, x] * (
                        along_y[z - 1, y, x] + along_y[z, y, x] + along_y[z + 1, y, x]
                    )
