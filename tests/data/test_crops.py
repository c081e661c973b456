"""Boxes cut out of samples: mirrored at the border, drawn where they should be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.data import crops
from instaseg.data.config import SamplingSettings
from instaseg.data.crops import (
    CropImage,
    Location,
    LocationSampler,
    background_index,
    foreground_index,
    overlap_index,
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
    return layered_image(labels[np.newaxis], mask)


def layered_image(layers, mask=None):
    raw = (layers != 0).any(axis=0, keepdims=True).astype(np.uint8)
    return CropImage(raw, layers, mask, SAME, (1.0,) * (layers.ndim - 1), len(layers))


@settings(max_examples=60)
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
    cut = crop_image(big).crop_labels(Box((0, 0), (1, 4)))[0]
    assert cut.dtype == np.int32
    assert (cut[0, 0], cut[0, 1] == cut[0, 2], cut[0, 3] not in (0, cut[0, 1])) == (0, True, True)
    small = crop_image(np.array([[0, 300, 7]], dtype=np.uint16)).crop_labels(Box((0, 0), (1, 3)))
    assert small.tolist() == [[[0, 300, 7]]]


def test_mask_is_one_without_one():
    labels = np.zeros((4, 5), np.uint8)
    assert crop_image(labels).crop_mask(Box((-1, 0), (2, 2))).tolist() == [[1, 1]] * 3
    mask = np.zeros((4, 5), bool)
    mask[1] = True
    expected = [[1, 1], [0, 0], [1, 1]]
    assert crop_image(labels, mask).crop_mask(Box((-1, 0), (2, 2))).tolist() == expected


def drawn_from(index, rng):
    """Return a voxel of any group, each as likely."""
    return index.draw(rng, int(rng.integers(len(index.groups))))


def test_instances_are_drawn_equally_often():
    labels = np.zeros((20, 20), np.uint16)
    labels[0, 0] = 9  # one voxel
    labels[5:15, 5:15] = 4  # a hundred
    index = foreground_index(labels[np.newaxis])
    rng = np.random.default_rng(0)
    drawn = [drawn_from(index, rng) for _ in range(400)]
    assert len(index.groups) == 2
    assert 160 < sum(voxel == (0, 0) for voxel in drawn) < 240
    assert {labels[voxel] for voxel in drawn} == {4, 9}
    assert len(set(drawn)) > 80


def test_crops_lie_inside_where_they_fit():
    sampler = LocationSampler([crop_image(np.ones((10, 6), np.uint8))], RANDOM, (4, 8))
    rng = np.random.default_rng(0)
    begins = [sampler.draw(rng).box.begin for _ in range(300)]
    # The first axis has room for begins 0 to 6; the second is two voxels too short: -2 to 0.
    assert {b[0] for b in begins} == set(range(7))
    assert {b[1] for b in begins} == {-2, -1, 0}


def test_large_images_are_drawn_more_often():
    images = [crop_image(np.ones((10, 10), np.uint8)), crop_image(np.ones((30, 10), np.uint8))]
    sampler = LocationSampler(images, RANDOM, (4, 4))
    rng = np.random.default_rng(0)
    assert 250 < sum(sampler.draw(rng).number for _ in range(400)) < 350


def test_foreground_crops_hold_an_instance_and_empty_images_are_left_out():
    labels = np.zeros((40, 40), np.uint8)
    labels[30, 2] = 1
    images = [crop_image(0 * labels), crop_image(labels)]
    sampler = LocationSampler(images, FOREGROUND, (5, 5))
    rng = np.random.default_rng(0)
    for _ in range(50):
        location = sampler.draw(rng)
        assert location.number == 1
        assert images[1].crop_labels(location.box).any()
        assert min(location.box.begin) >= 0


def test_without_any_instance_crops_are_random():
    sampler = LocationSampler([crop_image(np.zeros((9, 9), np.uint8))], FOREGROUND, (5, 5))
    assert sampler.draw(np.random.default_rng(0)).number == 0


@pytest.mark.parametrize("min_masked", [0.5, 1.0])
def test_crops_with_too_little_foreground_are_drawn_again(min_masked):
    labels = np.zeros((20, 20), np.uint8)
    labels[:, :10] = 1
    wanted = SamplingSettings(probability_random=1, probability_fg=0, min_masked=min_masked)
    sampler = LocationSampler([crop_image(labels)], wanted, (4, 4))
    rng = np.random.default_rng(0)
    for _ in range(30):
        box = sampler.draw(rng).box
        assert (labels[box.slices] != 0).mean() >= min_masked


def test_foreground_that_is_not_to_be_had_ends_the_search():
    wanted = SamplingSettings(probability_random=1, probability_fg=0, min_masked=0.9)
    sampler = LocationSampler([crop_image(np.zeros((9, 9), np.uint8))], wanted, (4, 4))
    assert sampler.draw(np.random.default_rng(0)).number == 0


# Three worms: 1 and 2 cross on one voxel, 2 and 3 on a large part; 4 is alone.
def crossing():
    layers = np.zeros((2, 40, 40), np.uint16)
    layers[0, 10, 5:20], layers[1, 5:25, 7] = 1, 2
    layers[0, 14:34, 5:9] = 3
    layers[1, 35, 35] = 4
    return layers


def test_crops_have_layers_also_those_a_sample_lacks():
    image = replace(layered_image(crossing()), num_layers=3)
    crop = image.crop_labels(Box((9, 5), (12, 9)))
    assert (crop.shape, crop.dtype) == ((3, 3, 4), np.int32)
    assert crop[0].tolist() == [[0] * 4, [1] * 4, [0] * 4]
    assert crop[1].tolist() == [[0, 0, 2, 0]] * 3
    assert not crop[2].any()


def test_mirrored_copies_are_separated_in_every_layer():
    layers = np.zeros((2, 4, 6), np.uint16)
    layers[0, :, 2], layers[1, :, 2], layers[1, 0, 0] = 5, 7, 8
    crop = layered_image(layers).crop_labels(Box((0, -3), (4, 6)))
    # Columns: 3 mirrored ones, then the image; 8 touches its copy, the others do not.
    assert crop[0, 0, 5] == 5
    assert crop[1, 0, [3, 5]].tolist() == [8, 7]
    ids = [crop[0, 0, 1], crop[0, 0, 5], crop[1, 0, 1], crop[1, 0, 5], crop[1, 0, 3]]
    assert len(set(ids)) == 5
    assert 0 not in ids


def test_pairs_that_overlap_are_drawn_equally_often():
    layers = crossing()
    index = overlap_index(layers)
    assert len(index.groups) == 2
    rng = np.random.default_rng(0)
    drawn = [drawn_from(index, rng) for _ in range(400)]
    assert 160 < sum(voxel == (10, 7) for voxel in drawn) < 240
    assert {voxel for voxel in drawn if voxel != (10, 7)} == {(y, 7) for y in range(14, 25)}
    assert len(overlap_index(layers[:1]).groups) == 0


def test_a_selection_of_overlap_keeps_every_pair(monkeypatch):
    monkeypatch.setattr(crops, "_MOST_OF_SLAB", 3)
    index = overlap_index(crossing())
    assert len(index.groups) == 2
    rng = np.random.default_rng(0)
    # 12 voxels, every fourth, and the first of each pair.
    assert len({drawn_from(index, rng) for _ in range(100)}) == 4


def test_overlap_crops_hold_an_overlap():
    only = SamplingSettings(probability_random=0, probability_fg=0, probability_overlap=1)
    plain = np.zeros((2, 40, 40), np.uint16)
    plain[0, :10] = 1
    images = [layered_image(plain), layered_image(crossing())]
    sampler = LocationSampler(images, only, (5, 5))
    rng = np.random.default_rng(0)
    for _ in range(50):
        location = sampler.draw(rng)
        assert location.number == 1
        assert (images[1].crop_labels(location.box) != 0).all(axis=0).any()


def test_kinds_are_drawn_by_their_shares():
    layers = np.zeros((2, 60, 1), np.uint16)
    layers[0, :20], layers[1, :10] = 1, 2
    shares = SamplingSettings(probability_random=0.5, probability_fg=0.25, probability_overlap=0.25)
    sampler = LocationSampler([layered_image(layers)], shares, (1, 1))
    rng = np.random.default_rng(0)
    rows = np.array([sampler.draw(rng).box.begin[0] for _ in range(1200)])
    # Random: a sixth each below 10 and 20; foreground: 1 to the first ten by 2, half by 1.
    assert abs((rows >= 20).mean() - 0.5 * 2 / 3) < 0.05
    assert abs((rows < 10).mean() - (0.5 / 6 + 0.25 * 0.75 + 0.25)) < 0.05


def test_without_overlap_its_share_goes_to_the_foreground():
    only = SamplingSettings(probability_random=0, probability_fg=0, probability_overlap=1)
    labels = np.zeros((40, 40), np.uint8)
    labels[30, 2] = 1
    sampler = LocationSampler([crop_image(labels)], only, (5, 5))
    rng = np.random.default_rng(0)
    assert all(labels[sampler.draw(rng).box.slices].any() for _ in range(30))
    empty = LocationSampler([crop_image(0 * labels)], only, (5, 5))
    assert empty.draw(rng).number == 0


def test_foreground_and_background_are_drawn_by_their_shares():
    """The probabilities of BiaPy's map of probabilities, 0.94 and 0.06, without a map."""
    labels = np.zeros((50, 60), np.uint8)
    labels[5:9, 10:20] = 1
    labels[49, 59] = 7  # at the border, one voxel
    wanted = SamplingSettings(
        probability_random=0, probability_fg=0.94, probability_bg=0.06, balance="voxels"
    )
    sampler = LocationSampler([crop_image(labels)], wanted, (8, 8))
    rng = np.random.default_rng(0)
    drawn = np.array([labels[sampler.draw(rng).voxel] for _ in range(10_000)])
    assert abs((drawn > 0).mean() - 0.94) < 0.01
    # 40 voxels of one, a single one of the other: each as likely as any
    assert abs((drawn == 7).mean() - 0.94 / 41) < 0.006
    each = wanted.model_copy(update={"balance": "each"})
    sampler = LocationSampler([crop_image(labels)], each, (8, 8))
    drawn = np.array([labels[sampler.draw(rng).voxel] for _ in range(2_000)])
    assert abs((drawn == 7).mean() - 0.47) < 0.04


