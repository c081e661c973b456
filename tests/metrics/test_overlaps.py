import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.errors import DataError
from instaseg.metrics.overlaps import (
    find_instances,
    mask_of,
    outside,
    shared_voxels,
    voxels_of,
)

LABELS = np.array(
    [
        [4, 4, 0, 9],
        [4, 0, 0, 9],
    ]
)


def test_label_image():
    found = find_instances(LABELS, ndim=2)
    assert found.channels.tolist() == [[[1, 1, 0, 2], [1, 0, 0, 2]]]
    assert found.label.tolist() == [4, 9]
    assert found.channel.tolist() == [0, 0]
    assert found.sizes.tolist() == [3, 2]


def test_same_label_in_two_channels_is_two_instances():
    channels = np.array([[[1, 1, 0]], [[0, 0, 0]], [[0, 1, 1]]], bool)
    found = find_instances(channels, ndim=2)
    assert found.channel.tolist() == [0, 2]
    assert found.sizes.tolist() == [2, 2]
    assert mask_of(found).tolist() == [[True, True, True]]
    assert mask_of(found, at_least=2).tolist() == [[False, True, False]]


def test_small_ones_are_left_out_and_input_is_not_changed():
    before = LABELS.copy()
    found = find_instances(LABELS, ndim=2, remove_small=2)
    assert found.label.tolist() == [4]
    assert (before == LABELS).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64, np.int64])
def test_any_integer_type_and_huge_labels(dtype):
    labels = np.array([[0, 1, np.iinfo(dtype).max]], dtype)
    found = find_instances(labels, ndim=2)
    assert found.channels.tolist() == [[[0, 1, 2]]]
    assert found.label.tolist() == [1, np.iinfo(dtype).max]


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 5), (4, 5), (0, 0)])
def test_nothing_there(shape):
    found = find_instances(np.zeros(shape, np.uint8), ndim=2)
    assert len(found) == 0
    assert len(voxels_of(found).position) == 0
    assert not mask_of(found).any()


@pytest.mark.parametrize(
    ("array", "ndim", "message"),
    [
        (np.zeros((2, 2)), 2, "truth: labels must be integers; got float64. Convert them"),
        (np.array([[-3, 1]]), 2, "truth: labels must not be negative; found -3."),
        (np.zeros((2, 2), int), 3, r"expected 3 axes for labels or 4 .* got shape \(2, 2\)"),
        (np.zeros((2, 2), int), 4, "ndim must be 2 or 3; got 4"),
    ],
)
def test_bad_labels(array, ndim, message):
    with pytest.raises(DataError, match=message):
        find_instances(array, ndim=ndim, name="truth")


SMALL = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4),
    elements=st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(SMALL, st.data())
def test_shared_voxels_equal_counting_every_pair(first, data):
    second = data.draw(
        hnp.arrays(np.uint8, (2, *first.shape[1:]), elements=st.integers(0, 3)), "second"
    )
    true, predicted = find_instances(first, ndim=2), find_instances(second, ndim=2)
    expected = {
        (i, j): int(both)
        for i in range(len(true))
        for j in range(len(predicted))
        if (
            both := (
                (true.channels == i + 1).any(axis=0) & (predicted.channels == j + 1).any(axis=0)
            ).sum()
        )
    }
    rows, columns, count = shared_voxels(voxels_of(true), predicted)
    assert dict(zip(zip(rows, columns, strict=True), count, strict=True)) == expected
    assert list(zip(rows, columns, strict=True)) == sorted(expected)


def test_outside_keeps_what_is_not_masked():
    voxels = voxels_of(find_instances(LABELS, ndim=2))
    left = outside(voxels, np.array([[1, 0, 0, 1], [0, 0, 0, 1]], bool))
    assert left.position.tolist() == [1, 4]
    assert left.sizes.tolist() == [2, 0]
