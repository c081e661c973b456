"""Step 6b: paint each instance as the union of its patches."""

from __future__ import annotations

from typing import Any, Literal

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.methods.patches import bits
from instaseg.methods.patches.offsets import Window


def paint(
    instances: NDArray[np.int64],
    patches: NDArray[np.uint64],
    positions: NDArray[np.int64],
    *,
    shape: tuple[int, int, int],
    window: Window,
    output: Literal["single", "one_per_channel", "packed"] = "single",
) -> NDArray[np.int32]:
    """Return the instances as labels.

    Parameters
    ----------
    instances : (n,) int64
        Instance of each patch, from 1; 0 where it belongs to none.
    patches : (n, words) uint64
        Voxels each patch claims.
    positions : (n, 3) int64
        Centres in voxels.
    shape : (z, y, x)
        Shape of the volume in voxels.
    window : Window
        The patch.
    output : {"single", "one_per_channel", "packed"}
        One label image, painted from the last instance to the first, so that the one with the best
        patch wins where they overlap; or one channel per instance; or each instance, from the
        first, in the first channel where it overlaps no other.

    Returns
    -------
    (z, y, x) int32, or (channels, z, y, x) int32
        Labels 1, 2, ...; 0 is background. There is always at least one channel.
    """
    corners = positions - np.array(window.radius)
    words = bits.lines(window)
    count = int(instances.max(initial=0))
    members = _members(instances, count)
    if output == "single":
        labels = np.zeros(shape, dtype=np.int32)
        paint_over(instances, patches, positions, window=window, out=labels)
        return _consecutive(labels)
    if output == "one_per_channel":
        channels = np.zeros((max(1, count), *shape), dtype=np.int32)
        for i in range(count):
            _paint(patches, corners, words, members[i], channels[i], i + 1)
        return channels
    return _packed(members, patches, corners, words, shape)


def paint_over(
    instances: NDArray[np.int64],
    patches: NDArray[np.uint64],
    positions: NDArray[np.int64],
    *,
    window: Window,
    out: NDArray[np.int32],
) -> None:
    """Paint instances into `out` ``(z, y, x)``, from the last to the first."""
    corners = positions - np.array(window.radius)
    words = bits.lines(window)
    for i, members in reversed(list(enumerate(_members(instances, int(instances.max(initial=0)))))):
        _paint(patches, corners, words, members, out, i + 1)


def _members(instances: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Return the patches of each instance."""
    order = np.argsort(instances, kind="stable")
    first = np.searchsorted(instances[order], np.arange(1, count + 2))
    return [order[first[i] : first[i + 1]] for i in range(count)]


def _packed(
    members: list[NDArray[np.int64]],
    patches: NDArray[np.uint64],
    corners: NDArray[np.int64],
    words: NDArray[np.int64],
    shape: tuple[int, int, int],
) -> NDArray[np.int32]:
    """Paint each instance into the first channel in which all its voxels are free."""
    channels = [np.zeros(shape, dtype=np.int32)]
    for i, patch in enumerate(members):
        free = (c for c in channels if not _touches(patches, corners, words, patch, c))
        channel = next(free, None)
        if channel is None:
            channel = np.zeros(shape, dtype=np.int32)
            channels.append(channel)
        _paint(patches, corners, words, patch, channel, i + 1)
    return np.stack(channels)


def _consecutive(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renumber labels without gaps, in their order: an instance may be painted over entirely."""
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    number = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return np.asarray(number[labels], dtype=np.int32)


@nb.njit(cache=True, nogil=True)
def _paint(patches: Any, corners: Any, words: Any, members: Any, out: Any, label: int) -> None:
    for p in members:
        for w in range(words.shape[0]):
            left = patches[p, w]
            line = out[corners[p, 0] + words[w, 0], corners[p, 1] + words[w, 1]]
            x = corners[p, 2] + words[w, 2]
            while left != 0:
                if left & np.uint64(1):
                    line[x] = label
                left >>= np.uint64(1)
                x += 1


@nb.njit(cache=True, nogil=True)
def _touches(patches: Any, corners: Any, words: Any, members: Any, channel: Any) -> bool:
    for p in members:
        for w in range(words.shape[0]):
            left = patches[p, w]
            line = channel[corners[p, 0] + words[w, 0], corners[p, 1] + words[w, 1]]
            x = corners[p, 2] + words[w, 2]
            while left != 0:
                if left & np.uint64(1) and line[x] != 0:
                    return True
                left >>= np.uint64(1)
                x += 1
    return False
