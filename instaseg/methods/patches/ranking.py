"""Step 2: how well each patch agrees with the consensus of all."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.methods.patches import simd
from instaseg.methods.patches.consensus import (
    PAD,
    Consensus,
    VoteRule,
    check_probabilities,
    compiled,
    ends,
    flat_source,
    layout,
    list_centres,
    read_line,
)
from instaseg.methods.patches.tiles import grown, most, tiles

TILE_2D = (1, 16, 64)
TILE_3D = (4, 8, 8)


def rank(
    affinities: NDArray[np.generic],
    consensus: Consensus,
    centres: NDArray[np.bool_],
    *,
    rule: VoteRule,
    signs: bool,
) -> NDArray[np.float32]:
    """Return the score of every patch: how much its pairs agree with the consensus.

    Parameters
    ----------
    affinities : (K, z, y, x) float32, float16 or uint8 (0...255)
        Predicted patches.
    consensus : Consensus
        Step 1, of the same affinities.
    centres : (z, y, x) bool
        Centres of the patches to score: foreground whose patch lies inside the volume.
    rule : VoteRule
        Its thresholds say which voxels a patch calls its own, or not.
    signs : bool
        Sum the signs of the consensus instead of its values.

    Returns
    -------
    (z, y, x) float32
        Scores; -1 where there is no patch. Sums are of integers: the order does not matter.

    Notes
    -----
    Specification, section 3, step 2: the sum over pairs of two own voxels, minus that over pairs
    of an own and a foreign one, divided by the pairs visited: for each own voxel, every other
    visible voxel of the patch, pairs of two own voxels once.
    """
    window = consensus.window
    centres = np.ascontiguousarray(centres)
    scores = np.full(centres.shape, -1, dtype=np.float32)
    numbers = np.array([rule.threshold, rule.below], dtype=np.float32)
    bad = 0
    tile = TILE_2D if centres.shape[0] == 1 else TILE_3D
    unit = 1.0 if signs else consensus.scale
    for chunk, work in tiles(affinities, centres, radius=window.radius, tile=tile):
        source = flat_source(chunk, work.origin, consensus.index, window, numbers)
        bad += _rank(
            work.boxes,
            work.first,
            layout(window),
            source,
            centres,
            consensus.rows,
            (signs, unit),
            scores,
        )
    check_probabilities(bad)
    return scores


@compiled
def _lay_out(source: Any, box: Any, centres: Any, stride: int, buffers: Any) -> int:
    """Lay out the patches centred in `box` as rows of signs, and count their voxels.

    The first half of `signs` holds 1 (own), -1 (not own) and 0; the second half -1 for own, else 0:
    what a pair counts if its first voxel is own, or not.
    """
    line, seen, row, signs, pairs = buffers
    where = source[3]
    half = np.uint64(signs.size // 2)
    bad = 0
    n = 0
    for z in range(box[0, 0], box[1, 0]):
        for y in range(box[0, 1], box[1, 1]):
            first, last = ends(centres, z, y, box)
            if last < first:
                continue
            bad += read_line(source, z, y, first, last, line, seen)
            width = last - first + 1
            for x in range(first, last + 1):
                if not centres[z, y, x]:
                    continue
                for k in range(where.shape[0]):
                    row[where[k, 3]] = line[k * width + x - first]
                o = np.uint64(n * stride)
                own = np.int32(0)
                for i in range(np.uint64(row.size)):
                    v = row[i]
                    m = np.int8(v > 0)
                    signs[o + i] = m - np.int8(v < 0)
                    signs[half + o + i] = -m
                    own += np.int32(m)
                pairs[n, 0] = own
                pairs[n, 1] = seen[x - first]
                n += 1
    return bad


@compiled
def _dot4(row: Any, signs: Any, at: Any, first: int, n: Any) -> tuple[int, int, int, int]:
    """Return the sums of `row` times four runs of signs, which begin at ``at[first:]``."""
    a = simd.zero()
    b = simd.zero()
    c = simd.zero()
    d = simd.zero()
    i = np.uint64(0)
    while i < n:
        part = simd.load(row, i)
        a = simd.dot(part, simd.load(signs, at[first] + i), a)
        b = simd.dot(part, simd.load(signs, at[first + 1] + i), b)
        c = simd.dot(part, simd.load(signs, at[first + 2] + i), c)
        d = simd.dot(part, simd.load(signs, at[first + 3] + i), d)
        i += simd.STEP
    return simd.total(a), simd.total(b), simd.total(c), simd.total(d)


@compiled
def _add_voxel(z: int, y: int, x: int, box: Any, patch: Any, row: Any, laid_out: Any) -> None:
    """Add to each patch that sees voxel (z, y, x) what its pairs with later voxels count."""
    signs, before, at, which, totals = laid_out
    left = max(x - patch.rx, box[0, 2])
    right = min(x + patch.rx + 1, box[1, 2])
    null = totals.size - 1
    end = np.uint64(patch.length)
    half = np.uint64(signs.size // 2)
    for cz in range(max(box[0, 0], z - patch.rz), min(box[1, 0], z + patch.rz + 1)):
        for cy in range(max(box[0, 1], y - patch.ry), min(box[1, 1], y + patch.ry + 1)):
            line = (cz - box[0, 0]) * (box[1, 1] - box[0, 1]) + cy - box[0, 1]
            c = before[line, left - box[0, 2]]
            if before[line, right - box[0, 2]] == c:
                continue
            f = (z - cz + patch.rz) * patch.sz + (y - cy + patch.ry) * patch.sy + x + patch.rx
            held = 0
            for cx in range(left, right):
                following = before[line, cx + 1 - box[0, 2]]
                o = np.uint64(c * patch.stride + f - cx)
                s = signs[o]
                at[held] = o if s > 0 else half + o
                which[held] = c
                held += following > c and s != 0
                c = following
            n = end - np.uint64(f - right + 1)
            for j in range(held, held + 3):
                at[j] = np.uint64(null * patch.stride)
                which[j] = null
            for j in range(0, held, 4):
                a, b, c, d = _dot4(row, signs, at, j, n)
                totals[which[j]] += a
                totals[which[j + 1]] += b
                totals[which[j + 2]] += c
                totals[which[j + 3]] += d


@compiled
def _sum_tile(
    box: Any, reach: Any, patch: Any, source: Any, rows: Any, row: Any, laid_out: Any, by_sign: bool
) -> None:
    _, dims, index, _, _ = source
    for z in range(reach[0, 0], reach[1, 0]):
        for y in range(reach[0, 1], reach[1, 1]):
            for x in range(reach[0, 2], reach[1, 2]):
                r = index[(z * dims[7] + y) * dims[8] + x]
                if not 0 <= r < rows.shape[0]:
                    continue
                # the pair of a voxel with itself, number 0, does not count
                for i in range(1, rows.shape[1]):
                    v = rows[r, i]
                    row[i] = (v > 0) - (v < 0) if by_sign else v
                _add_voxel(z, y, x, box, patch, row, laid_out)


@compiled
def _store(box: Any, centres: Any, totals: Any, pairs: Any, unit: float, scores: Any) -> None:
    n = 0
    for z in range(box[0, 0], box[1, 0]):
        for y in range(box[0, 1], box[1, 1]):
            for x in range(box[0, 2], box[1, 2]):
                if centres[z, y, x]:
                    own = pairs[n, 0]
                    visited = own * (pairs[n, 1] - 1) - own * (own - 1) / 2
                    scores[z, y, x] = totals[n] * unit / max(1, visited)
                    n += 1


@compiled
def _work(
    boxes: Any, patch: Any, source: Any, centres: Any, rows: Any, rule: Any, scores: Any
) -> int:
    """Score one worker's tiles with buffers of its own; return how many values are bad."""
    by_sign, unit = rule
    radius = (patch.rz, patch.ry, patch.rx)
    capacity = most(centres, boxes, (0, 0, 0)) + 1
    signs = np.zeros(2 * capacity * patch.stride, np.int8)
    pairs = np.empty((capacity, 2), np.int64)
    totals = np.empty(capacity, np.int64)
    row = np.zeros(patch.length + PAD, np.int16)
    flat = np.zeros(patch.stride, np.float32)
    at = np.empty(2 * patch.rx + 5, np.uint64)
    which = np.empty(2 * patch.rx + 5, np.int64)
    bad = 0
    for i in range(boxes.shape[0]):
        box = boxes[i]
        extent = box[1] - box[0]
        before = np.empty((extent[0] * extent[1], extent[2] + 1), np.int64)
        line = np.empty(source[3].shape[0] * extent[2], np.float32)
        seen = np.empty(extent[2], np.int32)
        list_centres(centres, box, before)
        bad += _lay_out(source, box, centres, patch.stride, (line, seen, flat, signs, pairs))
        totals[:] = 0
        laid_out = (signs, before, at, which, totals)
        _sum_tile(
            box, grown(box, radius, centres.shape), patch, source, rows, row, laid_out, by_sign
        )
        _store(box, centres, totals, pairs, unit, scores)
    return bad


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _rank(
    boxes: Any, first: Any, patch: Any, source: Any, centres: Any, rows: Any, rule: Any, scores: Any
) -> int:
    bad = np.zeros(first.size - 1, np.int64)
    for worker in nb.prange(first.size - 1):
        mine = boxes[first[worker] : first[worker + 1]]
        bad[worker] = _work(mine, patch, source, centres, rows, rule, scores)
    return int(bad.sum())
