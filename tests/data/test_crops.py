"""Boxes cut out of samples: mirrored at the border, drawn where they should be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.data.config import SamplingSettings
from instaseg.data.crops import (
    CropImage,
    ForegroundIndex,
    LocationSampler,
    read_box,
    separate_mirrored,
)
from instaseg.data.normalization import Statistics
from instaseg.geometry import Box

RANDOM = SamplingSettings(probability_random=1, probability_fg=0)
FOREGROUND = SamplingSettings(probability_random=0, probability_fg=1)
SAME = Statistics((0.0,), (1.0,))


class OnDisk:
    """An array that, like a reader, only takes one slice per axis within its bounds."""

    def __init__(self, array):
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, index):
        assert len(index) == len(self.shape)
        assert all(0 <= s.start < s.stop <= n for s, n in zip(index, self.shape, strict=True))
        return self._array[index]


def crop_image(labels, mask=None):
    raw = (labels[np.newaxis] != 0).astype(np.uint8)
    return CropImage(raw, labels, mask, SAME, (1.0,) * labels.ndim)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reading_outside_is_numpys_reflect_padding(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(2, 6)))
    image = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    begin = tuple(data.draw(st.integers(-9, n - 1)) for n in shape)
    end = tuple(
        data.draw(st.integers(max(b, 0) + 1, n + 9)) for b, n in zip(begin, shape, strict=True)
    )
    padded = np.pad(image, ((0, 0), (9, 9), (9, 9)), mode="reflect")
    expected = padded[:, begin[0] + 9 : end[0] + 9, begin[1] + 9 : end[1] + 9]
    for source in (image, OnDisk(image)):
        np.testing.assert_array_equal(read_box(source, Box(begin, end)), expected)


def test_mirrored_copies_are_instances_of_their_own():
    # The image begins at the third column: 3 touches it, 5 does not.
    #                          mirrored | image
    crop = np.array([[0, 3, 3, 0], [5, 0, 5, 0], [7, 7, 0, 0]], dtype=np.int32)
    found = separate_mirrored(crop, Box((0, 2), (3, 4)))
    assert found[0].tolist() == [0, 3, 3, 0]
    assert found[1, 2] == 5
    assert found[2, 0] == found[2, 1]
    assert len({5, 3, 0, found[1, 0], found[2, 0]}) == 5


def test_labels_keep_their_meaning_in_any_type():
    big = np.array([[0, 2**40, 2**40, 7]], dtype=np.uint64)
    cut = crop_image(big).crop_labels(Box((0, 0), (1, 4)))
    assert cut.dtype == np.int32
    assert (cut[0, 0], cut[0, 1] == cut[0, 2], cut[0, 3] not in (0, cut[0, 1])) == (0, True, True)
    small = crop_image(np.array([[0, 300, 7]], dtype=np.uint16)).crop_labels(Box((0, 0), (1, 3)))
    assert small.tolist() == [[0, 300, 7]]


def test_mask_is_one_without_one():
    labels = np.zeros((4, 5), np.uint8)
    assert crop_image(labels).crop_mask(Box((-1, 0), (2, 2))).tolist() == [[1, 1]] * 3
    mask = np.zeros((4, 5), bool)
    mask[1] = True
    expected = [[1, 1], [0, 0], [1, 1]]
    assert crop_image(labels, mask).crop_mask(Box((-1, 0), (2, 2))).tolist() == expected


def test_instances_are_drawn_equally_often():
    labels = np.zeros((20, 20), np.uint16)
    labels[0, 0] = 9  # one voxel
    labels[5:15, 5:15] = 4  # a hundred
    index = ForegroundIndex(labels)
    rng = np.random.default_rng(0)
    drawn = [index.draw(rng) for _ in range(400)]
    assert index.instances == 2
    assert 160 < sum(voxel == (0, 0) for voxel in drawn) < 240
    assert {labels[voxel] for voxel in drawn} == {4, 9}
    assert len(set(drawn)) > 80


def test_crops_lie_inside_where_they_fit():
    sampler = LocationSampler([crop_image(np.ones((10, 6), np.uint8))], RANDOM, (4, 8))
    rng = np.random.default_rng(0)
    begins = [sampler.draw(rng)[1].begin for _ in range(300)]
    # The first axis has room for begins 0 to 6; the second is two voxels too short: -2 to 0.
    assert {b[0] for b in begins} == set(range(7))
    assert {b[1] for b in begins} == {-2, -1, 0}


def test_large_images_are_drawn_more_often():
    images = [crop_image(np.ones((10, 10), np.uint8)), crop_image(np.ones((30, 10), np.uint8))]
    sampler = LocationSampler(images, RANDOM, (4, 4))
    rng = np.random.default_rng(0)
    assert 250 < sum(sampler.draw(rng)[0] for _ in range(400)) < 350


def test_foreground_crops_hold_an_instance_and_empty_images_are_left_out():
    labels = np.zeros((40, 40), np.uint8)
    labels[30, 2] = 1
    images = [crop_image(0 * labels), crop_image(labels)]
    sampler = LocationSampler(images, FOREGROUND, (5, 5))
    rng = np.random.default_rng(0)
    for _ in range(50):
        number, box = sampler.draw(rng)
        assert number == 1
        assert images[1].crop_labels(box).any()
        assert min(box.begin) >= 0


def test_without_any_instance_crops_are_random():
    sampler = LocationSampler([crop_image(np.zeros((9, 9), np.uint8))], FOREGROUND, (5, 5))
    assert sampler.draw(np.random.default_rng(0))[0] == 0


@pytest.mark.parametrize("min_masked", [0.5, 1.0])
def test_crops_with_too_little_foreground_are_drawn_again(min_masked):
    labels = np.zeros((20, 20), np.uint8)
    labels[:, :10] = 1
    wanted = SamplingSettings(probability_random=1, probability_fg=0, min_masked=min_masked)
    sampler = LocationSampler([crop_image(labels)], wanted, (4, 4))
    rng = np.random.default_rng(0)
    for _ in range(30):
        box = sampler.draw(rng)[1]
        assert (labels[box.slices] != 0).mean() >= min_masked


def test_foreground_that_is_not_to_be_had_ends_the_search():
    wanted = SamplingSettings(probability_random=1, probability_fg=0, min_masked=0.9)
    sampler = LocationSampler([crop_image(np.zeros((9, 9), np.uint8))], wanted, (4, 4))
    assert sampler.draw(np.random.default_rng(0))[0] == 0
