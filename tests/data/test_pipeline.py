"""The gunpowder pipeline: the same seed, the same crop; image and labels change together."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from instaseg.data.augment_geometry import deform, draw_deformation, smooth_noise
from instaseg.data.augment_values import turn_hue
from instaseg.data.config import (
    AugmentationSettings,
    BlurSettings,
    ElasticSettings,
    HueSettings,
    IntensitySettings,
    MisalignmentSettings,
    NoiseSettings,
    OverlaySettings,
    PermuteChannelsSettings,
    SamplingSettings,
    SimpleSettings,
)
from instaseg.data.crops import CropImage
from instaseg.data.normalization import Statistics
from instaseg.data.pipeline import CropPipeline
from instaseg.errors import DataError
from instaseg.geometry import Box

RANDOM = SamplingSettings(probability_random=1, probability_fg=0)
SAME = Statistics((0.0,), (1.0,))
STILL = ElasticSettings(rotation_max=0, jitter_sigma=(0.0,), zoom=(1, 1))
OFF = AugmentationSettings(
    elastic=ElasticSettings(probability=0),
    simple=SimpleSettings(mirror=(), transpose=()),
    intensity=IntensitySettings(scale=(1, 1), shift=(0, 0)),
)
BOXES = {
    "raw": Box((0, 0), (24, 24)),
    "labels": Box((1, 1), (23, 23)),
    "mask": Box((4, 4), (20, 20)),
}


def image_of(labels, mask=None, channels=1):
    raw = np.stack([np.where(labels > 0, 1.0, 0.0).astype(np.float32)] * channels)
    return CropImage(raw, labels[np.newaxis], mask, SAME, (1.0,) * labels.ndim)


@pytest.fixture
def world():
    """Return a sample of six large discs."""
    labels = np.zeros((60, 70), np.uint16)
    y, x = np.indices(labels.shape)
    for number in range(6):
        centre = (14 + 30 * (number // 3), 14 + 22 * (number % 3))
        labels[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 81] = number + 1
    return image_of(labels)


def test_without_augmentation_a_crop_is_a_part_of_the_sample(world):
    pipeline = CropPipeline([world], BOXES, RANDOM, None)
    crop = pipeline.draw(5)
    assert (crop.raw.shape, crop.labels.shape, crop.mask.shape) == (
        (1, 24, 24),
        (1, 22, 22),
        (16, 16),
    )
    # Raw and labels share their centre: labels begin at voxel (1, 1) of the raw crop.
    np.testing.assert_array_equal(crop.raw[:, 1:-1, 1:-1] > 0, crop.labels > 0)
    assert any(
        np.array_equal(crop.labels[:, 3:-3, 3:-3], world.labels[:, y : y + 16, x : x + 16])
        for y in range(45)
        for x in range(55)
    )
    assert (crop.mask == 1).all()


FULL = AugmentationSettings(
    blur=BlurSettings(probability=0.5), noise=NoiseSettings(probability=0.5)
)


def test_the_seed_decides_everything(world):
    first, second = (CropPipeline([world, world], BOXES, RANDOM, FULL) for _ in range(2))
    crops = [first.draw(seed) for seed in range(12)]
    # Another pipeline, in another order, after other draws from the global generators.
    for seed in reversed(range(12)):
        random.random()
        np.random.random()
        again = second.draw(seed)
        np.testing.assert_array_equal(again.raw, crops[seed].raw)
        np.testing.assert_array_equal(again.labels, crops[seed].labels)
    assert len({crop.raw.tobytes() for crop in crops}) == 12


def test_global_generators_are_left_alone(world):
    pipeline = CropPipeline([world], BOXES, RANDOM, FULL)
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    pipeline.draw(3)
    assert (random.random(), np.random.random()) == expected


def test_labels_follow_the_image(world):
    settings = AugmentationSettings(intensity=IntensitySettings(scale=(1, 1), shift=(0, 0)))
    pipeline = CropPipeline([world], BOXES, RANDOM, settings)
    for seed in range(20):
        crop = pipeline.draw(seed)
        different = (crop.raw[:, 1:-1, 1:-1] > 0.5) != (crop.labels > 0)
        assert different.mean() < 0.03


def test_a_still_deformation_changes_nothing(world):
    plain = CropPipeline([world], BOXES, RANDOM, OFF).draw(7)
    still = OFF.model_copy(update={"elastic": STILL})
    crop = CropPipeline([world], BOXES, RANDOM, still).draw(7)
    assert crop.raw.shape == plain.raw.shape
    # The seeds of the nodes differ, so compare contents with the whole image instead of the crop.
    assert any(
        np.array_equal(crop.labels[:, 3:-3, 3:-3], world.labels[:, y : y + 16, x : x + 16])
        for y in range(45)
        for x in range(55)
    )


def coordinates(settings, shape=(9, 9), resolution=(1.0, 1.0)):
    box = Box((0,) * len(shape), shape)
    return draw_deformation(np.random.default_rng(0), settings, box, np.array(resolution))


def test_identity_is_exact():
    np.testing.assert_array_equal(coordinates(STILL), np.indices((9, 9)))


def test_a_quarter_turn_is_rot90():
    turn = STILL.model_copy(update={"rotation_min": 90.0, "rotation_max": 90.0})
    image = np.arange(81, dtype=np.float32).reshape(1, 9, 9)
    found = deform(image, coordinates(turn), 1)
    np.testing.assert_allclose(found[0], np.rot90(image[0]), atol=1e-4)


def test_rotation_is_in_physical_space():
    """With y voxels twice as high, a quarter turn reads half as many of them."""
    turn = STILL.model_copy(update={"rotation_min": 90.0, "rotation_max": 90.0})
    field = coordinates(turn, resolution=(2.0, 1.0))
    np.testing.assert_allclose(field[0, 4], (np.arange(9) - 4) / 2 + 4, atol=1e-5)
    np.testing.assert_allclose(field[1, :, 4], -2 * (np.arange(9) - 4) + 4, atol=1e-5)


def test_zoom_magnifies():
    twice = STILL.model_copy(update={"zoom": (2.0, 2.0)})
    np.testing.assert_allclose(coordinates(twice)[0, :, 0], (np.arange(9) - 4) / 2 + 4, atol=1e-5)


def test_rotation_in_3d_leaves_planes_in_place():
    turn = STILL.model_copy(update={"rotation_min": 30.0, "rotation_max": 30.0})
    field = coordinates(turn, shape=(3, 9, 9), resolution=(5.0, 1.0, 1.0))
    np.testing.assert_allclose(field[0], np.indices((3, 9, 9))[0], atol=1e-6)


def test_smooth_noise_passes_through_its_control_points():
    noise = smooth_noise(np.random.default_rng(0), (33, 41), (8, 10))
    # Voxel 0 is control point 1 of each axis (one lies before the box).
    points = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    np.testing.assert_allclose(noise[::8, ::10], points[1:6, 1:6], atol=1e-5)
    assert abs(np.diff(noise, axis=0)).max() < 1


@pytest.mark.parametrize("order", [0, 1])
def test_deform_keeps_channels_and_type(order):
    image = np.random.default_rng(0).integers(0, 9, (2, 9, 9)).astype(np.int32)
    found = deform(image, coordinates(STILL), order)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, image)


def test_mirror_and_transpose_take_all_symmetries():
    labels = np.arange(1, 5, dtype=np.uint16).reshape(2, 2)
    boxes = {name: Box((0, 0), (2, 2)) for name in ("raw", "labels", "mask")}
    settings = OFF.model_copy(update={"simple": SimpleSettings()})
    pipeline = CropPipeline([image_of(labels)], boxes, RANDOM, settings)
    seen = {pipeline.draw(seed).labels.tobytes() for seed in range(100)}
    assert len(seen) == 8
    only = OFF.model_copy(update={"simple": SimpleSettings(mirror=(1,), transpose=())})
    pipeline = CropPipeline([image_of(labels)], boxes, RANDOM, only)
    seen = {tuple(pipeline.draw(seed).labels.ravel().tolist()) for seed in range(40)}
    assert seen == {(1, 2, 3, 4), (2, 1, 4, 3)}


def test_only_axes_with_voxels_of_the_same_size_are_swapped_unless_others_are_named():
    labels = np.arange(1, 5, dtype=np.uint16).reshape(2, 2)
    boxes = {name: Box((0, 0), (2, 2)) for name in ("raw", "labels", "mask")}
    oblong = replace(image_of(labels), resolution=(2.0, 1.0))
    for transpose, count in (("all", 1), ((0, 1), 2)):
        simple = SimpleSettings(mirror=(), transpose=transpose)
        pipeline = CropPipeline([oblong], boxes, RANDOM, OFF.model_copy(update={"simple": simple}))
        seen = {pipeline.draw(seed).labels.tobytes() for seed in range(40)}
        assert len(seen) == count


def test_intensity_stays_within_its_ranges(world):
    settings = OFF.model_copy(
        update={"intensity": IntensitySettings(scale=(0.5, 0.5), shift=(0.25, 0.25))}
    )
    crop = CropPipeline([world], BOXES, RANDOM, settings).draw(1)
    plain = CropPipeline([world], BOXES, RANDOM, OFF).draw(1)
    assert np.ptp(crop.raw) == pytest.approx(0.5)
    assert plain.raw.max() == 1


def test_blur_and_noise_change_only_the_image(world):
    for change in (
        {"blur": BlurSettings(sigma=(1, 1), probability=1)},
        {"noise": NoiseSettings(sigma=0.2, probability=1)},
    ):
        pipeline = CropPipeline([world], BOXES, RANDOM, OFF.model_copy(update=change))
        crop = pipeline.draw(2)
        assert len(np.unique(crop.raw)) > 2
        assert set(np.unique(crop.labels)) <= set(range(7))


def test_masks_are_cut_with_the_labels(world):
    masked = CropImage(world.raw, world.labels, world.labels[0] == 0, SAME, (1.0, 1.0))
    settings = AugmentationSettings()
    pipeline = CropPipeline([masked], BOXES, RANDOM, settings)
    for seed in range(5):
        crop = pipeline.draw(seed)
        different = (crop.labels[0, 3:-3, 3:-3] == 0) != (crop.mask == 1)
        assert different.mean() < 0.02


def test_images_smaller_than_the_crop_are_mirrored():
    labels = np.zeros((5, 7), np.uint16)
    labels[2, 3] = 1
    pipeline = CropPipeline([image_of(labels)], BOXES, RANDOM, AugmentationSettings())
    crop = pipeline.draw(0)
    assert crop.raw.shape == (1, 24, 24)
    assert crop.labels.max() > 1  # each mirror image counts by itself


def test_volumes(world):
    volume = np.stack([world.labels[0, :30, :30]] * 10)
    boxes = {name: Box((0, 0, 0), (6, 16, 16)) for name in ("raw", "labels", "mask")}
    crop = CropPipeline([image_of(volume, channels=2)], boxes, RANDOM, FULL).draw(0)
    assert (crop.raw.shape, crop.labels.shape) == ((2, 6, 16, 16), (1, 6, 16, 16))


def overlaid(probability, combine="max", **others):
    overlay = OverlaySettings(probability=probability, combine=combine)
    return OFF.model_copy(update={"overlay": overlay} | others)


def test_overlays_stack_instances_and_combine_intensities(world):
    for combine, sign in (("max", 1), ("min", -1)):
        image = CropImage(sign * world.raw, world.labels, None, SAME, (1.0, 1.0))
        pipeline = CropPipeline([image], BOXES, RANDOM, overlaid(1, combine))
        crossings = 0
        for seed in range(20):
            crop = pipeline.draw(seed)
            assert (crop.raw.shape, crop.labels.shape) == ((1, 24, 24), (2, 22, 22))
            covered = (crop.labels != 0).any(axis=0)
            np.testing.assert_array_equal(sign * crop.raw[0, 1:-1, 1:-1] > 0, covered)
            ids = [set(np.unique(layer)) - {0} for layer in crop.labels]
            assert not ids[0] & ids[1]
            crossings += (crop.labels != 0).all(axis=0).any()
            assert crop.labels.dtype == np.int32
        assert crossings > 5


def test_crops_without_an_overlay_have_as_many_layers(world):
    pipeline = CropPipeline([world], BOXES, RANDOM, overlaid(0.5))
    crops = [pipeline.draw(seed) for seed in range(40)]
    assert {crop.labels.shape for crop in crops} == {(2, 22, 22)}
    # Nearly every crop of this image shows a disc, so a layer without one has no overlay.
    assert 10 < sum(crop.labels[1].any() for crop in crops) < 30


def test_both_crops_of_an_overlay_are_deformed_and_drawn_by_the_seed(world):
    settings = overlaid(0.5, elastic=ElasticSettings(), simple=SimpleSettings())
    first, second = (CropPipeline([world, world], BOXES, RANDOM, settings) for _ in range(2))
    drawn = [first.draw(seed) for seed in range(12)]
    for seed in reversed(range(12)):
        again = second.draw(seed)
        np.testing.assert_array_equal(again.raw, drawn[seed].raw)
        np.testing.assert_array_equal(again.labels, drawn[seed].labels)
        covered = (again.labels != 0).any(axis=0)
        assert ((again.raw[0, 1:-1, 1:-1] > 0.5) != covered).mean() < 0.05


def test_labels_of_an_overlay_are_complete_where_both_are(world):
    masked = CropImage(world.raw, world.labels, world.labels[0] == 0, SAME, (1.0, 1.0))
    crop = CropPipeline([masked], BOXES, RANDOM, overlaid(1)).draw(1)
    np.testing.assert_array_equal(crop.mask == 1, (crop.labels[:, 3:-3, 3:-3] == 0).all(axis=0))


def test_overlays_of_layers_and_colours(world):
    layers = np.concatenate([world.labels, np.where(world.labels == 2, 9, 0)])
    image = CropImage(np.repeat(world.raw, 3, axis=0), layers, None, SAME, (1.0, 1.0), 2)
    crop = CropPipeline([image], BOXES, RANDOM, overlaid(1)).draw(1)
    assert (crop.raw.shape, crop.labels.shape) == ((3, 24, 24), (4, 22, 22))


def test_hue_is_turned_as_colours_are_named():
    colours = {"red": (1, 0, 0), "yellow": (1, 1, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
    image = np.array(list(colours.values()), np.float32).T
    turned = {d: turn_hue(image, d).T.tolist() for d in (60, 120, -120, 360)}
    assert turned[60][:2] == [[1, 1, 0], [0, 1, 0]]
    assert turned[120] == [[0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]]
    assert turned[-120][2] == [1, 0, 0]
    assert turned[360] == image.T.tolist()


def test_hue_keeps_grey_and_the_range_of_values():
    image = np.random.default_rng(0).normal(0, 3, (3, 6, 7)).astype(np.float32)
    image[:, 0] = image[0, 0]
    turned = turn_hue(image, 77)
    np.testing.assert_allclose(turned.max(axis=0), image.max(axis=0), atol=1e-5)
    np.testing.assert_allclose(turned.min(axis=0), image.min(axis=0), atol=1e-5)
    np.testing.assert_array_equal(turned[:, 0], image[:, 0])
    np.testing.assert_allclose(turn_hue(turned, -77), image, atol=1e-4)


def test_colours_change_in_their_share_of_crops(world):
    raw = np.concatenate([world.raw, 0.5 * world.raw, 0 * world.raw])
    image = CropImage(raw, world.labels, None, SAME, (1.0, 1.0))
    hue = OFF.model_copy(update={"hue": HueSettings(probability=0.5, range=(60, 60))})
    pipeline = CropPipeline([image], BOXES, RANDOM, hue)
    # Red 1, green 1/2, blue 0 is orange at 30 degrees, 60 more is the green at 90.
    found = {tuple(pipeline.draw(seed).raw.max(axis=(1, 2)).tolist()) for seed in range(30)}
    assert found == {(1, 0.5, 0), (0.5, 1, 0)}
    order = OFF.model_copy(update={"permute_channels": PermuteChannelsSettings(probability=1)})
    pipeline = CropPipeline([image], BOXES, RANDOM, order)
    found = {tuple(pipeline.draw(seed).raw.max(axis=(1, 2)).tolist()) for seed in range(60)}
    assert len(found) == 6


class Broken:
    """An array on disk whose values cannot be read."""

    shape, dtype = (1, 60, 70), np.dtype(np.uint8)

    def __getitem__(self, index):
        raise DataError("a.zarr: a chunk is damaged")


def test_an_unreadable_sample_is_told_in_one_line(world):
    broken = CropImage(Broken(), world.labels, None, SAME, (1.0, 1.0))
    with pytest.raises(DataError) as caught:
        CropPipeline([broken], BOXES, RANDOM, AugmentationSettings()).draw(0)
    assert str(caught.value) == "a.zarr: a chunk is damaged"


def test_spacing_for_other_axes_is_refused(world):
    settings = AugmentationSettings(elastic=ElasticSettings(control_point_spacing=(4, 32, 32)))
    with pytest.raises(DataError, match=r"expected 1 or 2 numbers .*found \[4, 32, 32\]"):
        CropPipeline([world], BOXES, RANDOM, settings)


def test_misaligned_sections_take_their_labels_along(world):
    volume = np.stack([world.labels[0, :40, :40]] * 8)
    boxes = {name: Box((0, 0, 0), (8, 24, 24)) for name in ("raw", "labels", "mask")}
    misaligned = MisalignmentSettings(probability=1, max_shift=5)
    settings = OFF.model_copy(update={"misalignment": misaligned})
    pipeline = CropPipeline([image_of(volume)], boxes, RANDOM, settings)
    moved = 0
    for seed in range(10):
        crop = pipeline.draw(seed)
        # Whole voxels, so that nothing is interpolated: image and labels agree exactly.
        np.testing.assert_array_equal(crop.raw[0] > 0.5, crop.labels[0] > 0)
        assert set(np.unique(crop.labels)) <= set(range(7))
        moved += any(not np.array_equal(a, b) for a, b in itertools.pairwise(crop.labels[0]))
    assert moved > 5


def test_every_change_of_values_is_drawn_by_the_seed(world):
    names = (
        *("misalignment", "grayscale", "intensity", "gamma", "blur", "poisson", "noise"),
        *("salt_pepper", "dropout", "cutout", "missing_sections"),
    )
    settings = AugmentationSettings.model_validate({key: {"probability": 0.5} for key in names})
    volume = np.stack([world.labels[0, :30, :30]] * 6)
    boxes = {name: Box((0, 0, 0), (4, 16, 16)) for name in ("raw", "labels", "mask")}
    first, second = (
        CropPipeline([image_of(volume, channels=2)], boxes, RANDOM, settings) for _ in range(2)
    )
    crops = [first.draw(seed) for seed in range(8)]
    for seed in reversed(range(8)):
        again = second.draw(seed)
        np.testing.assert_array_equal(again.raw, crops[seed].raw)
        np.testing.assert_array_equal(again.labels, crops[seed].labels)
        assert again.raw.dtype == np.float32
