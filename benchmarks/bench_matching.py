"""How long scores of many instances take: ``pytest benchmarks/bench_matching.py``."""

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
