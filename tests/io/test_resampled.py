"""Arrays at another size: weights by hand, parts equal the whole, labels keep their ids."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.io.resampled import (
    ResampledParts,
    ResampledReader,
    linear_taps,
    nearest_taps,
    resampled_labels,
)


def whole(reader):
    return reader[tuple(slice(0, n) for n in reader.shape)]


def test_enlarged_twice():
    """Centres lie a quarter of a voxel beside the old ones; beyond the ends the values stay."""
    image = np.array([[0.0, 4.0, 8.0]], np.float32)
    found = whole(ResampledReader(image, (6,), "linear"))
    assert found.tolist() == [[0, 1, 3, 5, 7, 8]]


def test_a_part_without_voxels_has_the_channels_asked_for():
    reader = ResampledReader(np.zeros((3, 4, 5), np.uint8), (8, 10), "nearest")
    assert reader[slice(1, None), slice(4, 2), slice(0, 7)].shape == (2, 0, 7)


def test_reduced_images_are_means():
    """A comb of every second voxel becomes its mean, not one of its values."""
    comb = np.tile(np.array([0.0, 1.0], np.float32), 32)[np.newaxis]
    found = whole(ResampledReader(comb, (32,), "linear"))
    np.testing.assert_allclose(found[0, 1:-1], 0.5)


def test_weights_sum_to_one_and_are_centred():
    for old, new in ((7, 3), (7, 7), (7, 20), (1, 5), (5, 1)):
        places, weights = linear_taps(0, new, old, new)
        np.testing.assert_allclose(weights.sum(axis=0), 1)
        assert places.min() >= 0
        assert places.max() < old
        inner = slice(1, -1) if new > 2 else slice(0, 0)
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        unclipped = (places.min(axis=0) > 0) & (places.max(axis=0) < old - 1)
        found = (places * weights).sum(axis=0)
        np.testing.assert_allclose(found[inner][unclipped[inner]], centres[inner][unclipped[inner]])


def test_nearest_goes_there_and_back():
    """Labels enlarged by any factor and reduced again are the same."""
    labels = np.arange(35, dtype=np.int32).reshape(5, 7)
    for size in ((5, 7), (10, 14), (8, 11), (50, 70)):
        assert (resampled_labels(resampled_labels(labels, size), (5, 7)) == labels).all()
    assert nearest_taps(0, 3, 6, 3)[0].tolist() == [[1, 3, 5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_type_and_channels_are_kept(dtype):
    image = np.random.default_rng(0).integers(0, 200, (2, 9, 8)).astype(dtype)
    found = ResampledReader(image, (13, 5), "linear")
    assert (found.shape, found.dtype) == ((2, 13, 5), dtype)
    assert whole(found).dtype == dtype
    flat = np.full((1, 4, 4), 200, dtype)
    np.testing.assert_allclose(whole(ResampledReader(flat, (7, 3), "linear")), 200, rtol=1e-6)


def test_large_integers_keep_their_digits():
    image = np.full((1, 4), 2**31 - 5, np.int64)
    assert (whole(ResampledReader(image, (7,), "linear")) == 2**31 - 5).all()


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=3),
    how=st.sampled_from(["linear", "nearest"]),
    data=st.data(),
)
def test_a_part_is_that_part_of_the_whole(shape, how, data):
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    size = [data.draw(st.integers(1, 15)) for _ in shape]
    reader = ResampledReader(image, size, how)
    part = []
    for n in size:
        begin = data.draw(st.integers(0, n))
        part.append(slice(begin, data.draw(st.integers(begin, n))))
    index = (slice(0, 2), *part)
    found = reader[index]
    np.testing.assert_array_equal(found, whole(reader)[index])
    assert found.dtype == image.dtype


@dataclass
class Parts:
    """Labels cut in two along every axis."""

    labels: np.ndarray
    cuts: tuple

    @property
    def shape(self):
        return self.labels.shape

    def parts(self):
        lead = self.labels.ndim - len(self.cuts)
        for corner in np.ndindex(*(2,) * len(self.cuts)):
            place = tuple(
                slice(0, cut) if low == 0 else slice(cut, n)
                for low, cut, n in zip(corner, self.cuts, self.shape[lead:], strict=True)
            )
            for channel in range(self.shape[0]) if lead else (None,):
                full = place if channel is None else (slice(channel, channel + 1), *place)
                yield full, self.labels[full]


@pytest.mark.parametrize("size", [(11, 3), (4, 20), (6, 5)])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_labels_in_parts_are_those_of_the_whole(size, channels):
    labels = np.random.default_rng(0).integers(0, 9, (*channels, 6, 5)).astype(np.int32)
    parts = ResampledParts(Parts(labels, (4, 1)), size)
    found = np.full(parts.shape, -1, np.int32)
    for place, values in parts.parts():
        assert (found[place] == -1).all()
        found[place] = values
    np.testing.assert_array_equal(found, resampled_labels(labels, size))
