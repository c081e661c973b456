"""Walk affinities tile by tile: what each thread works on, without a copy of the whole array.

A tile is the box whose voxels are computed; the patches that reach into it are centred in the tile
grown by the patch's radius::

      patches  |rrr|tttttttt|rrr|
      next             |rrr|tttttttt|rrr|       (tiles are disjoint, what they read overlaps)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import grid, whole

CHUNK_BYTES = 2**27
"""Upper bound of a converted piece of the affinities (one row of tiles is the lower one)."""


@dataclass(frozen=True)
class Work:
    """Tiles of one piece of the affinities, dealt to the threads.

    Parameters
    ----------
    origin : (3,) int64
        Position of the piece's first voxel.
    boxes : (n, 2, 3) int64
        Begin and end of the tiles, those of one worker side by side.
    first : (workers + 1,) int64
        Index of each worker's first tile.
    """

    origin: NDArray[np.int64]
    boxes: NDArray[np.int64]
    first: NDArray[np.int64]


def as_float32(affinities: NDArray[Any]) -> NDArray[np.float32]:
    """Return contiguous float32 probabilities; no copy where they are that already."""
    if affinities.dtype == np.uint8:
        return np.asarray(np.multiply(affinities, np.float32(1 / 255), dtype=np.float32))
    plain: NDArray[np.float32] = np.ascontiguousarray(affinities, dtype=np.float32)
    return plain


def unit_of(values: NDArray[Any]) -> np.float32:
    """Return the probability that one unit of stored values means."""
    return np.float32(1 / 255) if values.dtype == np.uint8 else np.float32(1)


def tiles(
    affinities: NDArray[Any],
    wanted: NDArray[np.bool_],
    *,
    radius: tuple[int, int, int],
    tile: tuple[int, int, int],
) -> Iterator[tuple[NDArray[Any], Work]]:
    """Yield contiguous pieces of the affinities and the tiles to compute from them.

    Contiguous float32 or uint8 is one piece and is not copied (kernels multiply with
    :func:`unit_of` what they read); anything else is converted to float32 slab by slab.

    Parameters
    ----------
    affinities : (K, z, y, x) float32, float16 or uint8
        Predicted patches.
    wanted : (z, y, x) bool
        Voxels to compute; tiles without any are left out.
    radius : tuple of int
        Reach of a patch in voxels.
    tile : tuple of int
        Shape of a tile in voxels.
    """
    shape = wanted.shape
    boxes = [box for box in grid(whole(shape), tile) if wanted[box.slices].any()]
    axis = 0 if shape[0] > 1 else 1
    plain = affinities.dtype in (np.float32, np.uint8) and affinities.flags.c_contiguous
    step = shape[axis] if plain else _slab(affinities, axis, tile[axis])
    for low in range(0, shape[axis], step):
        mine = [box for box in boxes if low <= box.begin[axis] < low + step]
        if not mine:
            continue
        begin = max(0, low - radius[axis]) if not plain else 0
        end = shape[axis] if plain else min(shape[axis], low + step + radius[axis])
        part = (slice(None),) * (axis + 1) + (slice(begin, end),)
        origin = np.zeros(3, dtype=np.int64)
        origin[axis] = begin
        corners = np.array([(box.begin, box.end) for box in mine], dtype=np.int64)
        load = np.array([np.count_nonzero(wanted[box.slices]) for box in mine])
        piece = affinities[part] if plain else as_float32(affinities[part])
        yield piece, Work(origin, *_deal(corners, load))


def _slab(affinities: NDArray[Any], axis: int, tile: int) -> int:
    """Return the thickness of a slab: whole tiles, at most `CHUNK_BYTES` where possible."""
    size = affinities.size // affinities.shape[axis + 1] * 4
    return tile * max(1, int(CHUNK_BYTES // (size * tile)))


def _deal(
    boxes: NDArray[np.int64], load: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Deal boxes like cards, heaviest first, back and forth; return them and each hand's first."""
    workers = min(nb.get_num_threads(), len(boxes))
    order = np.argsort(-load, kind="stable")
    position = np.arange(len(order))
    turn = position % (2 * workers)
    worker = np.minimum(turn, 2 * workers - 1 - turn)
    hands = [order[worker == w] for w in range(workers)]
    first = np.cumsum([0, *(len(hand) for hand in hands)])
    return np.ascontiguousarray(boxes[np.concatenate(hands)]), first.astype(np.int64)


@nb.njit(cache=True, nogil=True)
def grown(box: Any, radius: Any, shape: Any) -> Any:
    """Return begin and end of `box` ``(2, 3)`` grown by `radius` and cut to `shape`."""
    out = np.empty_like(box)
    for axis in range(3):
        out[0, axis] = max(0, box[0, axis] - radius[axis])
        out[1, axis] = min(shape[axis], box[1, axis] + radius[axis])
    return out


@nb.njit(cache=True, nogil=True)
def most(mask: Any, boxes: Any, radius: Any) -> int:
    """Return the largest number of voxels of `mask` in any of `boxes` grown by `radius`."""
    largest = 0
    for i in range(boxes.shape[0]):
        box = grown(boxes[i], radius, mask.shape)
        n = 0
        for z in range(box[0, 0], box[1, 0]):
            for y in range(box[0, 1], box[1, 1]):
                for x in range(box[0, 2], box[1, 2]):
                    n += mask[z, y, x]
        largest = max(largest, n)
    return largest
