"""Patches as bits: which voxels each patch claims, one run of 64-bit words per line of the patch.

A patch of ``(pz, py, px)`` voxels has ``pz * py`` lines of ``ceil(px / 64)`` words; bit `i` of word
`w` of a line is the voxel at ``x = 64 w + i``. Masks of the volume are packed in the same way along
x, with two words more, so that any 64 bits of a line are two shifts away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.methods.patches.offsets import Window
from instaseg.methods.patches.tiles import as_float32, tiles, unit_of

GATHERED = 4096
"""Patches gathered at a time where only some are wanted."""


def words_of(window: Window) -> int:
    """Return the number of 64-bit words per patch."""
    z, y, x = window.shape
    return z * y * (-(-x // 64))


def patch_bits(
    affinities: NDArray[Any], centres: NDArray[np.bool_], *, window: Window, threshold: float
) -> NDArray[np.uint64]:
    """Return the voxels above `threshold` of all patches centred in `centres`.

    Parameters
    ----------
    affinities : (K, z, y, x) float32, float16 or uint8
        Predicted patches.
    centres : (z, y, x) bool
        Centres of the patches, in raster order.
    window : Window
        The patch.
    threshold : float
        A voxel is in the patch if its probability is above.

    Returns
    -------
    (n, words) uint64
    """
    centres = np.ascontiguousarray(centres)
    number = np.cumsum(centres, dtype=np.int64).reshape(centres.shape) - 1
    out = np.zeros((int(np.count_nonzero(centres)), words_of(window)), dtype=np.uint64)
    tile = (1, 8, centres.shape[2])
    px, limit = window.shape[2], np.float32(threshold)
    for chunk, work in tiles(affinities, centres, radius=(0, 0, 0), tile=tile):
        shape, origin = chunk.shape[1:], work.origin
        limits = (limit, unit_of(chunk))
        _pack(chunk.reshape(-1), shape, origin, work.boxes, centres, number, px, limits, out)
    return out


def gather_bits(
    affinities: NDArray[Any], positions: NDArray[np.int64], *, window: Window, threshold: float
) -> NDArray[np.uint64]:
    """Return the voxels above `threshold` of the patches centred at `positions` ``(n, 3)``."""
    out = np.zeros((len(positions), words_of(window)), dtype=np.uint64)
    for low in range(0, len(positions), GATHERED):
        z, y, x = positions[low : low + GATHERED].T
        patches = as_float32(affinities[:, z, y, x].T) > np.float32(threshold)
        _pack_rows(patches, window.shape[2], out[low : low + GATHERED])
    return out


def pack_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return `mask` ``(z, y, x)`` packed along x into ``(z, y, ceil(x / 64) + 2)`` words."""
    z, y, x = mask.shape
    width = -(-x // 64) + 2
    padded = np.zeros((z, y, width * 64), dtype=bool)
    padded[..., :x] = mask
    return np.packbits(padded, axis=-1, bitorder="little").view(np.uint64)


def iterate_lines(window: Window) -> Iterator[tuple[int, int, int]]:
    """Yield z, y and first x offset from the patch's corner of each word, in their order."""
    pz, py, px = window.shape
    for z in range(pz):
        for y in range(py):
            for x in range(0, px, 64):
                yield z, y, x


def lines(window: Window) -> NDArray[np.int64]:
    """Return ``(words, 3)``: where each word of a patch begins, from the patch's corner."""
    return np.array(list(iterate_lines(window)), dtype=np.int64)


@nb.njit(cache=True, nogil=True)
def _pack_line(
    values: Any, at: int, plane: int, px: int, centres: Any, limits: Any, out: Any
) -> None:
    """Pack the patches centred in one line, which begins at `at` in a plane of `values`.

    `out` gets the patches of the line's centres one after the other.
    """
    threshold, unit = limits
    width = np.uint64(centres.size)
    words = np.zeros(centres.size, np.uint64)
    per_line = (px + 63) // 64
    for k in range(values.size // plane):
        begin = np.uint64(k * plane + at)
        bit = np.uint64(k % px % 64)
        for x in range(width):
            words[x] |= np.uint64(np.float32(values[begin + x]) * unit > threshold) << bit
        if bit == 63 or k % px == px - 1:
            n = 0
            for x in range(centres.size):
                if centres[x]:
                    out[n, (k // px) * per_line + k % px // 64] = words[x]
                    n += 1
                words[x] = 0


@nb.njit(cache=True, nogil=True, parallel=True)
def _pack(
    values: Any,
    shape: Any,
    origin: Any,
    boxes: Any,
    centres: Any,
    number: Any,
    px: int,
    limits: Any,
    out: Any,
) -> None:
    for i in nb.prange(boxes.shape[0]):
        z0, y0, x0 = boxes[i, 0]
        z1, y1, x1 = boxes[i, 1]
        for z in range(z0, z1):
            for y in range(y0, y1):
                line = centres[z, y, x0:x1]
                if not line.any():
                    continue
                at = ((z - origin[0]) * shape[1] + y - origin[1]) * shape[2] + x0 - origin[2]
                first = number[z, y, x0] if line[0] else number[z, y, x0] + 1
                plane = shape[0] * shape[1] * shape[2]
                _pack_line(values, at, plane, px, line, limits, out[first:])


@nb.njit(cache=True, nogil=True)
def _pack_rows(patches: Any, px: int, out: Any) -> None:
    per_line = (px + 63) // 64
    for n in range(patches.shape[0]):
        for k in range(patches.shape[1]):
            if patches[n, k]:
                out[n, (k // px) * per_line + (k % px) // 64] |= np.uint64(1) << np.uint64(
                    (k % px) % 64
                )


def list_voxels(
    patches: NDArray[np.uint64], positions: NDArray[np.int64], *, window: Window
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all voxels ``(n, 3)`` that patches at `positions` claim, and whose they are."""
    corners, words = positions - np.array(window.radius), lines(window)
    number = int(np.bitwise_count(patches).sum())
    voxels, owners = np.empty((number, 3), np.int64), np.empty(number, np.int64)
    _list_voxels(patches, corners, words, voxels, owners)
    return voxels, owners


@nb.njit(cache=True, nogil=True)
def _list_voxels(patches: Any, corners: Any, words: Any, voxels: Any, owners: Any) -> None:
    n = 0
    for p in range(patches.shape[0]):
        for w in range(words.shape[0]):
            left = patches[p, w]
            x = corners[p, 2] + words[w, 2]
            while left != 0:
                if left & np.uint64(1):
                    voxels[n, 0] = corners[p, 0] + words[w, 0]
                    voxels[n, 1] = corners[p, 1] + words[w, 1]
                    voxels[n, 2] = x
                    owners[n] = p
                    n += 1
                left >>= np.uint64(1)
                x += 1


@nb.njit(cache=True, nogil=True)
def popcount(v: Any) -> Any:
    """Return the number of set bits of a uint64; compilers know this as one instruction."""
    v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((v * np.uint64(0x0101010101010101)) >> np.uint64(56))


@nb.njit(cache=True, nogil=True)
def covered(bits: Any, corner: Any, words: Any, mask: Any) -> int:
    """Return how many voxels of the packed `mask` a patch at `corner` claims."""
    total = 0
    for w in range(bits.size):
        if bits[w] == 0:
            continue
        line = mask[corner[0] + words[w, 0], corner[1] + words[w, 1]]
        x = corner[2] + words[w, 2]
        k = x >> 6
        s = np.uint64(x & 63)
        here = (line[k] >> s) | ((line[k + 1] << np.uint64(1)) << (np.uint64(63) - s))
        total += popcount(here & bits[w])
    return total


@nb.njit(cache=True, nogil=True)
def covered_apart(bits: Any, corner: Any, words: Any, mask: Any, apart: Any) -> int:
    """Return how many voxels of the packed `mask` that are not in `apart` a patch claims."""
    total = 0
    for w in range(bits.size):
        if bits[w] == 0:
            continue
        z = corner[0] + words[w, 0]
        y = corner[1] + words[w, 1]
        x = corner[2] + words[w, 2]
        k = x >> 6
        s = np.uint64(x & 63)
        low = mask[z, y, k] & ~apart[z, y, k]
        high = mask[z, y, k + 1] & ~apart[z, y, k + 1]
        here = (low >> s) | ((high << np.uint64(1)) << (np.uint64(63) - s))
        total += popcount(here & bits[w])
    return total


@nb.njit(cache=True, nogil=True)
def keep_only(patches: Any, corners: Any, words: Any, mask: Any) -> None:
    """Drop the voxels that patches, which lie inside the packed `mask`, claim where it is not."""
    for p in range(patches.shape[0]):
        for w in range(words.shape[0]):
            line = mask[corners[p, 0] + words[w, 0], corners[p, 1] + words[w, 1]]
            x = corners[p, 2] + words[w, 2]
            k = x >> 6
            s = np.uint64(x & 63)
            patches[p, w] &= (line[k] >> s) | ((line[k + 1] << np.uint64(1)) << (np.uint64(63) - s))


@nb.njit(cache=True, nogil=True)
def put(bits: Any, corner: Any, words: Any, mask: Any) -> None:
    """Put the voxels a patch at `corner` claims into the packed `mask`."""
    for w in range(bits.size):
        if bits[w] == 0:
            continue
        line = mask[corner[0] + words[w, 0], corner[1] + words[w, 1]]
        x = corner[2] + words[w, 2]
        k = x >> 6
        s = np.uint64(x & 63)
        line[k] |= bits[w] << s
        line[k + 1] |= (bits[w] >> np.uint64(1)) >> (np.uint64(63) - s)


@nb.njit(cache=True, nogil=True)
def clear(bits: Any, corner: Any, words: Any, mask: Any) -> None:
    """Take the voxels a patch at `corner` claims out of the packed `mask`."""
    for w in range(bits.size):
        if bits[w] == 0:
            continue
        line = mask[corner[0] + words[w, 0], corner[1] + words[w, 1]]
        x = corner[2] + words[w, 2]
        k = x >> 6
        s = np.uint64(x & 63)
        line[k] &= ~(bits[w] << s)
        line[k + 1] &= ~((bits[w] >> np.uint64(1)) >> (np.uint64(63) - s))
