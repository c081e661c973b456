"""How long assembly takes: ``pytest benchmarks/bench_assembly.py``.

Each benchmark adds to its ``extra_info``: microseconds per foreground voxel, and for the ranking
how many times as long the plain scatter loop takes that every kernel of this kind starts from.
"""

import time

import numba as nb
import numpy as np
import pytest

from instaseg.methods.patches import assembly, patch_targets, rank_patches
from instaseg.methods.patches.config import LabelSettings

WORLDS = {"9x9": (256, 9), "25x25": (192, 25)}


@nb.njit(parallel=True, fastmath=True)
def scatter(patches, foreground, side):
    """Return votes and numbers of all pairs, patch by patch, in parallel stripes of rows."""
    height, width, _ = patches.shape
    radius, span = side // 2, 2 * side - 1
    votes = np.zeros((height, width, side, span), np.float32)
    number = np.zeros((height, width, side, span), np.float32)
    stripe = 4 * side
    count = (height + stripe - 1) // stripe
    for phase in range(2):  # stripes of one phase write to different rows
        for s in nb.prange((count - phase + 1) // 2):
            begin = (2 * s + phase) * stripe
            for y in range(max(radius, begin), min(height - radius, begin + stripe)):
                for x in range(radius, width - radius):
                    if foreground[y, x]:
                        add_patch(patches[y, x], foreground, y, x, votes, number)
    return votes, number


@nb.njit(fastmath=True)
def add_patch(patch, foreground, y, x, votes, number):
    side = votes.shape[2]
    radius = side // 2
    for p in range(patch.size):
        i, j = p // side, p % side
        if not foreground[y + i - radius, x + j - radius]:
            continue
        a = patch[p]
        for q in range(p + 1, patch.size):
            k, m = q // side, q % side
            b = patch[q]
            if not foreground[y + k - radius, x + m - radius] or (a <= 0.5 and b <= 0.5):
                continue
            if a > 0.5 and b > 0.5:
                vote = (a * b - 0.25) / 0.75
            else:
                vote = -(max(a, b) * (1 - min(a, b)) - 0.25) / 0.75
            votes[y + i - radius, x + j - radius, k - i, m - j + side - 1] += vote
            number[y + i - radius, x + j - radius, k - i, m - j + side - 1] += 1


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request):
    """Return affinities with errors, their foreground and the patch's side."""
    size, side = WORLDS[request.param]
    rng = np.random.default_rng(0)
    labels = np.zeros((size, size), dtype=np.int32)
    y, x = np.indices(labels.shape)
    for number in range(1, 80 * size**2 // 256**2 + 1):
        cy, cx = rng.integers(0, size, 2)
        ry, rx = rng.integers(7, 14, 2)
        labels[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = number
    truth = patch_targets(labels, (side, side))
    error = np.abs(rng.normal(0, 0.15, truth.shape)).astype(np.float32)
    affinities = np.clip(np.where(truth > 0, 1 - error, error), 0, 1).astype(np.float32)
    affinities[:, labels == 0] *= 0.3
    return affinities, affinities[side * side // 2] > 0.5, side


def fastest(function, *arguments):
    """Return the best of three times in seconds, after one call that compiles."""
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def test_ranking(benchmark, world):
    affinities, foreground, side = world
    benchmark.pedantic(
        rank_patches, (affinities, foreground, (side, side)), rounds=5, warmup_rounds=1
    )
    last = np.ascontiguousarray(np.moveaxis(affinities, 0, -1))
    ours = benchmark.stats.stats.min
    benchmark.extra_info["scatter / ours"] = fastest(scatter, last, foreground, side) / ours
    benchmark.extra_info["us per voxel"] = ours / foreground.sum() * 1e6


@pytest.mark.parametrize("partition", ["components", "mutex"])
@pytest.mark.parametrize("thin_out", ["none", "greedy"])
def test_later_steps(benchmark, world, partition, thin_out):
    """Cover, thin out, graph, partition and painting, given consensus and scores."""
    affinities, foreground, side = world
    chosen = LabelSettings(partition=partition, thin_out=thin_out)
    inputs = assembly.check_inputs(affinities, foreground, (side, side), None)
    volume = assembly.prepare(inputs, chosen)
    votes = assembly.vote(volume, chosen)
    scores = assembly.score(volume, votes, chosen)

    def later():
        selected = assembly.select(volume, scores, chosen)
        return assembly.join(volume, votes, selected, chosen)

    labels = benchmark.pedantic(later, rounds=5, warmup_rounds=1)
    assert labels.max() > 0
    benchmark.extra_info["us per voxel"] = benchmark.stats.stats.min / foreground.sum() * 1e6
