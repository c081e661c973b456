"""How long scores of many or long instances take: ``pytest benchmarks/bench_matching.py``.

Memory of the neurons is that beyond the two arrays; the wall time of a run with nothing else on two
cores is the one to compare with the two minutes a volume may take.
"""

import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from instaseg.metrics import score_instances
from instaseg.metrics.config import THRESHOLDS
from instaseg.metrics.matching import match
from instaseg.metrics.overlaps import find_instances
from instaseg.metrics.scores import locate_by_voxels

CELL = 16


def jittered_grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``side**2`` square cells, and the same with ragged borders that all touch."""
    y, x = np.mgrid[: side * CELL, : side * CELL]
    cells = (y // CELL * side + x // CELL + 1).astype(np.int32)
    truth = np.where((y % CELL < 2) | (x % CELL < 2), 0, cells)
    rng = np.random.default_rng(0)
    limit = side * CELL - 1
    moved = [(axis + rng.integers(-4, 5, axis.shape)).clip(0, limit) for axis in (y, x)]
    return truth, cells[tuple(moved)]


@pytest.mark.parametrize("centre_lines", ["skip", "measure"])
def test_score_of_70225_instances(benchmark, centre_lines):
    truth, prediction = jittered_grid(265)
    scores = benchmark.pedantic(
        score_instances,
        (truth, prediction),
        {"ndim": 2, "centre_lines": centre_lines},
        rounds=3,
    )
    assert scores["general"]["Num GT"] == 265**2


@pytest.fixture(scope="module")
def moderate():
    truth, prediction = jittered_grid(45)
    return locate_by_voxels(find_instances(truth, ndim=2), find_instances(prediction, ndim=2)).score


def test_sparse_matching_of_2025_instances(benchmark, moderate):
    assert len(benchmark(match, moderate, THRESHOLDS)) == len(THRESHOLDS)


def test_dense_matching_of_2025_instances(benchmark, moderate):
    """The same by one matrix per threshold: the yardstick."""
    matrix = moderate.dense()

    def dense():
        scale = 2 * min(matrix.shape)
        return [
            linear_sum_assignment(-(matrix > t).astype(float) - matrix / scale) for t in THRESHOLDS
        ]

    found = benchmark.pedantic(dense, rounds=2)
    ours = match(moderate, THRESHOLDS)
    for threshold, (rows, columns), sparse in zip(THRESHOLDS, found, ours, strict=True):
        assert (matrix[rows, columns] > threshold).sum() == len(sparse)


VOLUME = (400, 700, 700)
PAGE = 4096


def neurons(shape=(400, 700, 700), count=12, *, seed=0):
    """Return one mask per neuron, ``(count, z, y, x)`` uint8, and the voxels of each."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *shape), np.uint8)
    voxels = [_neuron(shape, rng) for _ in range(count)]
    for mask, of_one in zip(masks, voxels, strict=True):
        mask[tuple(of_one.T)] = 1
    return masks, voxels


def _neuron(shape, rng):
    """Return the voxels of a trunk that runs through the volume and of the branches it grows."""
    extent = np.array(shape)
    ball = np.argwhere(np.ones((5, 5, 5), bool)) - 2
    ball = ball[(ball**2).sum(axis=1) <= 5]
    start = rng.uniform(0.3, 0.7, 3) * extent
    start[2] = 3
    lines = [_walk(start, np.array([0.0, 0.0, 1.0]), int(1.2 * extent[2]), rng)]
    for _ in range(12):
        trunk = lines[rng.integers(len(lines))]
        side = rng.normal(size=3)
        length = int(rng.uniform(0.2, 0.5) * extent[2])
        lines.append(_walk(trunk[rng.integers(len(trunk))], side, length, rng))
    centre = np.rint(np.concatenate(lines)).astype(int)
    voxels = (centre[:, None] + ball[None]).reshape(-1, 3)
    voxels = voxels[((voxels >= 0) & (voxels < extent)).all(axis=1)]
    flat = np.unique(np.ravel_multi_index(tuple(voxels.T), shape))
    return np.stack(np.unravel_index(flat, shape), axis=1)


def _walk(start, direction, steps, rng):
    """Return points about a voxel apart that change direction slowly."""
    turns = rng.normal(scale=0.02, size=(steps, 3)).cumsum(axis=0)
    headings = direction / np.linalg.norm(direction) + turns
    headings /= np.linalg.norm(headings, axis=1, keepdims=True)
    return start + headings.cumsum(axis=0)


def perturbed(voxels, shape, *, seed=1):
    """Return a prediction, one channel each: shifted a voxel, with gaps, one split, one merged."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((len(voxels) + 1, *shape), np.uint8)
    for number, of_one in enumerate(voxels):
        cut = of_one[rng.random(len(of_one)) > 0.02] + rng.integers(-1, 2, 3)
        cut = cut[((cut >= 0) & (cut < shape)).all(axis=1)]
        channel = np.full(len(cut), number)
        if number == 1:
            channel[cut[:, 2] > shape[2] // 2] = len(voxels)
        if number == 2:
            channel[:] = 3
        masks[channel, cut[:, 0], cut[:, 1], cut[:, 2]] = 1
    return masks


def as_labels(masks):
    """Return channels as one label image; later channels lie on top."""
    labels = np.zeros(masks.shape[1:], np.uint16)
    for number, mask in enumerate(masks, 1):
        labels[mask > 0] = number
    return labels


class PeakMemory:
    """Most MB this process holds inside the block, beyond what it holds at its begin."""

    def __enter__(self):
        self.peak = self._before = self._held()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._watch.join()
        self.megabytes = (self.peak - self._before) / 2**20

    def _look(self):
        while not self._done.wait(0.02):
            self.peak = max(self.peak, self._held())

    @staticmethod
    def _held():
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.fixture(scope="module")
def volume():
    truth, voxels = neurons(VOLUME)
    return truth, perturbed(voxels, VOLUME)


@pytest.mark.parametrize("given", ["channels", "labels"])
@pytest.mark.parametrize("criterion", ["iou", "cldice"])
def test_score_of_12_neurons(benchmark, volume, given, criterion):
    """Centre lines, coverage, splits and merges in a volume of full size."""
    truth, prediction = volume if given == "channels" else map(as_labels, volume)
    with PeakMemory() as memory:
        scores = benchmark.pedantic(
            score_instances,
            (truth, prediction),
            {"ndim": 3, "criterion": criterion, "assignment": "greedy"},
            rounds=1,
        )
    benchmark.extra_info["megabytes"] = round(memory.megabytes)
    assert scores["general"]["Num GT"] == 12
    assert scores["general"]["FM"] == 1
    assert memory.megabytes < 1000
    assert benchmark.stats["max"] < 120
