"""What the values of masks mean, and how they reach training, checks and scores."""

import numpy as np
import pytest

from instaseg.data.check import check_samples, class_faults
from instaseg.data.classes import IGNORED, ClassMap
from instaseg.data.config import DataSettings, SamplingSettings
from instaseg.data.crops import LocationSampler, open_crop_image
from instaseg.data.layers import ClassImage, ClassLayer
from instaseg.data.normalization import Statistics
from instaseg.errors import DataError
from instaseg.geometry import Box
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples

SAME = Statistics((0.0,), (1.0,))


def sample_of(tmp_path, mask, **arrays):
    """Return a sample with this mask, and an image of as many values."""
    path = tmp_path / "d" / "a.zarr"
    space = mask.shape[-2:]
    raw = np.arange(np.prod(space), dtype=np.float32).reshape(space)
    write_array(path, "volumes/raw", raw)
    write_array(path, arrays.pop("key", "volumes/gt_labels"), mask)
    for name, values in arrays.items():
        write_array(path, f"volumes/{name}", values)
    settings = DataSettings(mask_key="volumes/mask" if arrays else None)
    (sample,) = find_samples(tmp_path / "d", settings)
    return sample


@pytest.mark.parametrize(
    ("class_map", "values", "classes"),
    [
        (ClassMap(3), [0, 1, 2], [0, 1, 2]),
        (ClassMap(3, ignore=255), [0, 2, 255], [0, 2, IGNORED]),
        (ClassMap(3, ignore=-1), [0, 2, -1], [0, 2, IGNORED]),
        (ClassMap(3, ignore=0), [0, 2, 1], [IGNORED, 2, 1]),
        (ClassMap(2), [0, 255, 255], [0, 1, 1]),
        (ClassMap(2, ignore=255), [0, 1, 255], [0, 1, IGNORED]),
        (ClassMap(2, objects="instances"), [0, 7, 255], [0, 1, 1]),
        (ClassMap(2, ignore=9, objects="instances"), [0, 7, 9], [0, 1, IGNORED]),
    ],
)
def test_values_mean_classes(class_map, values, classes):
    values = np.array(values)
    before = values.copy()
    assert class_map.apply(values).tolist() == classes
    assert class_map.strangers(values) == []
    assert np.array_equal(values, before)


def test_booleans_are_two_classes():
    assert ClassMap(2).apply(np.array([False, True])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("class_map", "values", "strangers"),
    [
        (ClassMap(3), [0, 3, 7, -1], [3, 7, -1]),
        (ClassMap(3), [0, 255], [255]),
        (ClassMap(2), [0, 1, 255], [255]),  # black and white, or something to be ignored?
        (ClassMap(4, ignore=255), [254, 255], [254]),
    ],
)
def test_other_values_are_strangers(class_map, values, strangers):
    assert class_map.strangers(np.array(values)) == strangers


def test_layers_of_instances_become_one_layer():
    layers = np.array([[[0, 3, 0]], [[0, 0, 9]]])
    layer = ClassLayer(layers, ClassMap(2, objects="instances"))
    assert layer[(slice(0, 1), slice(0, 1), slice(0, 3))].tolist() == [[[0, 1, 1]]]
    assert ClassImage(layer).shape == (1, 3)


def test_background_without_complete_labels_is_ignored():
    layer = ClassLayer(np.array([[[0, 1, 0]]]), ClassMap(2), np.array([[1, 0, 0]]))
    assert ClassImage(layer)[(slice(0, 1), slice(0, 3))].tolist() == [[0, 1, -1]]


def test_crops_of_classes_keep_their_numbers_beyond_the_border(tmp_path):
    mask = np.array([[0, 0, 1], [2, 255, 0]], np.uint8)
    image = open_crop_image(sample_of(tmp_path, mask), SAME, ClassMap(3, ignore=255))
    assert image.ids == "classes"
    # mirrored: instances would get new numbers here
    crop = image.crop_labels(Box((0, -2), (2, 3)))
    assert crop.tolist() == [[[1, 0, 0, 0, 1], [0, -1, 2, -1, 0]]]
    assert crop.dtype == np.int32


def test_classes_are_drawn_equally_often_and_ignored_voxels_never(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[:10] = 1
    mask[19, 19] = 2
    mask[12:15] = 255
    image = open_crop_image(sample_of(tmp_path, mask), SAME, ClassMap(3, ignore=255))
    only = SamplingSettings(probability_random=0, probability_fg=1)
    rng = np.random.default_rng(0)
    sampler = LocationSampler([image], only, (3, 3))
    drawn = [int(mask[sampler.draw(rng).voxel]) for _ in range(600)]
    assert set(drawn) == {1, 2}
    assert 240 < drawn.count(2) < 360
    outside = SamplingSettings(probability_random=0, probability_fg=0, probability_bg=1)
    sampler = LocationSampler([image], outside, (3, 3))
    assert {int(mask[sampler.draw(rng).voxel]) for _ in range(200)} == {0}


@pytest.mark.parametrize(
    ("mask", "class_map", "message"),
    [
        (
            np.array([[0, 5], [7, 1]]),
            ClassMap(3),
            "mask has the value 5, 7; expected classes 0 to 2 because method.num_classes = 3. Set"
            " method.num_classes, method.ignore_index for voxels without a class, or"
            ' method.objects = "instances" if these are labels of instances',
        ),
        (
            np.array([[0, 1], [1, 255]], np.uint8),
            ClassMap(2),
            "mask has the value 255; expected classes 0 to 1 (or 0 and 255) because"
            " method.num_classes = 2. Set method.ignore_index = 255 if these voxels have no class",
        ),
        (
            np.array([[0, 4], [1, 255]], np.uint8),
            ClassMap(2, ignore=255),
            "mask has the value 4; expected classes 0 to 1 or 255, which is ignored, because"
            " method.num_classes = 2",
        ),
        (
            np.array([[0, 1.0], [1, 0]], np.float32),
            ClassMap(2),
            "mask is float32; expected integers, 0 for background and one number per class. They"
            " are whole numbers: convert them, for example with astype('uint16')",
        ),
    ],
)
def test_faults_of_masks(tmp_path, mask, class_map, message):
    (fault,) = class_faults(sample_of(tmp_path, mask), class_map)
    assert fault.startswith(message)


def test_channels_of_instances_are_no_classes(tmp_path):
    sample = sample_of(tmp_path, np.ones((2, 3, 4), np.uint8), key="volumes/gt_instances")
    (fault,) = class_faults(sample, ClassMap(2))
    assert 'Set method.objects = "instances" if all instances are of class 1' in fault
    assert list(class_faults(sample, ClassMap(2, objects="instances"))) == []


def test_check_names_the_sample(tmp_path):
    sample = sample_of(tmp_path, np.full((4, 4), 9, np.uint8))
    with pytest.raises(DataError, match=r"- a: mask has the value 9; expected classes 0 to 1"):
        check_samples(
            [sample],
            DataSettings(),
            labels="required",
            least_shape=(1, 1),
            truth_faults=lambda sample, _: class_faults(sample, ClassMap(2)),
        )


def test_masks_of_one_class_can_be_learnt_from(tmp_path):
    assert list(class_faults(sample_of(tmp_path, np.zeros((4, 4), bool)), ClassMap(2))) == []
