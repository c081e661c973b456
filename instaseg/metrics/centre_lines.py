"""Centre lines of instances, and the scores for thin, branching objects made from them.

Thinning one instance after the other would cost 70,000 calls, most of them overhead. The instances
are therefore copied, each from its box, into cells of a common canvas with one empty voxel between
them, and the canvas is thinned at once::

      |.......|        |aa.....|bbb....|
      |.aabb..|  --->  |.aa....|.......|      (cells of the largest box in the group)
      |..aab..|        |.......|.......|

Thinning looks at direct neighbours only, so every instance is thinned as if it were alone.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.morphology import skeletonize

from instaseg.metrics.overlaps import (
    Index,
    Instances,
    Pairs,
    Values,
    Voxels,
    mask_of,
    shared_voxels,
)

# scikit-image has no type annotations
_skeletonize: Any = skeletonize

# Voxels of one canvas: it stays in the cache, and its thinning ends with its own last instance. An
# instance with a larger box gets a canvas of its own.
_CANVAS_VOXELS = 1 << 18


def centre_lines(instances: Instances) -> Voxels:
    """Thin every instance, on its own, to a line one voxel wide.

    2-D instances are thinned by Zhang and Suen's method, volumes by that of Lee, Kashyap and Chu
    (1994). Where Lee's leaves nothing (a cube of 2x2x2) the voxel next to the centre of mass
    remains, so that every instance has a centre line.

    Parameters
    ----------
    instances : Instances
        Units: voxels.

    Returns
    -------
    Voxels
        Voxels of the lines, ordered by instance.
    """
    boxes = _boxes(instances)
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, (begin, end) in enumerate(zip(boxes.begin, boxes.end, strict=True)):
        # boxes alike up to a factor of two share canvases
        groups[tuple(int(n - 1).bit_length() for n in end - begin)].append(number)
    parts = [
        _thin(instances, boxes, np.array(members[start : start + step]))
        for members in groups.values()
        for step in [_per_canvas(boxes, members)]
        for start in range(0, len(members), step)
    ]
    none = np.zeros(0, np.int64)
    position = np.concatenate([none, *(p for p, _ in parts)])
    instance = np.concatenate([none, *(i for _, i in parts)])
    order = np.lexsort((position, instance))
    sizes = np.bincount(instance, minlength=len(instances))
    return _fill_gaps(instances, Voxels(position[order], instance[order], sizes))


@dataclass(frozen=True)
class _Boxes:
    """First voxel and the voxel after the last of every instance, ``(N, axes)``."""

    begin: Index
    end: Index


def _boxes(instances: Instances) -> _Boxes:
    """Return the bounding boxes of all instances."""
    axes = len(instances.shape)
    begin = np.zeros((len(instances), axes), np.int64)
    end = np.zeros((len(instances), axes), np.int64)
    for channel in instances.channels:
        for number, box in enumerate(find_objects(channel)):
            if box is not None:
                begin[number] = [side.start for side in box]
                end[number] = [side.stop for side in box]
    return _Boxes(begin, end)


def _per_canvas(boxes: _Boxes, members: list[int]) -> int:
    """Return how many of the members fit on one canvas."""
    cell = (boxes.end[members] - boxes.begin[members]).max(axis=0) + 1
    return int(max(1, _CANVAS_VOXELS // int(cell.prod())))


def _thin(instances: Instances, boxes: _Boxes, members: Index) -> tuple[Index, Index]:
    """Return position and instance of the centre lines of the members, on one canvas."""
    begin, end = boxes.begin[members], boxes.end[members]
    height, *cell = ((end - begin).max(axis=0) + 1).tolist()
    canvas = np.zeros((height * len(members), *cell), bool)
    for place, number in enumerate(members.tolist()):
        window = tuple(slice(b, e) for b, e in zip(begin[place], end[place], strict=True))
        inside = instances.channels[(instances.channel[number], *window)] == number + 1
        top = height * place
        canvas[(slice(top, top + inside.shape[0]), *(slice(n) for n in inside.shape[1:]))] = inside
    line = np.stack(np.nonzero(_skeletonize(canvas)), axis=1)
    place = line[:, 0] // height
    line[:, 0] %= height
    voxel = (line + begin[place]).T
    position = np.ravel_multi_index(tuple(voxel), instances.shape).astype(np.int64)
    return position, members[place]


def _fill_gaps(instances: Instances, lines: Voxels) -> Voxels:
    """Give every instance without a line the voxel next to its centre of mass."""
    position, instance = [lines.position], [lines.instance]
    for number in np.flatnonzero(lines.sizes == 0).tolist():
        flat = np.flatnonzero(instances.channels[instances.channel[number]] == number + 1)
        voxel = np.stack(np.unravel_index(flat, instances.shape), axis=1)
        distance = ((voxel - voxel.mean(axis=0)) ** 2).sum(axis=1)
        position.append(flat[[int(distance.argmin())]])
        instance.append(np.array([number]))
    return Voxels(np.concatenate(position), np.concatenate(instance), np.maximum(lines.sizes, 1))


def share_inside(voxels: Voxels, others: Instances) -> Pairs:
    """Return which share of every instance's voxels lies in each of the other instances.

    For centre lines of the truth and predicted instances this is clRecall.

    Parameters
    ----------
    voxels : Voxels
        Whole instances or centre lines; they become the first axis of the pairs.
    others : Instances
        Instances the voxels may lie in.

    Returns
    -------
    Pairs
        Shares in (0, 1].
    """
    first, second, count = shared_voxels(voxels, others)
    return Pairs(first, second, count / voxels.sizes[first], (len(voxels.sizes), len(others)))


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


def coverage(lines: Voxels, prediction: Instances, best: Index) -> Values:
    """Return the share of every true centre line inside the union of the predictions that go to it.

    Parameters
    ----------
    lines : Voxels
        Centre lines of the truth.
    prediction : Instances
        Predicted instances.
    best : ndarray of int64, (n_pred,)
        True instance every prediction goes to, -1 for background.

    Returns
    -------
    ndarray of float64, (n_gt,)
        0 where no prediction goes to an instance.
    """
    covered = np.zeros(len(lines.position), bool)
    for channel in prediction.channels:
        other = channel.reshape(-1)[lines.position].astype(np.int64) - 1
        hit = other >= 0
        covered[hit] |= best[other[hit]] == lines.instance[hit]
    return np.bincount(lines.instance[covered], minlength=len(lines.sizes)) / lines.sizes


def splits_and_merges(
    truth: Instances, prediction: Instances, lines: Voxels, recall: Pairs
) -> tuple[int, int]:
    """Count false splits and false merges by matching many to many with centre lines.

    Where instances of either side overlap, pairs are taken by descending clRecall; the line voxels
    a pair explains are then gone from that centre line and from that prediction. A pair counts
    above a recall of 0.05 for splits and of 0.1 for merges.

    Parameters
    ----------
    truth, prediction : Instances
        Instances of both sides.
    lines : Voxels
        Centre lines of the truth.
    recall : Pairs
        clRecall of all pairs.

    Returns
    -------
    FS, FM : int
        Sum over true instances of ``predictions - 1``, and over predictions of ``true - 1``.
    """
    taken = recall
    if mask_of(truth, at_least=2).any() or mask_of(prediction, at_least=2).any():
        taken = _consume(prediction, lines, recall, _SPLIT_RECALL)
    return (
        _beyond_first(taken.truth[taken.value > _SPLIT_RECALL]),
        _beyond_first(taken.prediction[taken.value > _MERGE_RECALL]),
    )


_SPLIT_RECALL = 0.05
_MERGE_RECALL = 0.1


def _beyond_first(numbers: Index) -> int:
    """Return how often numbers occur beyond their first time."""
    return len(numbers) - len(np.unique(numbers))


def _consume(prediction: Instances, lines: Voxels, recall: Pairs, least: float) -> Pairs:
    """Return the pairs taken best first, with the recall they had when they were taken."""
    explained = _line_voxels(prediction, lines)
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


def _line_voxels(prediction: Instances, lines: Voxels) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Return, for every pair of truth and prediction, the line's voxels inside the prediction."""
    found: dict[tuple[int, int], NDArray[np.int64]] = {}
    for channel in prediction.channels:
        other = channel.reshape(-1)[lines.position].astype(np.int64) - 1
        hit = np.flatnonzero(other >= 0)
        keys = lines.instance[hit] * max(len(prediction), 1) + other[hit]
        order = np.argsort(keys, kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order])) + 1
        for group in np.split(hit[order], cuts):
            if len(group):
                found[int(lines.instance[group[0]]), int(other[group[0]])] = lines.position[group]
    return found
