"""Distances in physical units, worked out by hand and against scipy and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from instaseg.regions.distance import distance_inside, distance_per_label, nearest

SPACINGS = [(1.0, 1.0), (4.0, 1.0), (0.5, 2.0)]


def test_distance_to_the_nearest_false_voxel_in_physical_units():
    mask = np.array([[1, 1, 0], [1, 1, 1]], bool)
    found = distance_inside(mask, (3, 1))
    assert found[0].tolist() == [2, 1, 0]
    assert found[1].tolist() == pytest.approx([13**0.5, 10**0.5, 3])


def test_beyond_the_array_lies_nothing_or_a_wall():
    mask = np.ones((3, 3), bool)
    assert np.isinf(distance_inside(mask, (1, 1))).all()
    wall = distance_inside(mask, (2, 1), border="wall")
    assert wall.tolist() == [[1, 2, 1], [1, 2, 1], [1, 2, 1]]
    assert distance_per_label(mask.astype(int), (1, 1), border="wall")[1, 1] == 2


def test_labels_that_touch_are_measured_to_each_other():
    labels = np.array([[1, 1, 1, 2, 2, 0]])
    assert distance_per_label(labels, (1, 0.5)).tolist() == [[1.5, 1, 0.5, 0.5, 0.5, 0]]


def test_an_array_without_voxels_has_no_distances():
    assert distance_inside(np.zeros((0, 3), bool), (1, 1)).shape == (0, 3)
    assert nearest(np.zeros((0, 3), int), (1, 1))[0].shape == (0, 3)


@pytest.mark.parametrize("spacing", SPACINGS)
@given(labels=hnp.arrays(np.int32, st.tuples(*[st.integers(1, 7)] * 2), elements=st.integers(0, 2)))
@settings(max_examples=30)
def test_distances_are_those_of_scipy(spacing, labels):
    before = labels.copy()
    padded = np.pad(labels, 1)
    one_by_one = sum(distance_transform_edt(padded == i, sampling=spacing) for i in (1, 2))
    walled = distance_per_label(labels, spacing, border="wall")
    np.testing.assert_allclose(walled, one_by_one[1:-1, 1:-1], rtol=1e-6)
    if not (labels > 0).all():
        inside = distance_transform_edt(labels > 0, sampling=spacing)
        np.testing.assert_allclose(distance_inside(labels > 0, spacing), inside, rtol=1e-6)
    assert (labels == before).all()


def test_volumes_and_their_slices_agree():
    labels = np.random.default_rng(0).integers(0, 3, (9, 8))
    flat = distance_per_label(labels, (2, 1))
    assert (distance_per_label(labels[None], (5, 2, 1))[0] == flat).all()
    grown, distance = nearest(labels, (2, 1))
    assert (nearest(labels[None], (5, 2, 1))[0][0] == grown).all()
    assert (nearest(labels[None], (5, 2, 1))[1][0] == distance).all()


def test_of_equally_near_labels_the_smallest_is_taken():
    assert nearest(np.array([[9, 0, 4]]), (1, 1))[0].tolist() == [[9, 4, 4]]
    assert nearest(np.array([[0, 7], [3, 0]]), (1, 1))[0].tolist() == [[3, 7], [3, 3]]


def test_voxels_further_than_most_stay_background():
    grown, distance = nearest(np.array([[2, 0, 0, 0]]), (1, 0.5), most=1.0)
    assert grown.tolist() == [[2, 2, 2, 0]]
    assert distance.tolist() == [[0, 0.5, 1, np.inf]]
    assert nearest(np.zeros((2, 2), int), (1, 1))[0].tolist() == [[0, 0], [0, 0]]


def nearest_by_loops(labels, spacing, most):
    seeds = np.argwhere(labels > 0)
    grown, distance = np.zeros(labels.shape, int), np.full(labels.shape, np.inf)
    for voxel in np.ndindex(labels.shape):
        found = [
            (round(float(np.hypot.reduce((seed - voxel) * spacing)), 9), labels[tuple(seed)])
            for seed in seeds
        ]
        if found and min(found)[0] <= most:
            distance[voxel], grown[voxel] = min(found)
    return grown, distance


@given(
    labels=hnp.arrays(
        np.int32,
        st.sampled_from([(1, 9), (6, 5), (3, 4, 5), (2, 1, 20)]),
        elements=st.sampled_from([0, 0, 0, 1, 2]),
    ),
    most=st.sampled_from([1.0, 2.0, 3.5, np.inf]),
)
@settings(max_examples=50)
def test_nearest_labels_are_those_of_plain_loops(labels, most):
    spacing = np.array([2.0, 1.0, 1.5])[-labels.ndim :]
    grown, distance = nearest(labels, spacing, most=None if np.isinf(most) else most)
    expected, far = nearest_by_loops(labels, spacing, most)
    assert grown.tolist() == expected.tolist()
    np.testing.assert_allclose(distance, far, rtol=1e-6)


def test_a_part_of_an_array_gives_the_same_nearest_labels_bit_by_bit():
    labels = np.random.default_rng(1).integers(0, 40, (40, 41)) * 0
    spots = np.random.default_rng(2).integers(0, 40, (60, 2))
    labels[tuple(spots.T)] = np.arange(1, 61)
    spacing = (0.37, 0.29)
    grown, distance = nearest(labels, spacing, most=2.0)
    part = (slice(7, 33), slice(3, 35))  # with at least 6 voxels around [13:27, 10:28]
    cut, near = nearest(labels[part], spacing, most=2.0)
    assert (cut[6:20, 7:25] == grown[13:27, 10:28]).all()
    assert (near[6:20, 7:25] == distance[13:27, 10:28]).all()
