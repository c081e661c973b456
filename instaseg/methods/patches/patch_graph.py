"""Step 5: how much the consensus wants two selected patches to be one instance.

The affinity of two patches is the mean consensus over the pairs of a voxel of the one and a voxel of
the other that are within a patch's reach. Summed pair by pair that costs ``|a| * |b|`` per edge.
Instead, each patch `a` adds up once, for all voxels `q` around it, what its voxels before `q` say of
`q` (contiguous runs of the consensus); an edge then is a sum over the voxels of `b`, and the voxels
after `q` come in when `b` does the same. All sums are of integers, so their order is irrelevant.

Pairs whose voxels lie in both patches agree trivially. The published kernel keeps a pseudo-random
fifth of them; here they have that weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from instaseg.methods.patches import bits
from instaseg.methods.patches.consensus import Consensus
from instaseg.methods.patches.offsets import Window


@dataclass(frozen=True)
class PatchGraph:
    """Selected patches and the affinities between them.

    Parameters
    ----------
    nodes : int
        Number of patches.
    edges : (m, 2) int64
        Pairs of patches ``a < b``, in lexicographic order.
    affinities : (m,) float64
        Mean consensus; positive attracts, negative repels.
    """

    nodes: int
    edges: NDArray[np.int64]
    affinities: NDArray[np.float64]


def patch_graph(
    consensus: Consensus,
    patches: NDArray[np.uint64],
    positions: NDArray[np.int64],
    *,
    distance: int,
    same_patch_weight: float,
) -> PatchGraph:
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
    PatchGraph
        Pairs without any voxel pair within reach share no edge.
    """
    window = consensus.window
    edges = _neighbours(positions, window, distance)
    directed, start = _directed(edges, len(positions))
    corners = positions - np.array(window.radius)
    words = bits.lines(window)
    shape, strides = np.array(window.shape), np.array(window.strides)
    sums = np.zeros((len(edges), 2, 2), dtype=np.int64)
    same = np.zeros((len(edges), 2), dtype=np.int64)
    if len(edges):
        _sum_edges(
            consensus.rows,
            consensus.index,
            patches,
            corners,
            words,
            shape,
            strides,
            start,
            directed,
            sums,
        )
        _sum_same(
            consensus.rows, consensus.index, patches, corners, words, shape, strides, edges, same
        )
    total = sums.sum(axis=1) - (1 - same_patch_weight) * 2.0 * same
    known = total[:, 1] > 1e-9
    affinities = consensus.scale * total[known, 0] / total[known, 1]
    return PatchGraph(len(positions), edges[known], affinities)


def _neighbours(positions: NDArray[np.int64], window: Window, distance: int) -> NDArray[np.int64]:
    """Return pairs ``a < b`` of patches near enough, in lexicographic order."""
    if len(positions) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    # voxels of patches farther apart than 2 (P - 1) are never within reach of each other
    reach = np.maximum(
        1, np.minimum(distance * np.array(window.shape), 2 * np.array(window.shape) - 2)
    )
    pairs = cKDTree(positions / reach).query_pairs(1 + 1e-9, p=np.inf, output_type="ndarray")
    pairs = pairs.astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


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
    return np.ascontiguousarray(rest[order]), start.astype(np.int64)


