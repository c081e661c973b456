"""Step 1: what all patches that see two voxels say about whether they belong together.

The published kernels scatter every patch's votes into a volume of pairs. Here each voxel `p`
gathers: its row of pair votes and their numbers stay in cache while the patches around it are
added, each as one contiguous run (see :mod:`~instaseg.methods.patches.offsets`).

A vote is split so that little is left inside the loop. With ``D = a`` where a patch says "mine"
(``a > th``), ``D = -(1 - a)`` where it says "not mine" (``a < bg``), 0 elsewhere::

    p mine:      sum of  D(p) * D(q)            and the numbers of mine and not mine among q
    p not mine:  sum of  D(p) * max(D(q), 0)    and the number of mine among q

and the constants of the vote (``th^2``, ``1 - th^2``) are applied once per pair at the end.
Every voxel is summed by one thread in raster order of the patches, so results depend neither on
the number of threads nor on how the volume is cut into tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.methods.patches import simd
from instaseg.methods.patches.config import Background, Vote
from instaseg.methods.patches.offsets import Window
from instaseg.methods.patches.tiles import grown, most, tiles, unit_of

LARGEST = 32767
"""Fixed-point value of the largest possible consensus (int16)."""

PAD = 64
"""Numbers a run may be read or written beyond its end, rounded up to whole vectors."""

GROUP = 8
"""Voxels of a line that are summed together."""


RUNS = 32
"""Patches that are added to a voxel's row in one go, about; whole lines of patches."""


@dataclass(frozen=True)
class VoteRule:
    """How the two probabilities of a pair become a vote.

    Parameters
    ----------
    threshold : float
        Above it a voxel is in the patch, ``0 <= threshold < 1``.
    background : {"inverse", "half", "less_than"}
        Below ``1 - threshold`` (at most `threshold`), ``threshold / 2`` or `threshold` it is not.
    vote : {"normalized_product", "product", "count"}
        ``(a b - th^2) / (1 - th^2)``, ``a b``, or 1; negative where one voxel is not in the patch.
    consensus : {"mean", "sum"}
        Whether the sum of votes is divided by their number.
    """

    threshold: float = 0.5
    background: Background = "inverse"
    vote: Vote = "normalized_product"
    consensus: str = "mean"

    @property
    def below(self) -> float:
        """Probability below which a voxel is not in the patch."""
        if self.background == "inverse":
            return min(self.threshold, 1 - self.threshold)
        return self.threshold / 2 if self.background == "half" else self.threshold

    @property
    def weights(self) -> tuple[float, float]:
        """Factors of the sum of products and of (agreeing - disagreeing votes)."""
        square = self.threshold**2
        if self.vote == "normalized_product":
            return 1 / (1 - square), -square / (1 - square)
        return (1.0, 0.0) if self.vote == "product" else (0.0, 1.0)

    def largest(self, patch_size: int) -> float:
        """Return a bound of the consensus's absolute value, for the fixed-point scale."""
        product, constant = self.weights
        weakest = product * self.threshold * (1 - self.below) + constant
        strongest = max(1.0, -weakest)
        return strongest if self.consensus == "mean" else strongest * patch_size

    def unit(self, patch_size: int) -> float:
        """Return the consensus of one fixed-point unit."""
        return self.largest(patch_size) / LARGEST


@dataclass(frozen=True)
class Consensus:
    """Consensus of every foreground voxel with the voxels after it in raster order.

    Parameters
    ----------
    rows : (n, length) int16
        One row per voxel with a row; column ``window.pair(q - p)``. Fixed point; signs are exact.
    index : (z, y, x) int32
        Row of a voxel; -1 where it is background or in an overlap, `n` where it forms pairs with
        voxels before it but has no row of its own.
    scale : float
        Consensus of one fixed-point unit.
    window : Window
        Numbers of the pairs.
    """

    rows: NDArray[np.int16]
    index: NDArray[np.int32]
    scale: float
    window: Window


