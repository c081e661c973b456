"""Growth of instances inside a mask: every voxel to the instance that is nearest inside the mask.

Distances are lengths of paths over voxels of the mask, with steps to all 8 or 26 neighbours in
physical units (a chamfer distance, Borgefors, CVGIP 34:344 (1986),
doi:10.1016/S0734-189X(86)80047-0): they do not leak across gaps. Steps are counted in thousandths
of the shortest voxel side, in whole numbers, so sums are exact, and a voxel's distance and label,
the smallest of those equally near, depend on no order. That is why blocks can be visited again and
again, each with what its neighbours know, until nothing changes any more: the end is the same as if
the whole were worked on at once.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import find_components
from instaseg.geometry import Box, whole
from instaseg.io.arrays import ArraySource
from instaseg.postprocess.channel import Editable, WorkArray

PER_SIDE = 1000
"""Steps per side of the shortest voxel axis."""

FAR = np.iinfo(np.int64).max
"""Distance where no instance reaches."""


def grow_in_mask(channel: Editable, mask: ArraySource, *, most: float | None = None) -> None:
    """Give the voxels of a mask to the instance that is nearest inside the mask.

    Instances keep the voxels they have, also those outside the mask.

    Parameters
    ----------
    channel : Channel
        The instances.
    mask : ArraySource
        True where instances may grow, ``([z,] y, x)``.
    most : float, optional
        How far they grow at most, in physical units.
    """
    blocks = channel.blocks
    unit = min(channel.spacing) / PER_SIDE
    limit = FAR if most is None else math.floor(most / unit * (1 + 1e-9))
    with channel.new_array("distances", blocks.shape, np.dtype(np.int64)) as distances:
        for box in blocks.boxes:
            distances[box.slices] = np.where(channel.read(box) > 0, 0, FAR)
        waiting = deque(range(len(blocks)))
        while waiting:
            box = blocks.boxes[waiting.popleft()]
            if _spread_in(channel, distances, mask, box=box, limit=limit):
                beside = blocks.touching(box.grow((1,) * channel.ndim))
                waiting += [n for n in beside if blocks.boxes[n] != box and n not in waiting]


def _spread_in(
    channel: Editable, distances: WorkArray, mask: ArraySource, *, box: Box, limit: int
) -> bool:
    """Let instances grow in a block from it and the voxels around it; return if any did."""
    outer = box.grow((1,) * channel.ndim).intersect(whole(channel.blocks.shape))
    core = box.relative_to(outer).slices
    free = np.zeros(outer.shape, bool)
    free[core] = mask[box.slices] != 0
    # One voxel more on all sides, where nothing grows: no step leaves the arrays.
    labels = np.pad(channel.read(outer).astype(np.int64), 1)
    reached = np.pad(distances[outer.slices], 1, constant_values=FAR)
    steps, lengths = _steps(channel.spacing, labels.shape)
    flat = labels.reshape(-1), reached.reshape(-1), np.pad(free, 1).reshape(-1)
    if not _spread(flat, steps, lengths, limit):
        return False
    inner = (slice(1, -1),) * channel.ndim
    channel.write(box, labels[inner][core].astype(channel.array.dtype))
    distances[box.slices] = reached[inner][core]
    return True


def _steps(
    spacing: Sequence[float], shape: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the steps to all neighbours in a flattened array, and their lengths, ``(k,)`` each."""
    unit = min(spacing) / PER_SIDE
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    ways = [way for way in itertools.product((-1, 0, 1), repeat=len(spacing)) if any(way)]
    lengths = [
        round(math.hypot(*(w * s for w, s in zip(way, spacing, strict=True))) / unit)
        for way in ways
    ]
    return np.array(ways, np.int64) @ np.array(strides, np.int64), np.array(lengths, np.int64)


@nb.njit(cache=True, nogil=True)
def _spread(volumes: Any, steps: Any, lengths: Any, limit: int) -> bool:
    """Lower distances, then labels, of free voxels until none is too high; return if any was.

    `volumes` are labels and distances, which are changed, and where that is allowed, flattened.
    """
    labels, reached, free = volumes
    changed = False
    heap = _sources(volumes, steps)
    while heap:
        distance, label, place = heapq.heappop(heap)
        if reached[place] != distance or labels[place] != label:
            continue
        for k in range(len(steps)):
            beside = place + steps[k]
            if not free[beside]:
                continue
            further = distance + lengths[k]
            nearer = further < reached[beside] or (
                further == reached[beside] and label < labels[beside]
            )
            if nearer and further <= limit:
                reached[beside], labels[beside] = further, label
                heapq.heappush(heap, (further, label, beside))
                changed = True
    return changed


@nb.njit(cache=True, nogil=True)
def _sources(volumes: Any, steps: Any) -> Any:
    """Return, as a heap, the voxels that were reached beside free ones that are further away.

    The others, such as those inside instances, have nobody to tell.
    """
    labels, reached, free = volumes
    heap = [(reached[0], labels[0], steps[0])]
    heap.clear()
    for place in range(len(labels)):
        if reached[place] == FAR:
            continue
        for step in steps:
            if free[place + step] and reached[place + step] > reached[place]:
                heap.append((reached[place], labels[place], np.int64(place)))
                break
    heapq.heapify(heap)
    return heap


def label_empty_parts(channel: Editable, mask: ArraySource) -> None:
    """Make an instance of each connected part of a mask in which no instance is.

    Parts are connected by faces, edges and corners, through instances too. Their labels follow the
    largest there is, in the order of the parts' first voxels.

    Parameters
    ----------
    channel : Channel
        The instances; its array has room for the new labels.
    mask : ArraySource
        ``([z,] y, x)``.
    """
    blocks = channel.blocks

    def parts(box: Box) -> NDArray[np.bool_]:
        return np.asarray((mask[box.slices] != 0) | (channel.read(box) > 0))

    components, numbers = find_components(parts, blocks)
    empty, largest = np.ones(len(components.sizes) + 1, bool), 0
    empty[0] = False
    for block, box in enumerate(blocks.boxes):
        labels = channel.read(box)
        empty[numbers(block)[labels > 0]] = False
        largest = max(largest, int(labels.max(initial=0)))
    new = np.where(empty, largest + np.cumsum(empty), 0)
    for block, box in enumerate(blocks.boxes):
        labels, fresh = channel.read(box), new[numbers(block)]
        channel.write(box, np.where(fresh > 0, fresh, labels).astype(channel.array.dtype))
