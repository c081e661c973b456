import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.scene import Scene


def refined(labels, *operations, spacing=None):
    options = PostprocessingSettings(refine=operations, relabel="keep")
    return postprocess(labels, options, Scene(spacing or (1.0,) * labels.ndim))


TOUCHING = np.array([[2, 2, 2, 2, 5, 5, 5, 5]] * 5, np.uint16)


def test_erosion_opens_a_gap_on_both_sides():
    before = TOUCHING.copy()
    eroded = refined(TOUCHING, "erode 1")
    # not from the image's border, beyond which nothing is known
    assert eroded.tolist() == [[2, 2, 2, 0, 0, 5, 5, 5]] * 5
    assert (before == TOUCHING).all()
    assert eroded.dtype == np.uint16


def test_dilation_overwrites_nothing_and_ties_go_to_the_smaller_label():
    labels = np.array([[9, 9, 0, 0, 0, 3, 3, 4]], np.uint8)
    assert refined(labels, "dilate 1").tolist() == [[9, 9, 9, 0, 3, 3, 3, 4]]
    assert refined(labels, "dilate 10").tolist() == [[9, 9, 9, 3, 3, 3, 3, 4]]


def test_radii_are_physical():
    labels = np.zeros((5, 5), np.uint8)
    labels[2, 2] = 1
    grown = refined(labels, "dilate 2", spacing=(2.0, 1.0))
    assert grown.tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    row = np.zeros((5, 5), np.uint8)
    row[2] = 1
    assert refined(grown, "erode 1.9", spacing=(2.0, 1.0)).tolist() == row.tolist()
    assert refined(grown, "erode 2", spacing=(2.0, 1.0)).tolist() == labels.tolist()


def test_each_of_repeated_operations_has_its_own_value():
    labels = np.zeros((1, 30), np.int32)
    labels[0, 3:4], labels[0, 8:10], labels[0, 14:18], labels[0, 22:30] = 1, 2, 3, 4
    assert np.unique(refined(labels, "remove_small 1", "remove_small 2")).tolist() == [0, 3, 4]
    assert np.unique(refined(labels, "remove_large 4", "remove_large 1")).tolist() == [0, 1]
    first = refined(refined(labels, "dilate 2"), "erode 1")
    assert refined(labels, "dilate 2", "erode 1").tolist() == first.tolist()
    assert refined(labels, "erode 1", "dilate 2").tolist() != first.tolist()


def test_small_is_at_most_and_large_is_more_than():
    labels = np.array([[1, 0, 2, 2, 0, 3, 3, 3]])
    assert np.unique(refined(labels, "remove_small 2")).tolist() == [0, 3]
    assert np.unique(refined(labels, "remove_large 2")).tolist() == [0, 1, 2]


def test_what_touches_the_border_is_cleared():
    labels = np.zeros((6, 6), np.int64)
    labels[0:3, 2], labels[2:4, 4], labels[4, 5] = 1, 2, 3
    assert np.unique(refined(labels, "clear_border")).tolist() == [0, 2]
    volume = np.zeros((3, 3, 3), np.int64)
    volume[1, 1, 1], volume[2, 1, 1] = 7, 8
    assert np.unique(refined(volume, "clear_border")).tolist() == [0, 7]


def test_holes_are_filled_between_operations():
    ring = np.zeros((7, 7), np.uint8)
    ring[1:6, 1:6] = 4
    ring[3, 3] = 0
    assert (refined(ring, "fill_holes", "erode 1")[2:5, 2:5] == 4).all()
    assert refined(ring, "erode 1", "fill_holes")[3, 3] == 0


def test_instances_of_channels_do_not_see_each_other():
    masks = np.zeros((2, 1, 6), bool)
    masks[0, 0, :2], masks[1, 0, 3:] = True, True
    options = PostprocessingSettings(refine=["dilate 3"], relabel="keep")
    grown = postprocess(masks, options, Scene((1.0, 1.0)))
    assert grown.astype(int).tolist() == [[[1, 1, 1, 1, 1, 0]], [[1, 1, 1, 1, 1, 1]]]
    assert grown.dtype == bool


def plain(labels, radius, spacing, change):
    """Look at every pair of voxels."""
    places = np.argwhere(np.ones(labels.shape, bool))
    flat = labels.ravel()
    apart = np.linalg.norm((places[:, None] - places[None]) * np.array(spacing), axis=2)
    result = flat.copy()
    for n, label in enumerate(flat):
        near = apart[n] <= radius + 1e-6
        if change == "erode" and label and (flat[near] != label).any():
            result[n] = 0
        if change == "dilate" and not label and flat[near].any():
            there = near & (flat > 0)
            closest = there & (apart[n] <= apart[n][there].min() + 1e-6)
            result[n] = flat[closest].min()
    return result.reshape(labels.shape)


@given(
    st.sampled_from([(6, 7), (3, 4, 5)]),
    st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]),
    st.sampled_from(["erode", "dilate"]),
    st.integers(0, 99),
)
@settings(max_examples=40)
def test_operations_are_those_of_the_definition(shape, radius, change, seed):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, shape), np.ones((2,) * len(shape), np.uint8))
    labels = (labels * 50).astype(np.uint8)[tuple(slice(0, n) for n in shape)]
    spacing = (1.5, 1.0, 1.0)[-len(shape) :]
    found = refined(labels, f"{change} {radius}", spacing=spacing)
    np.testing.assert_array_equal(found, plain(labels, radius, spacing, change))


@pytest.mark.parametrize("operation", ["dilate 2", "erode 1", "remove_small 4", "remove_large 4"])
def test_a_volume_of_one_slice_is_an_image(operation):
    labels = np.random.default_rng(0).integers(0, 5, (12, 12)).astype(np.uint8)
    volume = refined(labels[None], operation, spacing=(9.0, 1.0, 1.0))
    assert volume[0].tolist() == refined(labels, operation).tolist()