def test_the_drawn_voxel_is_in_the_middle_as_far_as_the_border_allows():
    labels = np.zeros((20, 30), np.uint8)
    labels[0, 0] = labels[10, 15] = 1
    wanted = SamplingSettings(
        probability_random=0, probability_fg=1, balance="voxels", place="centre"
    )
    sampler = LocationSampler([crop_image(labels)], wanted, (5, 6))
    rng = np.random.default_rng(0)
    found = {location.voxel: location.box for location in (sampler.draw(rng) for _ in range(40))}
    assert found == {(0, 0): Box((0, 0), (5, 6)), (10, 15): Box((8, 12), (13, 18))}


def test_voxels_of_several_images_are_as_likely():
    small, large = np.zeros((6, 6), np.uint8), np.zeros((6, 6), np.uint8)
    small[0, 0], large[:3, :3] = 1, 4
    wanted = SamplingSettings(probability_random=0, probability_fg=1, balance="voxels")
    sampler = LocationSampler([crop_image(small), crop_image(large)], wanted, (2, 2))
    rng = np.random.default_rng(0)
    numbers = [sampler.draw(rng).number for _ in range(2000)]
    assert abs(np.mean(numbers) - 0.9) < 0.03


def test_without_background_crops_are_random():
    wanted = SamplingSettings(probability_random=0, probability_fg=0, probability_bg=1)
    sampler = LocationSampler([crop_image(np.ones((9, 9), np.uint8))], wanted, (5, 5))
    assert sampler.draw(np.random.default_rng(0)).voxel is None


def test_a_selection_of_foreground_keeps_every_instance(monkeypatch):
    monkeypatch.setattr(crops, "_MOST_LISTED", 40)
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15] = 1
    labels[17, 3] = 2
    index = foreground_index(labels[np.newaxis])
    assert index.groups.tolist() == [1, 2]
    assert index.sizes[0] == 200
    wanted = background_index(labels[np.newaxis])
    assert abs(wanted.sizes[0] - 199) < 10


def test_locations_travel_as_numbers():
    for voxel in ((3, 4), None):
        location = Location(2, Box((-1, 5), (3, 8)), voxel)
        assert Location.from_numbers(location.numbers(), (4, 3)) == location