@nb.njit(cache=True, nogil=True)
def _voxels(patch, corner, words, index, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """List the visible voxels of a patch as (z, y, x, row); return their number."""
    n = 0
    for w in range(patch.size):
        left = patch[w]
        if left == 0:
            continue
        z = corner[0] + words[w, 0]
        y = corner[1] + words[w, 1]
        for i in range(64):
            if (left >> np.uint64(i)) & np.uint64(1):
                x = corner[2] + words[w, 2] + i
                if index[z, y, x] >= 0:
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = z, y, x, index[z, y, x]
                    n += 1
    return n


@nb.njit(cache=True, nogil=True)
def _add_forward(row, at, lowest, shape, strides, sums, counts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Add one voxel's consensus with the voxels after it to the field around its patch."""
    width = shape[2] - 1
    for dz in range(shape[0]):
        for dy in range(0 if dz == 0 else 1 - shape[1], shape[1]):
            begin = 1 if dz == 0 and dy == 0 else -width
            pair = dz * strides[0] + dy * strides[1]
            s = sums[at[0] - lowest[0] + dz, at[1] - lowest[1] + dy]
            c = counts[at[0] - lowest[0] + dz, at[1] - lowest[1] + dy]
            x = at[2] - lowest[2]
            for dx in range(begin, width + 1):
                s[x + dx] += row[pair + dx]
                c[x + dx] += 1


@nb.njit(cache=True, nogil=True, parallel=True)
def _sum_edges(rows, index, patches, corners, words, shape, strides, start, directed, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Sum consensus and number of pairs over (p in a, q in b, q after p), for both directions."""
    field = (shape[0] * 2 - 1, shape[1] * 3 - 2, shape[2] * 3 - 2)
    size = shape[0] * shape[1] * shape[2]
    for a in nb.prange(patches.shape[0]):
        if start[a] == start[a + 1]:
            continue
        sums = np.zeros(field, np.int64)
        counts = np.zeros(field, np.int32)
        here = np.empty((size, 4), np.int64)
        lowest = np.array(
            [corners[a, 0], corners[a, 1] - shape[1] + 1, corners[a, 2] - shape[2] + 1]
        )
        for i in range(_voxels(patches[a], corners[a], words, index, here)):
            _add_forward(rows[here[i, 3]], here[i], lowest, shape, strides, sums, counts)
        for e in range(start[a], start[a + 1]):
            b = directed[e, 0]
            total = 0
            number = 0
            for i in range(_voxels(patches[b], corners[b], words, index, here)):
                z = here[i, 0] - lowest[0]
                y = here[i, 1] - lowest[1]
                x = here[i, 2] - lowest[2]
                if 0 <= z < field[0] and 0 <= y < field[1] and 0 <= x < field[2]:
                    total += sums[z, y, x]
                    number += counts[z, y, x]
            out[directed[e, 1], directed[e, 2], 0] = total
            out[directed[e, 1], directed[e, 2], 1] = number


@nb.njit(cache=True, nogil=True, parallel=True)
def _sum_same(rows, index, patches, corners, words, shape, strides, edges, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Sum consensus and number of pairs over unordered pairs of voxels that lie in both patches."""
    size = shape[0] * shape[1] * shape[2]
    for e in nb.prange(edges.shape[0]):
        a, b = edges[e, 0], edges[e, 1]
        near = True
        for axis in range(3):
            near &= abs(corners[a, axis] - corners[b, axis]) < shape[axis]
        if not near:
            continue
        here = np.empty((size, 4), np.int64)
        n = _common(patches, corners, words, index, shape, a, b, here)
        total = 0
        for i in range(n):
            row = rows[here[i, 3]]
            first = here[i, 0] * strides[0] + here[i, 1] * strides[1] + here[i, 2]
            for j in range(i + 1, n):
                total += row[here[j, 0] * strides[0] + here[j, 1] * strides[1] + here[j, 2] - first]
        out[e, 0] = total
        out[e, 1] = n * (n - 1) // 2


@nb.njit(cache=True, nogil=True)
def _common(patches, corners, words, index, shape, a, b, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Keep of the voxels of patch `a` those that patch `b` claims too; return their number."""
    per_line = (shape[2] + 63) // 64
    n = _voxels(patches[a], corners[a], words, index, out)
    kept = 0
    for i in range(n):
        z = out[i, 0] - corners[b, 0]
        y = out[i, 1] - corners[b, 1]
        x = out[i, 2] - corners[b, 2]
        if not (0 <= z < shape[0] and 0 <= y < shape[1] and 0 <= x < shape[2]):
            continue
        word = patches[b, (z * shape[1] + y) * per_line + x // 64]
        if (word >> np.uint64(x % 64)) & np.uint64(1):
            out[kept] = out[i]
            kept += 1
    return kept
