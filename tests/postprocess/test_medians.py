import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from instaseg.geometry import grid, whole
from instaseg.postprocess.config import MedianFilter
from instaseg.postprocess.medians import filter_box, filter_channels, reach

FILTERS = [MedianFilter("z", 5), MedianFilter("yz", 3), MedianFilter("xy", 3)]


def random_prediction(shape, dtype, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return values.astype(dtype) if dtype == np.uint8 else (values / 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize(
    ("one", "size"),
    [
        (MedianFilter("xy", 3), (1, 3, 3)),
        (MedianFilter("yz", 5), (5, 5, 1)),
        (MedianFilter("xz", 3), (3, 1, 3)),
        (MedianFilter("z", 7), (7, 1, 1)),
        (MedianFilter("xyz", 3), (3, 3, 3)),
    ],
)
def test_each_channel_is_filtered_as_scipy_does(dtype, one, size):
    values = random_prediction((2, 6, 8, 9), dtype)
    before = values.copy()
    filtered = filter_channels(values, [one])
    wide = np.float32 if dtype == np.float16 else dtype
    for channel, found in zip(values, filtered, strict=True):
        wanted = median_filter(channel.astype(wide), size=size)
        np.testing.assert_array_equal(found, wanted.astype(dtype))
    assert filtered.dtype == dtype
    assert (values == before).all()


def test_filters_of_images_lie_in_the_plane():
    values = random_prediction((1, 9, 7), np.uint8)
    wanted = median_filter(values[0], size=(3, 3))
    np.testing.assert_array_equal(filter_channels(values, [MedianFilter("xy", 3)])[0], wanted)
    volume = filter_channels(values[:, None], [MedianFilter("xy", 3)])
    np.testing.assert_array_equal(volume[0, 0], wanted)


def test_filters_follow_each_other():
    line = np.array([0, 9, 9, 0, 0, 9, 0, 0, 9, 9, 9], np.uint8)
    small, large = MedianFilter("z", 3), MedianFilter("z", 5)
    volume = line[None, :, None, None]
    first = filter_channels(filter_channels(volume, [small]), [large])
    np.testing.assert_array_equal(filter_channels(volume, [small, large]), first)
    other = filter_channels(volume, [large, small])
    assert other.tolist() != filter_channels(volume, [small, small]).tolist()


def test_reach_is_the_sum_of_half_the_sides():
    assert reach(FILTERS, 3) == (3, 2, 1)
    assert reach([MedianFilter("xy", 5)], 2) == (2, 2)
    assert reach([], 3) == (0, 0, 0)


@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.lists(st.sampled_from(FILTERS), max_size=3),
    st.integers(0, 999),
)
@settings(max_examples=20)
def test_any_part_equals_that_part_of_the_whole(shape, block_shape, filters, seed):
    values = random_prediction((2, *shape), np.float16, seed)
    wanted = filter_channels(values, filters)
    for box in grid(whole(shape), block_shape):
        found = filter_box(values, slice(0, 2), box, filters)
        np.testing.assert_array_equal(found, wanted[(slice(None), *box.slices)])
