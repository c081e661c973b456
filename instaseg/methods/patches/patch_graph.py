"""Step 5: how much the consensus wants two selected patches to be one instance.

The affinity of two patches is the mean consensus over the pairs of a voxel of the one and a voxel
of the other within a patch's reach. Summed pair by pair that costs ``|a| * |b|`` per edge.
Instead, each patch `a` adds up once, for all voxels `q` around it, what its voxels before `q`
say of `q` (contiguous runs of the consensus); an edge then is a sum over the voxels of `b`, and
the voxels after `q` come in when `b` does the same. All sums are of integers, so their order is
irrelevant.

Pairs whose voxels lie in both patches agree trivially. The published kernel keeps a pseudo-random
fifth of them; here they have that weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from instaseg.methods.patches import bits
from instaseg.methods.patches.consensus import Consensus
from instaseg.methods.patches.offsets import Window
from instaseg.regions.partition import Graph


@dataclass(frozen=True)
class EdgeSums:
    """What the consensus says on pairs of patches: whole numbers, so that parts can be added.

    Parameters
    ----------
    edges : (m, 2) int64
        Pairs of patches ``a < b``, in lexicographic order.
    every : (m, 2) int64
        Sum of the fixed-point consensus over all ordered pairs of a voxel of the one and a voxel of
        the other within reach, and number of these pairs.
    same : (m, 2) int64
        The same over unordered pairs whose voxels both lie in both patches.
    """

    edges: NDArray[np.int64]
    every: NDArray[np.int64]
    same: NDArray[np.int64]


def patch_graph(
    consensus: Consensus,
    patches: NDArray[np.uint64],
    positions: NDArray[np.int64],
    *,
    distance: int,
    same_patch_weight: float,
) -> Graph:
    """Return the graph of the selected patches.

    Parameters
    ----------
    consensus : Consensus
        Step 1.
    patches : (n, words) uint64
        Voxels each patch claims.
    positions : (n, 3) int64
        Their centres in voxels.
    distance : int
        Patches farther apart than this many patch shapes, along any axis, share no edge.
    same_patch_weight : float
        Weight of voxel pairs that lie in both patches.

    Returns
    -------
    Graph
        Strengths are mean consensus; pairs without any voxel pair within reach share no edge.
    """
    edges = neighbours(positions, consensus.window, distance)
    sums = edge_sums(consensus, patches, positions, edges)
    return weighted_graph(
        sums, len(positions), scale=consensus.scale, same_patch_weight=same_patch_weight
    )


def edge_sums(
    consensus: Consensus,
    patches: NDArray[np.uint64],
    positions: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> EdgeSums:
    """Return the sums over the pairs of voxels whose first one has a row of the consensus.

    Parameters
    ----------
    consensus : Consensus
        Step 1; of the whole volume, or with rows for the voxels of a block.
    patches : (n, words) uint64
        Voxels each patch claims; those outside the consensus's volume do not count.
    positions : (n, 3) int64
        Their centres in voxels of the consensus's volume; may lie outside.
    edges : (m, 2) int64
        Pairs ``a < b`` of patches, in lexicographic order.
    """
    window = consensus.window
    directed, start = _directed(edges, len(positions))
    corners = positions - np.array(window.radius)
    words = bits.lines(window)
    shape, strides = np.array(window.shape), np.array(window.strides)
    sums = np.zeros((len(edges), 2, 2), dtype=np.int64)
    same = np.zeros((len(edges), 2), dtype=np.int64)
    if len(edges):
        first = np.zeros(len(positions) + 1, dtype=np.int64)
        nothing = np.zeros((0, 4), dtype=np.int32)
        _voxels(patches, corners, words, consensus.index, first, nothing)
        voxels = np.zeros((first[-1], 4), dtype=np.int32)
        _voxels(patches, corners, words, consensus.index, first, voxels)
        rows = consensus.rows
        _sum_edges(rows, voxels, first, corners, shape, strides, directed, start, sums)
        _sum_same(rows, voxels, first, patches, corners, shape, strides, edges, same)
    return EdgeSums(edges, sums.sum(axis=1), same)


def weighted_graph(sums: EdgeSums, nodes: int, *, scale: float, same_patch_weight: float) -> Graph:
    """Return the graph whose strengths are the means that `sums` add up to.

    `scale` is the consensus of one fixed-point unit; the other parameters are those of
    :func:`patch_graph`.
    """
    # column by column: of a large graph even one array more counts
    total, count = (
        sums.every[:, n] - (1 - same_patch_weight) * 2.0 * sums.same[:, n] for n in range(2)
    )
    known = count > 1e-9
    return Graph(nodes, sums.edges[known], scale * total[known] / count[known])


def neighbours(positions: NDArray[np.int64], window: Window, distance: int) -> NDArray[np.int64]:
    """Return pairs ``a < b`` of patches near enough, in lexicographic order."""
    if len(positions) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    # voxels of patches farther apart than 2 (P - 1) are never within reach of each other
    reach = np.maximum(
        1, np.minimum(distance * np.array(window.shape), 2 * np.array(window.shape) - 2)
    )
    pairs = cKDTree(positions / reach).query_pairs(1 + 1e-9, p=np.inf, output_type="ndarray")
    pairs = pairs.astype(np.int64)
    return np.ascontiguousarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])


def _directed(edges: NDArray[np.int64], nodes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (target, edge, side) of all edges seen from both ends, and each node's first one."""
    m = np.arange(len(edges))
    zero = np.zeros_like(m)
    source = np.concatenate([edges[:, 0], edges[:, 1]])
    rest = np.concatenate(
        [np.column_stack([edges[:, 1], m, zero]), np.column_stack([edges[:, 0], m, zero + 1])]
    )
    order = np.argsort(source, kind="stable")
    start = np.searchsorted(source[order], np.arange(nodes + 1))
    return np.ascontiguousarray(rest[order]), np.asarray(start, dtype=np.int64)


