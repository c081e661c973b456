"""Folders of images become zarr samples; an interrupted conversion goes on."""

import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import array_attributes, delete_array, open_array, write_array
from instaseg.io.convert import Converted, convert, paired_samples, rename_units, split_by_names
from instaseg.io.samples import find_samples

SETTINGS = DataSettings(voxel_size=(0.5, 0.25))


def test_samples_hold_what_the_images_held(image_folder, tmp_path):
    samples = paired_samples(image_folder / "x", image_folder / "y", SETTINGS)
    assert convert(rename_units(samples, "um"), tmp_path / "out") == Converted(3, 0)
    converted = find_samples(tmp_path / "out", DataSettings())
    assert [s.name for s in converted] == ["a", "b", "c"]
    for before, after in zip(samples, converted, strict=True):
        np.testing.assert_array_equal(after.read_raw(), before.read_raw())
        np.testing.assert_array_equal(after.read_labels(), before.read_labels())
        assert after.resolution == (0.5, 0.25)
        assert after.units == ("um", "um")
    path = tmp_path / "out" / "a.zarr"
    assert array_attributes(path, "volumes/gt_labels") == {
        "resolution": [0.5, 0.25],
        "offset": [0.0, 0.0],
        "axis_names": ["y", "x"],
        "units": ["um", "um"],
    }
    assert array_attributes(path, "volumes/raw")["axis_names"] == ["c", "y", "x"]


def test_only_what_is_missing_is_written(image_folder, tmp_path):
    samples = paired_samples(image_folder / "x", image_folder / "y", SETTINGS)
    convert(samples, tmp_path / "out")
    delete_array(tmp_path / "out" / "b.zarr", "volumes/gt_labels")  # as if it was interrupted
    assert convert(samples, tmp_path / "out") == Converted(1, 2)
    assert find_samples(tmp_path / "out", SETTINGS)[1].labels is not None


def test_labels_are_unsigned(tmp_path):
    write_array(tmp_path / "x" / "a.tif", "", np.zeros((4, 5), np.uint8))
    labels = np.full((4, 5), 70_000, dtype=np.int64)
    write_array(tmp_path / "y" / "a.tif", "", labels)
    convert(paired_samples(tmp_path / "x", tmp_path / "y", SETTINGS), tmp_path / "out")
    (sample,) = find_samples(tmp_path / "out", SETTINGS)
    assert sample.read_labels().dtype == np.uint32
    np.testing.assert_array_equal(sample.read_labels(), labels)


def test_split(image_folder):
    samples = paired_samples(image_folder / "x", image_folder / "y", SETTINGS)
    rest, chosen = split_by_names(samples, ["b"])
    assert ([s.name for s in rest], [s.name for s in chosen]) == (["a", "c"], ["b"])
    with pytest.raises(DataError, match=r"1 of 2 names in the list belong to no image, .*'z'"):
        split_by_names(samples, ["b", "z"])


def test_missing_and_empty_folders(image_folder, tmp_path):
    with pytest.raises(DataError, match="nowhere: expected a folder of TIFF or PNG files"):
        paired_samples(tmp_path / "nowhere", None, SETTINGS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no TIFF or PNG files found"):
        paired_samples(tmp_path / "empty", None, SETTINGS)
    assert len(paired_samples(image_folder / "x", None, SETTINGS)) == 3


def test_instance_channels_stay(tmp_path):
    image = np.zeros((6, 7), np.uint8)
    instances = np.zeros((2, 1, 6, 7), np.int32)
    instances[0, 0, 2], instances[1, 0, :, 3] = 5, 300
    write_array(tmp_path / "in" / "a.zarr", "volumes/raw", image)
    write_array(tmp_path / "in" / "a.zarr", "worms", instances)
    samples = find_samples(tmp_path / "in", DataSettings(instances_key="worms"))
    assert convert(samples, tmp_path / "out") == Converted(1, 0)
    assert convert(samples, tmp_path / "out") == Converted(0, 1)
    (sample,) = find_samples(tmp_path / "out", SETTINGS)
    assert sample.truth == "instances"
    np.testing.assert_array_equal(sample.read_labels(), instances[:, 0] != 0)
    written = open_array(tmp_path / "out" / "a.zarr", "volumes/gt_instances")
    assert (written.dtype, written.chunks) == (np.uint8, (1, 6, 7))
    assert written.attributes["axis_names"] == ["n", "y", "x"]
