"""Regional maxima: against a plain flood, and in blocks; suppression against a plain loop."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from instaseg.geometry import grid, whole
from instaseg.methods.synapses.peaks import (
    HALO,
    Candidates,
    Peaks,
    find_candidates,
    join_plateaus,
    suppress,
)


def in_blocks(values, threshold, block_shape):
    """Return the candidates of every block."""
    found = []
    for block in grid(whole(values.shape), block_shape):
        around = block.grow([HALO] * values.ndim).intersect(whole(values.shape))
        inner = block.shift([-b for b in around.begin]).slices
        one = find_candidates(values[around.slices], threshold, inner=inner)
        found.append(Candidates(one.voxels + np.array(around.begin), one.values, one.open))
    return found


def peaks_of(values, threshold=0.0, spacing=None):
    return join_plateaus([find_candidates(values, threshold)], spacing or (1.0,) * values.ndim)[0]


def plain_peaks(values, threshold):
    """Return the plateaus that nothing beside them exceeds, each as a set of voxels."""
    found = []
    for level in np.unique(values[values > threshold]):
        labels, count = ndimage.label(values == level, np.ones((3,) * values.ndim))
        for number in range(1, count + 1):
            inside = labels == number
            around = ndimage.binary_dilation(inside, np.ones((3,) * values.ndim))
            if values[around].max() <= level:
                found.append({tuple(v) for v in np.argwhere(inside).tolist()})
    return found


images = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 4, (7, 9)).astype(np.float32)
)
volumes = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 3, (5, 4, 6)).astype(np.float32)
)


@settings(max_examples=25)
@given(images | volumes)
def test_every_plateau_gives_one_of_its_voxels(values):
    expected = plain_peaks(values, 0.5)
    found = [tuple(v) for v in peaks_of(values, 0.5).voxels.tolist()]
    assert len(found) == len(expected)
    assert all(sum(voxel in plateau for voxel in found) == 1 for plateau in expected)


@settings(max_examples=25)
@given(images | volumes, st.sampled_from([1, 2, 3, 5]))
def test_blocks_give_the_peaks_of_the_whole(values, side):
    whole_peaks, _ = join_plateaus([find_candidates(values, 0.5)], (1.0,) * values.ndim)
    blocks = in_blocks(values, 0.5, (side,) * values.ndim)
    peaks, numbers = join_plateaus(blocks, (1.0,) * values.ndim)
    assert np.array_equal(peaks.voxels, whole_peaks.voxels)
    assert np.array_equal(peaks.values, whole_peaks.values)
    # the numbers say which candidate of which block it is
    assert np.array_equal(np.concatenate([b.voxels for b in blocks])[numbers], peaks.voxels)


def test_a_peak_on_a_cut_is_found_once():
    values = np.zeros((8, 8), np.float32)
    values[3:5, 3:5] = 1
    blocks = in_blocks(values, 0.5, (4, 4))
    assert [len(one.values) for one in blocks] == [1, 1, 1, 1]
    assert join_plateaus(blocks, (1.0, 1.0))[0].voxels.tolist() == [[3, 3]]


def test_the_middle_of_a_plateau_is_its_peak():
    values = np.zeros((5, 9), np.float32)
    values[1:4, 2:7] = 0.8
    assert peaks_of(values).voxels.tolist() == [[2, 4]]


def test_a_step_below_a_peak_is_none():
    values = np.array([[0, 1, 1, 1, 2, 1, 1, 0.5, 1, 0]], np.float32)
    assert peaks_of(values).voxels.tolist() == [[0, 4], [0, 8]]


def test_nothing_above_the_threshold_gives_no_peaks():
    assert peaks_of(np.full((4, 4), 0.5, np.float32), 0.5).voxels.shape == (0, 2)


def suppress_plainly(peaks, distance, spacing):
    kept = []
    order = sorted(range(len(peaks.values)), key=lambda i: (-peaks.values[i], i))
    for i in order:
        place = peaks.voxels[i] * np.array(spacing)
        if all(
            np.linalg.norm(place - peaks.voxels[j] * np.array(spacing)) > distance for j in kept
        ):
            kept.append(i)
    return sorted(kept)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 2.0, 3.5, 8.0]))
def test_suppression_is_greedy_by_probability(seed, distance):
    rng = np.random.default_rng(seed)
    voxels = np.unique(rng.integers(0, 9, (20, 2)), axis=0)
    peaks = Peaks(voxels, rng.integers(1, 4, len(voxels)).astype(np.float32))
    spacing = (2.0, 1.0)
    assert suppress(peaks, distance, spacing).tolist() == suppress_plainly(peaks, distance, spacing)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_chain_keeps_both_ends(order):
    # the highest drops the middle one, which then drops nothing
    values = np.array([0.9, 0.8, 0.7], np.float32)[list(order)]
    voxels = np.array([[0, 0], [0, 3], [0, 6]])[list(order)]
    kept = suppress(Peaks(voxels, values), 4.0, (1.0, 1.0))
    assert sorted(values[kept].tolist()) == pytest.approx([0.7, 0.9])
