"""Centre lines of instances, and the scores for thin, branching objects made from them.

The voxels of many instances are read together, a few millions at a time, so that neither a volume
nor the box of an instance is ever held.

In 2-D, thinning one instance after the other would cost 70,000 calls, most of them overhead. The
instances are therefore painted into cells of a common canvas with one empty voxel between them, and
the canvas is thinned at once::

      |.......|        |aa.....|bbb....|
      |.aabb..|  --->  |.aa....|.......|      (cells of the largest box in the group)
      |..aab..|        |.......|.......|

Thinning looks at direct neighbours only, so every instance is thinned as if it were alone.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.work import Run
from instaseg.metrics.overlaps import (
    Hits,
    Index,
    Instances,
    Pairs,
    Values,
    Voxels,
    collect,
    shared_voxels,
)
from instaseg.regions.thinning import thin_volume

# scikit-image has no type annotations
_skeletonize: Any = skeletonize

# Voxels of one canvas: it stays in the cache, and its thinning ends with its own last instance. An
# instance with a larger box gets a canvas of its own.
_CANVAS_VOXELS = 1 << 18

# Voxels of instances that are held at the same time; a larger instance is held alone.
_VOXELS_TOGETHER = 1 << 22


def centre_lines(instances: Instances, *, run: Run = run_here) -> Voxels:
    """Thin every instance, on its own, to a line one voxel wide.

    2-D instances are thinned by Zhang and Suen's method, volumes by that of Lee, Kashyap and Chu
    (1994). Where Lee's leaves nothing (a cube of 2x2x2) the voxel next to the centre of mass
    remains, so that every instance has a centre line.

    Parameters
    ----------
    instances : Instances
        Units: voxels.
    run : callable
        Runs tasks on some of the instances.

    Returns
    -------
    Voxels
        Voxels of the lines, ordered by instance, then position.
    """
    none = np.zeros(0, np.int64)
    tasks = [_Members(instances.subset(members), members) for members in _together(instances)]
    found = [(none, none), *run(_lines_of, tasks, "thin")]
    position, instance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((position, instance))
    sizes = np.bincount(instance, minlength=len(instances))
    return Voxels(position[order], instance[order], sizes)


@dataclass(frozen=True)
class _Members:
    """Instances that are thinned together, and their numbers among all."""

    instances: Instances
    numbers: Index

    def __str__(self) -> str:
        return f"{len(self.numbers)} instances from number {self.numbers[0]} on"


def _lines_of(members: _Members) -> tuple[Index, Index]:
    """Return position and instance of the voxels of the lines of some instances."""
    instances, every = members.instances, np.arange(len(members.instances))
    thin = _thin_planes if len(instances.shape) == 2 else _thin_volumes
    voxels = collect(instances, every)
    coordinates = np.stack(np.unravel_index(voxels.position, instances.shape), axis=1)
    line = thin(instances, every, voxels, coordinates)
    line |= _middles(every, voxels, coordinates, line)
    return voxels.position[line], members.numbers[voxels.instance[line]]


def _together(instances: Instances) -> Iterator[Index]:
    """Yield the numbers of instances that are read together: neighbours, few voxels."""
    order = np.lexsort(tuple(instances.begin.T[::-1]))
    begin, held = 0, 0
    for place, size in enumerate(instances.sizes[order].tolist()):
        if held and held + size > _VOXELS_TOGETHER:
            yield order[begin:place]
            begin, held = place, 0
        held += size
    if held:
        yield order[begin:]


def _thin_volumes(
    instances: Instances, members: Index, voxels: Voxels, coordinates: Index
) -> NDArray[np.bool_]:
    """Return which voxels of 3-D instances lie on their centre lines."""
    line = np.zeros(len(voxels.position), bool)
    ends = np.cumsum(voxels.sizes)
    for number in members.tolist():
        part = slice(int(ends[number] - instances.sizes[number]), int(ends[number]))
        line[part] = thin_volume(coordinates[part])
    return line


def _thin_planes(
    instances: Instances, members: Index, voxels: Voxels, coordinates: Index
) -> NDArray[np.bool_]:
    """Return which voxels of 2-D instances lie on their centre lines."""
    extent = instances.end - instances.begin
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number in members.tolist():
        # boxes alike up to a factor of two share canvases
        groups[tuple(int(n - 1).bit_length() for n in extent[number])].append(number)
    line = np.zeros(len(voxels.position), bool)
    ends = np.cumsum(voxels.sizes)
    for group in groups.values():
        cell = extent[group].max(axis=0) + 1
        step = int(max(1, _CANVAS_VOXELS // int(cell.prod())))
        for start in range(0, len(group), step):
            chosen = np.array(group[start : start + step])
            sizes = voxels.sizes[chosen]
            which = _ranges(ends[chosen] - sizes, sizes)
            place = coordinates[which] - np.repeat(instances.begin[chosen], sizes, axis=0)
            place[:, 0] += np.repeat(np.arange(len(chosen)) * cell[0], sizes)
            canvas = np.zeros((int(cell[0]) * len(chosen), int(cell[1])), bool)
            canvas[tuple(place.T)] = True
            line[which] = _skeletonize(canvas)[tuple(place.T)]
    return line


def _ranges(begin: Index, sizes: Index) -> Index:
    """Return ``begin[0], begin[0] + 1, ...``, `sizes` numbers from every begin.

    Examples
    --------
    >>> _ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    first = np.cumsum(sizes) - sizes
    return np.asarray(np.arange(int(sizes.sum())) + np.repeat(begin - first, sizes), np.int64)