@nb.njit(cache=True, nogil=True)
def inside(z: int, y: int, x: int, volume: Any) -> Any:
    """Return whether a voxel lies in a volume."""
    return 0 <= z < volume.shape[0] and 0 <= y < volume.shape[1] and 0 <= x < volume.shape[2]


@nb.njit(cache=True, nogil=True)
def _voxels(patches: Any, corners: Any, words: Any, index: Any, first: Any, out: Any) -> None:
    """List the visible voxels of all patches as (z, y, x, row), or only count them.

    `first` gets where each patch's voxels begin; an `out` of no rows asks for the count alone.
    """
    n = 0
    for p in range(patches.shape[0]):
        first[p] = n
        for w in range(patches.shape[1]):
            left = patches[p, w]
            z = corners[p, 0] + words[w, 0]
            y = corners[p, 1] + words[w, 1]
            x = corners[p, 2] + words[w, 2]
            while left != 0:
                if left & np.uint64(1) and inside(z, y, x, index) and index[z, y, x] >= 0:
                    if out.shape[0] > 0:
                        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = z, y, x, index[z, y, x]
                    n += 1
                left >>= np.uint64(1)
                x += 1
    first[patches.shape[0]] = n


@nb.njit(cache=True, nogil=True)
def _add_forward(
    rows: Any, row: int, at: int, shape: Any, strides: Any, field: Any, sums: Any, counts: Any
) -> None:
    """Add one voxel's consensus with the voxels after it to the flat field around its patch."""
    width = shape[2] - 1
    for dz in range(shape[0]):
        for dy in range(0 if dz == 0 else 1 - shape[1], shape[1]):
            begin = 1 if dz == 0 and dy == 0 else -width
            pair = np.uint64(dz * strides[0] + dy * strides[1] + begin)
            to = np.uint64(at + (dz * field[1] + dy) * field[2] + begin)
            for i in range(np.uint64(width + 1 - begin)):
                sums[to + i] += np.int32(rows[row, pair + i])
                counts[to + i] += np.int32(1)


