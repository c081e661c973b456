"""Step 3: select patches, best first, until the foreground is covered."""

from __future__ import annotations

from typing import Any, Literal

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.methods.patches import bits
from instaseg.methods.patches.offsets import Window

PASSES = (500, 100, 50, 10, 0)
"""New voxels asked for in the passes over dense objects, where less than half a patch."""


def passes(cover: Literal["dense", "sparse"], patch_size: int) -> tuple[int, ...]:
    """Return how many new voxels a patch must exceed, pass by pass."""
    if cover == "sparse":
        return (0,)
    return tuple(least for least in PASSES if least < patch_size / 2)


def cover(
    scores: NDArray[np.floating],
    patches: NDArray[np.uint64],
    positions: NDArray[np.int64],
    *,
    mask: NDArray[np.bool_],
    window: Window,
    least: tuple[int, ...],
) -> NDArray[np.int64]:
    """Select patches from the best to the worst, pass by pass.

    Parameters
    ----------
    scores : (n,) float
        Score of each candidate; equal scores are walked in the order given (raster order).
    patches : (n, words) uint64
        Voxels each candidate covers (:func:`~instaseg.methods.patches.bits.patch_bits`).
    positions : (n, 3) int64
        Centres of the candidates in voxels.
    mask : (z, y, x) bool
        What is to be covered.
    window : Window
        The patch.
    least : tuple of int
        A patch is selected if it newly covers more voxels than this, for each pass in turn.

    Returns
    -------
    (m,) int64
        Indices of the selected candidates, in the order of selection.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    corners = positions - np.array(window.radius)
    picked = np.empty(len(order), dtype=np.int64)
    n = _walk(
        order, patches, corners, bits.lines(window), bits.pack_mask(mask), np.array(least), picked
    )
    return picked[:n]


@nb.njit(cache=True, nogil=True)
def _walk(
    order: Any, patches: Any, corners: Any, words: Any, mask: Any, least: Any, picked: Any
) -> int:
    # what a patch would add only shrinks: an old count bounds the new one from above
    bound = np.full(order.size, np.iinfo(np.int64).max)
    n = 0
    for needed in least:
        for c in order:
            if bound[c] <= needed:
                continue
            bound[c] = bits.covered(patches[c], corners[c], words, mask)
            if bound[c] > needed:
                bits.clear(patches[c], corners[c], words, mask)
                bound[c] = 0
                picked[n] = c
                n += 1
    return n
