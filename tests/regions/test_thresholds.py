"""Otsu's threshold from counts: skimage's for whole numbers, and the same from blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.filters import threshold_otsu

from instaseg.regions.thresholds import ValueCounts, count_values, otsu

SHAPE = hnp.array_shapes(min_dims=1, max_dims=3, max_side=9)


@given(image=hnp.arrays(np.uint8, SHAPE))
@settings(max_examples=50)
def test_the_threshold_of_bytes_is_that_of_skimage(image):
    found, theirs = otsu(count_values(image)), threshold_otsu(image.reshape(-1))
    if found != theirs:  # only where two cuts are equally good, up to rounding
        assert variance(image, found) == pytest.approx(variance(image, theirs), rel=1e-5)


def variance(image, cut):
    low, high = image[image <= cut].astype(float), image[image > cut].astype(float)
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2


def test_the_cut_lies_in_the_gap():
    values = np.array([0.1, 0.15, 0.2, 0.7, 0.75, 0.9])
    assert otsu(count_values(values)) == 0.2
    assert otsu(count_values(np.array([0, 0, 0, 255], np.uint8))) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.int64])
def test_a_constant_is_its_own_threshold(dtype):
    assert otsu(count_values(np.full((3, 2), 7, dtype))) == 7


def test_no_values_have_no_threshold():
    with pytest.raises(ValueError, match="expected values to find a threshold for, found none"):
        otsu(count_values(np.zeros((0, 3), np.float16)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@given(data=st.data())
@settings(max_examples=20)
def test_counts_are_those_of_numpy_and_of_blocks(dtype, data):
    elements = st.integers(0, 9) if dtype == np.uint8 else st.sampled_from([-2, -0.0, 0, 0.1, 3])
    image = data.draw(hnp.arrays(dtype, st.tuples(st.integers(2, 6), st.integers(1, 6))))
    image = data.draw(hnp.arrays(dtype, image.shape, elements=elements.map(dtype)))
    counted = count_values(image)
    values, counts = np.unique(image, return_counts=True)
    assert counted.values.tolist() == values.tolist()
    assert counted.counts.tolist() == counts.tolist()
    cut = data.draw(st.integers(1, len(image) - 1))
    summed = count_values(image[:cut]) + count_values(image[cut:])
    assert summed.values.dtype == counted.values.dtype == dtype
    assert summed.values.tolist() == values.tolist()
    assert summed.counts.tolist() == counts.tolist()


def test_counts_of_other_values_are_merged():
    counted = ValueCounts(np.array([1, 3]), np.array([2, 2])) + ValueCounts(
        np.array([2, 3]), np.array([1, 5])
    )
    assert counted.values.tolist() == [1, 2, 3]
    assert counted.counts.tolist() == [2, 1, 7]