@nb.njit(cache=True, nogil=True)
def _sum_from(
    a: int,
    rows: Any,
    voxels: Any,
    first: Any,
    corners: Any,
    shape: Any,
    strides: Any,
    directed: Any,
    edges: Any,
    out: Any,
) -> None:
    """Sum over the pairs (p in a, q in b, q after p) for all neighbours b of patch `a`."""
    field = (shape[0] * 2 - 1, shape[1] * 3 - 2, shape[2] * 3 - 2)
    sums = np.zeros(field[0] * field[1] * field[2], np.int32)
    counts = np.zeros(field[0] * field[1] * field[2], np.int32)
    z0 = corners[a, 0]
    y0 = corners[a, 1] - shape[1] + 1
    x0 = corners[a, 2] - shape[2] + 1
    for i in range(first[a], first[a + 1]):
        if voxels[i, 3] == rows.shape[0]:
            continue
        at = ((voxels[i, 0] - z0) * field[1] + voxels[i, 1] - y0) * field[2] + voxels[i, 2] - x0
        _add_forward(rows, voxels[i, 3], at, shape, strides, field, sums, counts)
    for e in range(edges[a], edges[a + 1]):
        b = directed[e, 0]
        total = 0
        number = 0
        for i in range(first[b], first[b + 1]):
            z = voxels[i, 0] - z0
            y = voxels[i, 1] - y0
            x = voxels[i, 2] - x0
            if 0 <= z < field[0] and 0 <= y < field[1] and 0 <= x < field[2]:
                total += sums[(z * field[1] + y) * field[2] + x]
                number += counts[(z * field[1] + y) * field[2] + x]
        out[directed[e, 1], directed[e, 2], 0] = total
        out[directed[e, 1], directed[e, 2], 1] = number


@nb.njit(cache=True, nogil=True, parallel=True)
def _sum_edges(
    rows: Any,
    voxels: Any,
    first: Any,
    corners: Any,
    shape: Any,
    strides: Any,
    directed: Any,
    edges: Any,
    out: Any,
) -> None:
    for a in nb.prange(corners.shape[0]):
        if edges[a] < edges[a + 1]:
            _sum_from(a, rows, voxels, first, corners, shape, strides, directed, edges, out)


@nb.njit(cache=True, nogil=True)
def _sum_common(
    a: int,
    b: int,
    rows: Any,
    voxels: Any,
    first: Any,
    patches: Any,
    corners: Any,
    shape: Any,
    strides: Any,
    per_line: int,
) -> tuple[int, int]:
    """Return sum and number of the unordered pairs of voxels that lie in both patches."""
    kept = np.empty((first[a + 1] - first[a], 2), np.int64)
    n = 0
    for i in range(first[a], first[a + 1]):
        z = voxels[i, 0] - corners[b, 0]
        y = voxels[i, 1] - corners[b, 1]
        x = voxels[i, 2] - corners[b, 2]
        if not (0 <= z < shape[0] and 0 <= y < shape[1] and 0 <= x < shape[2]):
            continue
        word = patches[b, (z * shape[1] + y) * per_line + x // 64]
        if (word >> np.uint64(x % 64)) & np.uint64(1):
            kept[n, 0] = z * strides[0] + y * strides[1] + x
            kept[n, 1] = voxels[i, 3]
            n += 1
    total = 0
    number = 0
    for i in range(n):
        if kept[i, 1] == rows.shape[0]:
            continue
        number += n - 1 - i
        for j in range(i + 1, n):
            total += rows[kept[i, 1], np.uint64(kept[j, 0] - kept[i, 0])]
    return total, number


@nb.njit(cache=True, nogil=True, parallel=True)
def _sum_same(
    rows: Any,
    voxels: Any,
    first: Any,
    patches: Any,
    corners: Any,
    shape: Any,
    strides: Any,
    edges: Any,
    out: Any,
) -> None:
    per_line = (shape[2] + 63) // 64
    for e in nb.prange(edges.shape[0]):
        a, b = edges[e, 0], edges[e, 1]
        near = True
        for axis in range(3):
            near &= abs(corners[a, axis] - corners[b, axis]) < shape[axis]
        if near:
            total, number = _sum_common(
                a, b, rows, voxels, first, patches, corners, shape, strides, per_line
            )
            out[e, 0] = total
            out[e, 1] = number
