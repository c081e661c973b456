"""All that is wrong with a data set is told at once, before any work."""

import logging

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from instaseg.data import check
from instaseg.data.check import check_augmentation, check_samples
from instaseg.data.config import (
    AugmentationSettings,
    DataSettings,
    GrayscaleSettings,
    HueSettings,
    MisalignmentSettings,
    MissingSectionsSettings,
    OverlaySettings,
    PermuteChannelsSettings,
    SimpleSettings,
)
from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import slabs, write_array
from instaseg.io.samples import find_samples

GREY = DataSettings()
IMAGE = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
LABELS = (IMAGE % 7 == 0).astype(np.uint16)


def write_pair(folder, *, image=IMAGE, labels=LABELS, name="a"):
    """Write arrays as they are, whatever their type."""
    for part, array in (("x", image), ("y", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / part / f"{name}.tif", array, photometric="minisblack")
    return folder


def fault_of(folder, *, labels="required", least_shape=(8, 8), settings=GREY):
    with pytest.raises(DataError) as caught:
        check_samples(
            find_samples(folder, settings), settings, labels=labels, least_shape=least_shape
        )
    return str(caught.value)


def test_good_data_pass(image_folder):
    samples = find_samples(image_folder, GREY)
    check_samples(samples, GREY, labels="required", least_shape=(48, 56))


def test_signed_labels_pass(tmp_path):
    write_pair(tmp_path, labels=LABELS.astype(np.int64))
    check_samples(find_samples(tmp_path, GREY), GREY, labels="required", least_shape=(8, 8))


def with_value(value):
    image = IMAGE.astype(np.float32)
    image[3, 4] = value
    return image


FAULTS = [
    ("NaN", {"image": with_value(np.nan)}, "a: image has 1 voxels that are NaN or infinite"),
    ("infinite", {"image": with_value(np.inf)}, "a: image has 1 voxels that are NaN or infinite"),
    ("constant", {"image": np.full_like(IMAGE, 7)}, "a: image has the same value everywhere"),
    ("complex", {"image": IMAGE.astype(np.complex64)}, "a: image is complex64; expected integers"),
    ("negative labels", {"labels": LABELS.astype(np.int16) - 1}, "a: labels go down to -1"),
    ("no instance", {"labels": 0 * LABELS}, "a: labels are 0 everywhere; expected at least one"),
    (
        "float labels",
        {"labels": LABELS.astype(np.float32)},
        "labels are float32; expected integers",
    ),
    (
        "whole floats",
        {"labels": LABELS.astype(np.float64)},
        "convert them, for example with astype",
    ),
    ("fractions", {"labels": LABELS * np.float32(0.5)}, "They have fractions, so this may be a"),
    ("other shape", {"labels": LABELS[:10]}, "has shape (10, 30), the image (20, 30)"),
    ("small", {"image": IMAGE[:6], "labels": LABELS[:6]}, "image of shape (6, 30) is smaller than"),
]


@pytest.mark.parametrize(
    ("arrays", "message"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_faults(tmp_path, arrays, message):
    fault = fault_of(write_pair(tmp_path, **arrays))
    assert message in fault
    assert "1 fault in 1 sample:" in fault


def test_colour_picture_as_labels(tmp_path):
    write_pair(tmp_path)
    imageio.imwrite(tmp_path / "y" / "a.png", np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "y" / "a.tif").unlink()
    assert "It looks like a colour picture" in fault_of(tmp_path)


def test_mask_of_booleans_in_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = IMAGE
        file["volumes/gt_labels"] = LABELS.astype(bool)
    assert "This is a mask: label its components first" in fault_of(tmp_path)


def test_everything_is_listed_at_once(tmp_path):
    write_pair(tmp_path, name="a", image=np.full_like(IMAGE, 7), labels=0 * LABELS)
    write_pair(tmp_path, name="b")
    write_pair(tmp_path, name="c", image=IMAGE[:6])
    fault = fault_of(tmp_path)
    assert fault.startswith(f"{tmp_path / 'x'}: 4 faults in 3 samples:\n  - a: image has the same")
    assert [line[4] for line in fault.splitlines()[1:]] == ["a", "a", "c", "c"]


def test_rgb_where_grey_is_expected(tmp_path):
    write_pair(tmp_path, image=np.stack([IMAGE] * 3, -1).astype(np.uint8))
    fault = fault_of(tmp_path)
    assert (
        "a: " + str(tmp_path / "x" / "a.tif") + " has shape (20, 30, 3); expected (y, x)" in fault
    )
    assert "set data.num_channels = 3, or convert the images to grey" in fault


def test_labels_that_are_missing(tmp_path):
    write_array(tmp_path / "a.zarr", "volumes/raw", IMAGE)
    write_array(tmp_path / "a.zarr", "volumes/gt_label", LABELS)
    fault = fault_of(tmp_path)
    assert "no array 'volumes/gt_labels'; found 'volumes/gt_label', 'volumes/raw'" in fault
    assert "did you mean 'volumes/gt_label'?" in fault
    samples = find_samples(tmp_path, GREY)
    check_samples(samples, GREY, labels="optional", least_shape=(8, 8))


def test_images_without_label_folder(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "y" / "a.tif").unlink()
    (tmp_path / "y").rmdir()
    assert "has no labels; expected a file of the same name in a folder y/" in fault_of(tmp_path)


def test_raw_key_that_is_missing(tmp_path):
    write_array(tmp_path / "a.zarr", "volumes/gt_labels", LABELS)
    assert "no array 'volumes/raw'; found 'volumes/gt_labels'" in fault_of(tmp_path)


def test_damaged_chunk(tmp_path):
    write_array(tmp_path / "a.zarr", "volumes/raw", IMAGE, chunks=(10, 10))
    write_array(tmp_path / "a.zarr", "volumes/gt_labels", LABELS)
    (tmp_path / "a.zarr" / "volumes" / "raw" / "1.1").write_bytes(b"broken")
    fault = fault_of(tmp_path)
    assert "a.zarr: volumes/raw[0:20, 0:30] cannot be read" in fault
    assert "a chunk is damaged, write the array again" in fault


def test_constant_image_is_only_a_warning_where_nothing_is_learnt(tmp_path, caplog):
    write_pair(tmp_path, image=np.full_like(IMAGE, 7), labels=0 * LABELS)
    with caplog.at_level(logging.WARNING):
        check_samples(find_samples(tmp_path, GREY), GREY, labels="optional", least_shape=(8, 8))
    assert "a: image has the same value everywhere" in caplog.text


WORMS = np.zeros((4, 20, 30), np.uint8)
WORMS[0, 3], WORMS[1, 5, :9], WORMS[2, 7:9, 4:], WORMS[3, 12] = 1, 2, 3, 4
CROSSING = WORMS.copy()
CROSSING[1, 3, 5] = 2


def write_worms(folder, instances, *, name="a", image=IMAGE):
    write_array(folder / f"{name}.zarr", "volumes/raw", image)
    write_array(folder / f"{name}.zarr", "volumes/gt_instances", instances)
    return folder


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64])
def test_good_instances_pass(tmp_path, dtype):
    samples = find_samples(write_worms(tmp_path, WORMS.astype(dtype)), GREY)
    for instances in ("may_overlap", "separate"):
        check_samples(samples, GREY, labels="required", least_shape=(8, 8), instances=instances)


def changed(channel, value):
    return np.stack([value if c == channel else worm for c, worm in enumerate(WORMS)])


INSTANCE_FAULTS = [
    ("floats", WORMS.astype(np.float32), "a: instances are float32; expected integers or booleans"),
    ("other shape", WORMS[:, :13], "has shape (4, 13, 30), the image (20, 30)"),
    ("no axis", WORMS[0], "has shape (20, 30); expected (n, y, x), one channel per instance"),
    ("none", WORMS[:0], "a: instances have no channels; expected at least one instance"),
    ("empty", changed(2, 0 * WORMS[0]), "a: instance channel 2 is 0 everywhere"),
    ("two empty", WORMS * (WORMS > 2), "a: instance channels 0, 1 are 0 everywhere"),
    ("twins", changed(2, 7 * WORMS[0]), "a: instance channels 0 and 2 have the same voxels"),
    ("negative", -WORMS.astype(np.int16), "a: instances go down to -4; expected 0 outside"),
]


@pytest.mark.parametrize(
    ("instances", "message"), [f[1:] for f in INSTANCE_FAULTS], ids=[f[0] for f in INSTANCE_FAULTS]
)
def test_instance_faults(tmp_path, instances, message):
    fault = fault_of(write_worms(tmp_path, instances))
    assert message in fault
    assert "1 fault in 1 sample:" in fault


def test_all_that_is_wrong_with_instances_is_listed(tmp_path):
    write_worms(tmp_path, np.concatenate([WORMS, WORMS[:2], 0 * WORMS[:1]]), name="a")
    write_worms(tmp_path, WORMS, name="b")
    write_worms(tmp_path, WORMS[:, 1:], name="c")
    fault = fault_of(tmp_path)
    assert "3 faults in 3 samples" in fault
    assert "a: instance channel 6 is 0" in fault
    assert "a: instance channels 0 and 4, 1 and 5 have the same" in fault


def test_overlapping_truth_needs_a_method_that_counts(tmp_path, monkeypatch):
    write_worms(tmp_path, CROSSING, name="a")
    write_worms(tmp_path, WORMS, name="b")
    monkeypatch.setattr(check, "slabs", lambda shape: slabs(shape, voxels=40))
    samples = find_samples(tmp_path, GREY)
    check_samples(samples, GREY, labels="required", least_shape=(8, 8))
    with pytest.raises(DataError) as caught:
        check_samples(
            samples, GREY, labels="required", least_shape=(8, 8), instances="apart_to_learn"
        )
    assert str(caught.value).splitlines()[1:] == [
        "  - a: instances overlap, up to 2 on a voxel; overlapping ground truth needs"
        " the method patches with method.foreground = 'count'. Set it, or name labels that do not"
        " overlap with data.gt_key"
    ]
    with pytest.raises(DataError, match=r"(?s)a: instances overlap.*boundaries = 'skip'"):
        check_samples(
            samples, GREY, labels="required", least_shape=(8, 8), instances="apart_to_score"
        )


def test_damaged_instances(tmp_path):
    write_worms(tmp_path, WORMS)
    (tmp_path / "a.zarr" / "volumes" / "gt_instances" / "0.0.0").write_bytes(b"broken")
    assert "a chunk is damaged, write the array again" in fault_of(tmp_path)


def test_missing_truth_names_both_keys(tmp_path):
    write_array(tmp_path / "a.zarr", "volumes/raw", IMAGE)
    assert "would be in 'volumes/gt_instances', data.instances_key" in fault_of(tmp_path)


def test_a_mask_that_no_sample_has_is_told(tmp_path, caplog):
    write_worms(tmp_path, WORMS)
    settings = DataSettings(mask_key="volumes/complete")
    with caplog.at_level(logging.WARNING):
        check_samples(
            find_samples(tmp_path, settings), settings, labels="required", least_shape=(8, 8)
        )
    assert "no sample has the array 'volumes/complete' (data.mask_key)" in caplog.text


AUGMENTATION_FAULTS = [
    ({"hue": HueSettings(probability=0.1)}, "num_channels = 3 .RGB., found 1"),
    (
        {"permute_channels": PermuteChannelsSettings(probability=0.1)},
        "expected more than one channel, found data.num_channels = 1",
    ),
    ({"overlay": OverlaySettings(probability=0.1)}, "with method.foreground = 'count'"),
    (
        {"grayscale": GrayscaleSettings(probability=0.1)},
        "grayscale. probability: expected more than one channel",
    ),
]


@pytest.mark.parametrize(("change", "message"), AUGMENTATION_FAULTS)
def test_augmentations_that_do_not_fit(change, message):
    settings = AugmentationSettings(**change)
    with pytest.raises(ConfigError, match=message):
        check_augmentation(settings, GREY, instances="separate")
    check_augmentation(settings, DataSettings(num_channels=3), instances="may_overlap")


@pytest.mark.parametrize(
    "change",
    [
        {"misalignment": MisalignmentSettings(probability=0.1)},
        {"missing_sections": MissingSectionsSettings(probability=0.1)},
    ],
)
def test_images_have_no_sections(change):
    settings = AugmentationSettings(**change)
    with pytest.raises(ConfigError, match="expected volumes, which have sections, found data"):
        check_augmentation(settings, GREY, instances="separate")
    check_augmentation(settings, DataSettings(ndim=3), instances="separate")


@pytest.mark.parametrize("name", ["mirror", "transpose"])
def test_axes_that_images_have_not(name):
    settings = AugmentationSettings(simple=SimpleSettings(**{name: (1, 2)}))
    with pytest.raises(ConfigError, match=rf"simple. {name}: expected axes from 0 to 1.*\[1, 2\]"):
        check_augmentation(settings, GREY, instances="separate")
    check_augmentation(settings, DataSettings(ndim=3), instances="separate")


def test_labels_that_are_texts_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = np.arange(30.0).reshape(5, 6)
        file["volumes/gt_labels"] = np.full((5, 6), b"a")
    with pytest.raises(DataError, match=r"labels are \|S1; expected integers.* Export them again"):
        check_samples(find_samples(tmp_path, GREY), GREY, labels="required", least_shape=(1, 1))


def test_all_augmentations_that_do_not_fit_are_listed():
    settings = AugmentationSettings(
        misalignment=MisalignmentSettings(probability=0.1), hue=HueSettings(probability=0.1)
    )
    with pytest.raises(ConfigError) as caught:
        check_augmentation(settings, GREY, instances="separate")
    assert [line.split("]")[0] for line in str(caught.value).splitlines()] == [
        "[training.augmentation.hue",
        "[training.augmentation.misalignment",
    ]
