"""Step 6 where instances overlap: they run through, along the patches beside the overlap.

Patches centred in an overlap are not used, and those that are selected cover what is visible, so an
instance may miss voxels that it shares. Every visible voxel of one instance only knows its part of
the overlap: what its own patch claims there is added to its instance::

      aaaaaa##........      a  painted by instance a alone, its patches claim ##
      .......##bbbbbbb      #  overlap
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from instaseg.geometry import Box
from instaseg.methods.patches import bits
from instaseg.methods.patches.offsets import Window
from instaseg.methods.patches.painting import paint_over


@dataclass(frozen=True)
class Claims:
    """Patches and the instances they are painted for.

    Parameters
    ----------
    instances : (n,) int64
        Instance of each, from 1.
    patches : (n, words) uint64
        Voxels each claims.
    positions : (n, 3) int64
        Their centres in voxels.
    """

    instances: NDArray[np.int64]
    patches: NDArray[np.uint64]
    positions: NDArray[np.int64]

    def inside(self, mask: NDArray[np.bool_], *, window: Window) -> Claims:
        """Return what the claims have in a mask ``(z, y, x)``, inside which the patches lie."""
        patches, corners = self.patches.copy(), self.positions - np.array(window.radius)
        bits.keep_only(patches, corners, bits.lines(window), bits.pack_mask(mask))
        return Claims(self.instances, patches, self.positions)

    def relative_to(self, box: Box) -> Claims:
        """Return the claims as seen from the first voxel of a box."""
        return Claims(self.instances, self.patches, self.positions - np.array(box.begin))

    def __add__(self, other: Claims) -> Claims:
        """Return both together."""
        return Claims(
            np.concatenate([self.instances, other.instances]),
            np.concatenate([self.patches, other.patches]),
            np.concatenate([self.positions, other.positions]),
        )


def painted_once(claims: Claims, shape: tuple[int, ...], *, window: Window) -> NDArray[np.int32]:
    """Return the instance of every voxel ``(z, y, x)`` that only one instance claims, else 0."""
    kept = claims.instances > 0
    instances, patches, positions = claims.instances[kept], claims.patches[kept], claims.positions
    positions = positions[kept]
    numbers, dense = np.unique(instances, return_inverse=True)
    first, last = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    paint_over(dense + 1, patches, positions, window=window, out=first)
    paint_over(len(numbers) - dense, patches, positions, window=window, out=last)
    last = np.where(last > 0, len(numbers) + 1 - last, 0)
    named = np.concatenate([[0], numbers]).astype(np.int32)
    return np.asarray(np.where(first == last, named[first], 0), dtype=np.int32)


def claims_in_overlap(
    affinities: NDArray[Any],
    alone: NDArray[np.int32],
    overlap: NDArray[np.bool_],
    *,
    window: Window,
    threshold: float,
) -> Claims:
    """Return what the patches of voxels of one instance claim in the overlap.

    Parameters
    ----------
    affinities : (K, z, y, x) float32, float16 or uint8
        Predicted patches.
    alone : (z, y, x) int
        Instance of each voxel whose patch counts; 0 elsewhere.
    overlap : (z, y, x) bool
        Voxels of more than one instance.
    window : Window
        The patch.
    threshold : float
        A patch claims voxels of higher probability.
    """
    near = maximum_filter(overlap, size=window.shape, mode="constant")
    positions = np.argwhere((alone > 0) & near)
    patches = bits.gather_bits(affinities, positions, window=window, threshold=threshold)
    corners = positions - np.array(window.radius)
    bits.keep_only(patches, corners, bits.lines(window), bits.pack_mask(overlap))
    used = patches.any(axis=1)
    instances = alone[tuple(positions[used].T)].astype(np.int64)
    return Claims(instances, patches[used], positions[used])