def _middles(
    members: Index, voxels: Voxels, coordinates: Index, line: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the voxel next to the centre of mass of every instance without a line."""
    middle = np.zeros(len(line), bool)
    lengths = np.bincount(voxels.instance[line], minlength=len(voxels.sizes))
    ends = np.cumsum(voxels.sizes)
    for number in members[lengths[members] == 0].tolist():
        begin = int(ends[number] - voxels.sizes[number])
        voxel = coordinates[begin : int(ends[number])]
        distance = ((voxel - voxel.mean(axis=0)) ** 2).sum(axis=1)
        middle[begin + int(distance.argmin())] = True
    return middle


def share_inside(voxels: Voxels, inside: Hits, keep: NDArray[np.bool_] | None = None) -> Pairs:
    """Return which share of every instance's voxels lies in each of the other instances.

    For centre lines of the truth and predicted instances this is clRecall.

    Parameters
    ----------
    voxels : Voxels
        Whole instances or centre lines; they become the first axis of the pairs.
    inside : Hits
        Instances the voxels lie in.
    keep : ndarray of bool, (V,), optional
        Voxels that count; all if left out.

    Returns
    -------
    Pairs
        Shares in (0, 1].
    """
    sizes = voxels.sizes
    if keep is not None:
        sizes = np.bincount(voxels.instance[keep], minlength=len(sizes))
        chosen = keep[inside.voxel]
        inside = Hits(inside.voxel[chosen], inside.other[chosen], inside.others)
    first, second, count = shared_voxels(voxels, inside)
    return Pairs(first, second, count / sizes[first], (len(sizes), inside.others))


def transposed(pairs: Pairs) -> Pairs:
    """Return the pairs with both sides exchanged."""
    order = np.lexsort((pairs.truth, pairs.prediction))
    return Pairs(pairs.prediction[order], pairs.truth[order], pairs.value[order], pairs.shape[::-1])


def centre_line_dice(precision: Pairs, recall: Pairs) -> Pairs:
    """Return clDice, the harmonic mean of clPrecision and clRecall, of every pair that has both.

    Parameters
    ----------
    precision : Pairs
        Share of the predicted centre line inside the true instance.
    recall : Pairs
        Share of the true centre line inside the predicted instance.

    References
    ----------
    .. [1] Shit et al., clDice, CVPR 2021, https://doi.org/10.1109/CVPR46437.2021.01629
    """
    _, first, second = np.intersect1d(
        precision.keys(), recall.keys(), assume_unique=True, return_indices=True
    )
    p, r = precision.value[first], recall.value[second]
    return Pairs(
        precision.truth[first], precision.prediction[first], 2 * p * r / (p + r), precision.shape
    )


def best_truth(precision: Pairs, background: Values) -> Index:
    """Return the true instance that holds most of every prediction, -1 for background.

    Parameters
    ----------
    precision : Pairs
        Share of every prediction (or of its centre line) in every true instance.
    background : ndarray of float64, (n_pred,)
        Share of every prediction in no true instance.

    Returns
    -------
    ndarray of int64, (n_pred,)
        Ties go to the background, then to the first true instance.
    """
    best = np.full(precision.shape[1], -1, np.int64)
    order = np.lexsort((precision.truth, -precision.value, precision.prediction))
    prediction, first = np.unique(precision.prediction[order], return_index=True)
    pair = order[first]
    wins = precision.value[pair] > background[prediction]
    best[prediction[wins]] = precision.truth[pair[wins]]
    return best


def coverage(lines: Voxels, inside: Hits, best: Index) -> Values:
    """Return which share of every centre line its predictions cover together.

    Parameters
    ----------
    lines : Voxels
        Centre lines of the truth.
    inside : Hits
        Predictions they lie in.
    best : ndarray of int64, (n_pred,)
        True instance every prediction goes to; see :func:`best_truth`.

    Returns
    -------
    ndarray of float64, (n_gt,)
        0 where no prediction goes to an instance.
    """
    covered = np.zeros(len(lines.position), bool)
    covered[inside.voxel[best[inside.other] == lines.instance[inside.voxel]]] = True
    return np.bincount(lines.instance[covered], minlength=len(lines.sizes)) / lines.sizes


def splits_and_merges(
    lines: Voxels, inside: Hits, recall: Pairs, *, overlaps: Literal["some", "none"]
) -> tuple[int, int]:
    """Count false splits and false merges by matching many to many with centre lines.

    Where instances of either side overlap, pairs are taken by descending clRecall; the line voxels
    a pair explains are then gone from that centre line and from that prediction. A pair counts
    above a recall of 0.05 for splits and of 0.1 for merges.

    Parameters
    ----------
    lines : Voxels
        Centre lines of the truth.
    inside : Hits
        Predictions they lie in.
    recall : Pairs
        clRecall of all pairs.
    overlaps : {"some", "none"}
        Whether instances of either side share voxels with others of that side.

    Returns
    -------
    FS, FM : int
        Sum over true instances of ``predictions - 1``, and over predictions of ``true - 1``.
    """
    taken = recall if overlaps == "none" else _consume(lines, inside, recall, _SPLIT_RECALL)
    return (
        _beyond_first(taken.truth[taken.value > _SPLIT_RECALL]),
        _beyond_first(taken.prediction[taken.value > _MERGE_RECALL]),
    )


_SPLIT_RECALL = 0.05
_MERGE_RECALL = 0.1


def _beyond_first(numbers: Index) -> int:
    """Return how often numbers occur beyond their first time."""
    return len(numbers) - len(np.unique(numbers))


def _consume(lines: Voxels, inside: Hits, recall: Pairs, least: float) -> Pairs:
    """Return the pairs taken best first, with the recall they had when they were taken."""
    explained = _line_voxels(lines, inside)
    by_truth, by_prediction = defaultdict(list), defaultdict(list)
    for pair in explained:
        by_truth[pair[0]].append(pair)
        by_prediction[pair[1]].append(pair)
    heap = [
        (-value, pair)
        for pair, value in zip(
            zip(recall.truth.tolist(), recall.prediction.tolist(), strict=True),
            recall.value.tolist(),
            strict=True,
        )
    ]
    heapq.heapify(heap)
    taken: list[tuple[int, int, float]] = []
    while heap:
        value, pair = heapq.heappop(heap)
        now = len(explained[pair]) / int(lines.sizes[pair[0]])
        if now <= least:
            continue
        if now < -value:  # shrunk since it was queued: its turn comes later
            heapq.heappush(heap, (-now, pair))
            continue
        taken.append((*pair, now))
        gone = explained[pair]
        for other in {*by_truth[pair[0]], *by_prediction[pair[1]]}:
            explained[other] = np.setdiff1d(explained[other], gone, assume_unique=True)
    columns = list(zip(*taken, strict=True)) if taken else [(), (), ()]
    return Pairs(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        recall.shape,
    )


def _line_voxels(lines: Voxels, inside: Hits) -> dict[tuple[int, int], Index]:
    """Return, for every pair of truth and prediction, the line's voxels inside the prediction."""
    found: dict[tuple[int, int], Index] = {}
    truth = lines.instance[inside.voxel]
    order = np.lexsort((inside.voxel, inside.other, truth))
    truth, other, voxel = truth[order], inside.other[order], inside.voxel[order]
    cuts = np.flatnonzero((np.diff(truth) != 0) | (np.diff(other) != 0)) + 1
    for group in np.split(np.arange(len(voxel)), cuts):
        if len(group):
            found[int(truth[group[0]]), int(other[group[0]])] = lines.position[voxel[group]]
    return found