def row_index(
    visible: NDArray[np.bool_], wanted: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Return the number of each visible, wanted voxel in raster order, -1 where not visible.

    Visible voxels that are not wanted all have the number after the last.
    """
    rows = visible if wanted is None else visible & wanted
    number = int(np.count_nonzero(rows))
    index = np.where(visible, np.int32(number), np.int32(-1))
    index[rows] = np.arange(number, dtype=np.int32)
    return index


def consensus(
    affinities: NDArray[np.generic],
    visible: NDArray[np.bool_],
    centres: NDArray[np.bool_],
    *,
    window: Window,
    rule: VoteRule,
    wanted: NDArray[np.bool_] | None = None,
) -> Consensus:
    """Return the consensus of all pairs of visible voxels within a patch's reach.

    Parameters
    ----------
    affinities : (K, z, y, x) float32, float16 or uint8 (0...255)
        Probability that the voxel at an offset belongs to the instance of the centre.
    visible : (z, y, x) bool
        Foreground that belongs to one instance only: the voxels that form pairs.
    centres : (z, y, x) bool
        Centres of the patches that vote: foreground whose patch lies inside the volume.
    window : Window
        The patch.
    rule : VoteRule
        How a patch votes.
    wanted : (z, y, x) bool, optional
        Voxels whose pairs with later voxels are wanted; all visible ones where left out.

    Returns
    -------
    Consensus
        ``2 * window.length`` bytes per visible, wanted voxel. Units: voxels.

    Notes
    -----
    ``consensus(p, q)`` = sum of votes / number of votes, 0 where there is none (specification,
    section 3, step 1). Rounded to 1/32767 of the largest possible value, never to 0.
    """
    # one layout only: another one would be compiled for seconds
    centres = np.ascontiguousarray(centres)
    summed = np.ascontiguousarray(visible if wanted is None else visible & wanted)
    index = row_index(np.ascontiguousarray(visible), summed)
    rows = np.empty((int(np.count_nonzero(summed)), window.length), dtype=np.int16)
    scale = rule.unit(window.size)
    product, constant = rule.weights
    numbers = np.array(
        [rule.threshold, rule.below, product / scale, constant / scale, rule.consensus == "mean"],
        dtype=np.float32,
    )
    patch = layout(window)
    tile = tile_shape(window)
    bad = 0
    for chunk, work in tiles(affinities, summed, radius=window.radius, tile=tile):
        source = flat_source(chunk, work.origin, index, window, numbers)
        bad += _consensus(work.boxes, work.first, patch, source, centres, rows)
    check_probabilities(bad)
    return Consensus(rows, index, scale, window)


def tile_shape(window: Window) -> tuple[int, int, int]:
    """Return the tile to sum: long lines suit the reading, buffers are tens of megabytes."""
    z, y, x = window.shape
    return (1, 32, 128) if z == 1 else (max(8, z), max(8, y), max(16, 2 * x))


class Layout(NamedTuple):
    """A window as plain numbers: kernels must not share reference counts between threads."""

    rz: int
    ry: int
    rx: int
    sz: int
    sy: int
    length: int
    stride: int


def layout(window: Window) -> Layout:
    """Return a window's numbers; `stride` is the length of a laid-out patch, zeros included."""
    rz, ry, rx = window.radius
    sz, sy, _ = window.strides
    stride = window.length + window.shape[2] + PAD
    return Layout(rz, ry, rx, sz, sy, window.length, stride)


def flat_source(
    chunk: NDArray[Any],
    origin: NDArray[np.int64],
    index: NDArray[np.int32],
    window: Window,
    numbers: NDArray[np.float32],
) -> tuple[Any, ...]:
    """Return what the kernels read patches from: flat arrays and their shapes.

    ``(affinities, dims, index, voxels, thresholds)``: `dims` is the spatial shape and the origin of
    the affinities and the shape of the index; voxels are ``(K, 4)``: offset z, y, x and flat
    position; the last of the thresholds is the probability of one unit of the affinities.
    """
    where = np.column_stack([window.offsets(), window.flat()])
    numbers = np.append(numbers, unit_of(chunk))
    dims = np.concatenate([chunk.shape[1:], origin, index.shape]).astype(np.int64)
    return chunk.reshape(-1), dims, index.reshape(-1), where, numbers


def check_probabilities(bad: int) -> None:
    """Raise if a kernel met values that are no probabilities.

    Raises
    ------
    DataError
        If `bad`, the number of such values, is not zero.
    """
    if bad:
        raise DataError(
            f"affinities must be probabilities between 0 and 1; {bad} values are not (NaN or out "
            "of range): check the prediction, or apply the sigmoid first"
        )


compiled = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
"""How kernels are compiled: sums are never reordered, so that results are always the same."""


@compiled
def list_centres(centres: Any, box: Any, before: Any) -> None:
    """Count the centres in `box` before each position, line by line: ``before[line, x - x0]``."""
    n = 0
    line = 0
    for z in range(box[0, 0], box[1, 0]):
        for y in range(box[0, 1], box[1, 1]):
            for x in range(box[0, 2], box[1, 2]):
                before[line, x - box[0, 2]] = n
                n += centres[z, y, x]
            before[line, box[1, 2] - box[0, 2]] = n
            line += 1


@compiled
def read_line(source: Any, z: int, y: int, first: int, last: int, out: Any, seen: Any) -> int:
    """Read all patches centred in a line from `first` to `last`, signed; return the bad values.

    ``out[k * width + i]`` is ``a`` where voxel `k` of patch ``first + i`` is its own (``a > th``),
    ``a - 1`` where it is not (``a < bg``), 0 in between and for voxels that form no pairs;
    ``seen[i]`` is the number of voxels that form pairs.
    """
    values, dims, index, where, numbers = source
    zero = np.float32(0)
    one = np.float32(1)
    threshold = numbers[0]
    below = numbers[1]
    unit = numbers[numbers.size - 1]
    bad = 0
    width = np.uint64(last - first + 1)
    seen[:] = 0
    for k in range(where.shape[0]):
        line = (k * dims[0] + z - dims[3]) * dims[1] + y - dims[4]
        a_at = np.uint64(line * dims[2] + first - dims[5])
        q = (z + where[k, 0]) * dims[7] + y + where[k, 1]
        q_at = np.uint64(q * dims[8] + first + where[k, 2])
        out_at = np.uint64(k) * width
        for i in range(width):
            a = np.float32(values[a_at + i]) * unit
            d = a if a > threshold else (a - one if a < below else zero)
            visible = index[q_at + i] >= 0
            out[out_at + i] = d if visible else zero
            seen[i] += np.int32(visible)
            bad += 0 if (a >= zero and a <= one) else 1
    return bad


@compiled
def ends(centres: Any, z: int, y: int, box: Any) -> tuple[int, int]:
    """Return the first and last x of the centres in a line of `box`; last < first without any."""
    first = box[0, 2]
    last = box[1, 2] - 1
    while first <= last and not centres[z, y, first]:
        first += 1
    while last >= first and not centres[z, y, last]:
        last -= 1
    return first, last


@compiled
def _lay_out(source: Any, box: Any, centres: Any, stride: int, buffers: Any) -> int:
    """Lay out the patches centred in `box` as rows of `d` (signed) and `e` (packed counts)."""
    line, seen, d, e = buffers
    where = source[3]
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
                row = np.uint64(n * stride)
                n += 1
                for k in range(where.shape[0]):
                    d[row + np.uint64(where[k, 3])] = line[k * width + x - first]
                for i in range(np.uint64(stride)):
                    v = d[row + i]
                    e[row + i] = np.uint16(1 if v > 0 else (256 if v < 0 else 0))
    return bad


@compiled
def _add_runs(base: Any, runs: Any, d: Any, e: Any, sums: Any) -> None:
    """Add runs of patches to the row of votes that begins at `base`.

    `runs` holds where the runs begin, their lengths and weights: from the front, by ascending
    length, those of patches that call the voxel their own; from the back those of patches that do
    not. ``held`` is where the first end and the last begin.
    """
    acc, mine, other = sums[0], sums[1], sums[2]
    at, length, weight, held = runs
    own = 0
    last = at.size
    longest_own = length[held[0] - 1] if held[0] > 0 else 0
    longest_foreign = length[held[1]] if held[1] < last else 0
    n = np.uint64(max(longest_own, longest_foreign))
    foreign = last
    i = np.uint64(0)
    while i < n:
        here = base + i
        low = simd.load(acc, here)
        high = simd.load(acc, here + simd.HALF)
        number = simd.load(mine, here)
        while own < held[0] and np.uint64(length[own]) <= i:
            own += 1
        for j in range(own, held[0]):
            o = at[j] + i
            low = simd.fused(weight[j], simd.load(d, o), low)
            high = simd.fused(weight[j], simd.load(d, o + simd.HALF), high)
            number = simd.plus(number, simd.load(e, o))
        simd.store(mine, here, number)
        number = simd.load(other, here)
        while foreign > held[1] and np.uint64(length[foreign - 1]) <= i:
            foreign -= 1
        for j in range(held[1], foreign):
            o = at[j] + i
            low = simd.fused(weight[j], simd.positive(simd.load(d, o)), low)
            high = simd.fused(weight[j], simd.positive(simd.load(d, o + simd.HALF)), high)
            number = simd.plus(number, simd.load(e, o))
        simd.store(other, here, number)
        simd.store(acc, here, low)
        simd.store(acc, here + simd.HALF, high)
        i += simd.STEP


@compiled
def _flush(mine: Any, other: Any, agree: Any, disagree: Any) -> None:
    """Move the packed counts (low byte: own among q, high byte: not own) to the full ones."""
    for i in range(agree.size):
        agree[i] = np.int32(agree[i] + (mine[i] & 255))
        disagree[i] = np.int32(disagree[i] + (mine[i] >> 8) + (other[i] & 255))
        mine[i] = 0
        other[i] = 0


@compiled
def _store(acc: Any, agree: Any, disagree: Any, base: int, numbers: Any, rows: Any, r: int) -> None:
    """Turn the sums of one voxel, from `base` on, into its consensus in fixed point."""
    limit = np.float32(LARGEST)
    product = numbers[2]
    constant = numbers[3]
    mean = numbers[4] > 0
    one = np.float32(1)
    half = np.float32(0.5)
    zero = np.float32(0)
    here = np.uint64(base)
    for i in range(np.uint64(rows.shape[1])):
        n = np.float32(agree[here + i] + disagree[here + i])
        v = product * acc[here + i] + constant * np.float32(agree[here + i] - disagree[here + i])
        v = v / max(n, one) if mean else v
        # below one unit round away from zero: the fixed point keeps every sign
        up = min(max(v + half, one), limit)
        down = max(min(v - half, -one), -limit)
        rows[r, i] = np.int16(up if v > zero else (down if v < zero else zero))


@compiled
def _list_runs(
    line: int, f: int, x: int, reach: Any, patch: Any, d: Any, before: Any, runs: Any
) -> None:
    """List the patches of one line that see the voxel at `x`.

    `f` is the flat position of the voxel in a patch centred at ``x = 0`` of the line.
    """
    at, length, weight, held = runs
    left = max(x - patch.rx, reach[0, 2])
    right = min(x + patch.rx + 1, reach[1, 2])
    c = before[line, left - reach[0, 2]]
    if before[line, right - reach[0, 2]] == c:
        return
    own = held[0]
    foreign = held[1]
    for cx in range(left, right):
        following = before[line, cx + 1 - reach[0, 2]]
        o = np.uint64(c * patch.stride + f - cx)
        v = d[o]
        n = patch.length - (f - cx)
        slot = own if v > 0 else foreign - 1
        at[slot] = o
        length[slot] = n
        weight[slot] = v
        own += following > c and v > 0
        foreign -= following > c and v < 0
        c = following
    held[0] = own
    held[1] = foreign


@compiled
def _gather(
    z: int, y: int, xs: Any, m: int, reach: Any, patch: Any, laid_out: Any, sums: Any
) -> None:
    """Sum the votes of all patches that see one of the voxels (z, y, xs[:m]) into `sums`.

    The voxels of a group see mostly the same patches, which are read once for all of them, a few
    lines of patches at a time: at most 255 patches, as their votes are counted in bytes.
    """
    d, e, before = laid_out
    acc, mine, other, agree, disagree, runs = sums
    held = runs[3]
    last = runs[0].size
    acc[:] = 0
    agree[:] = 0
    disagree[:] = 0
    votes = 0
    # lines are grouped by their place around the voxel, so that sums are the same in any crop
    bottom = y - patch.ry
    height = 2 * patch.ry + 1
    front = z - patch.rz
    depth = 2 * patch.rz + 1
    px = 2 * patch.rx + 1
    step = max(1, RUNS // px)
    for begin in range(0, depth * height, step):
        end = min(begin + step, depth * height)
        if votes + (end - begin) * px > 255:
            _flush(mine, other, agree, disagree)
            votes = 0
        votes += (end - begin) * px
        for g in range(m):
            held[0] = 0
            held[1] = last
            for i in range(begin, end):
                cz = front + i // height
                cy = bottom + i % height
                if not (reach[0, 0] <= cz < reach[1, 0] and reach[0, 1] <= cy < reach[1, 1]):
                    continue
                line = (cz - reach[0, 0]) * (reach[1, 1] - reach[0, 1]) + cy - reach[0, 1]
                f = (z - cz + patch.rz) * patch.sz + (y - cy + patch.ry) * patch.sy + patch.rx
                _list_runs(line, f + xs[g], xs[g], reach, patch, d, before, runs)
            _add_runs(np.uint64(g * (patch.length + PAD)), runs, d, e, sums)
    _flush(mine, other, agree, disagree)


@compiled
def _sum_tile(
    box: Any, reach: Any, patch: Any, source: Any, laid_out: Any, sums: Any, rows: Any
) -> None:
    _, dims, index, _, numbers = source
    xs = np.empty(GROUP, np.int64)
    for z in range(box[0, 0], box[1, 0]):
        for y in range(box[0, 1], box[1, 1]):
            first = (z * dims[7] + y) * dims[8]
            m = 0
            for x in range(box[0, 2], box[1, 2]):
                if 0 <= index[first + x] < rows.shape[0]:
                    xs[m] = x
                    m += 1
                if m == GROUP or (m > 0 and x == box[1, 2] - 1):
                    _gather(z, y, xs, m, reach, patch, laid_out, sums)
                    for g in range(m):
                        r = index[first + xs[g]]
                        _store(
                            sums[0], sums[3], sums[4], g * (patch.length + PAD), numbers, rows, r
                        )
                    m = 0


@compiled
def _work(boxes: Any, patch: Any, source: Any, centres: Any, rows: Any) -> int:
    """Compute one worker's tiles with buffers of its own; return how many values are bad."""
    radius = (patch.rz, patch.ry, patch.rx)
    capacity = most(centres, boxes, radius) + 1
    padded = GROUP * (patch.length + PAD)
    most_runs = max(RUNS, 2 * patch.rx + 1) + 1
    d = np.zeros(capacity * patch.stride, np.float32)
    e = np.zeros(capacity * patch.stride, np.uint16)
    sums = (
        np.zeros(padded, np.float32),
        np.zeros(padded, np.uint16),
        np.zeros(padded, np.uint16),
        np.zeros(padded, np.int32),
        np.zeros(padded, np.int32),
        (
            np.empty(most_runs, np.uint64),
            np.empty(most_runs, np.int64),
            np.empty(most_runs, np.float32),
            np.zeros(2, np.int64),
        ),
    )
    bad = 0
    for i in range(boxes.shape[0]):
        reach = grown(boxes[i], radius, centres.shape)
        extent = reach[1] - reach[0]
        before = np.empty((extent[0] * extent[1], extent[2] + 1), np.int64)
        line = np.empty(source[3].shape[0] * extent[2], np.float32)
        seen = np.empty(extent[2], np.int32)
        list_centres(centres, reach, before)
        bad += _lay_out(source, reach, centres, patch.stride, (line, seen, d, e))
        _sum_tile(boxes[i], reach, patch, source, (d, e, before), sums, rows)
    return bad


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _consensus(boxes: Any, first: Any, patch: Any, source: Any, centres: Any, rows: Any) -> int:
    bad = np.zeros(first.size - 1, np.int64)
    for worker in nb.prange(first.size - 1):
        mine = boxes[first[worker] : first[worker + 1]]
        bad[worker] = _work(mine, patch, source, centres, rows)
    return int(bad.sum())
