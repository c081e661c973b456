"""Folders of images as volumes."""

import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples
from instaseg.io.stacks import StackReader

VOLUMES = DataSettings(ndim=3, stack="z")


def write_sections(folder, volume, names):
    for name, section in zip(names, volume, strict=True):
        write_array(folder / f"{name}.tif", "", section)


def volume(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (3, 4, 5), dtype=np.uint8)


def test_sections_are_in_the_order_of_their_numbers(tmp_path):
    write_sections(tmp_path, volume(), ["s2", "s9", "s10"])
    reader = StackReader(tmp_path)
    assert (reader.shape, reader.chunks, reader.dtype) == ((3, 4, 5), (1, 4, 5), np.uint8)
    everything = reader[(slice(0, 3), slice(0, 4), slice(0, 5))]
    assert np.array_equal(everything, volume())
    assert np.array_equal(reader[(slice(1, 3), slice(2, 3), slice(1, 4))], volume()[1:3, 2:3, 1:4])
    assert reader[(slice(2, 2), slice(0, 4), slice(0, 5))].shape == (0, 4, 5)


def test_a_folder_of_images_and_masks_is_one_volume(tmp_path):
    names = ["a01", "a02", "a03"]
    write_sections(tmp_path / "brain" / "x", volume(), names)
    write_sections(tmp_path / "brain" / "y", volume(1), names)
    (sample,) = find_samples(tmp_path / "brain", VOLUMES)
    assert sample.name == "brain"
    assert np.array_equal(sample.read_raw()[0], volume())
    assert np.array_equal(sample.read_labels(), volume(1))
    before = sample.identity()
    write_array(tmp_path / "brain" / "y" / "a02.tif", "", volume(5)[1][:, :4])
    assert find_samples(tmp_path / "brain", VOLUMES)[0].identity() != before


def test_folders_in_it_are_volumes(tmp_path):
    for number, name in enumerate(["p", "q"]):
        write_sections(tmp_path / "x" / name, volume(number), "abc")
    write_sections(tmp_path / "y" / "p", volume(2), "abc")
    first, second = find_samples(tmp_path, VOLUMES)
    assert (first.name, second.name) == ("p", "q")
    assert np.array_equal(first.read_labels(), volume(2))
    assert second.labels is None


def test_images_alone_are_a_volume(tmp_path):
    write_sections(tmp_path / "d", volume(), "abc")
    (sample,) = find_samples(tmp_path / "d", VOLUMES)
    assert sample.labels is None
    assert sample.open_raw().shape == (1, 3, 4, 5)


def test_colour_sections_keep_their_channels(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3), dtype=np.uint8)
    write_sections(tmp_path / "d", colour, "ab")
    settings = DataSettings(ndim=3, stack="z", num_channels=3)
    (sample,) = find_samples(tmp_path / "d", settings)
    assert np.array_equal(sample.read_raw(), np.moveaxis(colour, -1, 0))


def test_sections_that_differ_are_named(tmp_path):
    write_array(tmp_path / "a1.tif", "", volume()[0])
    write_array(tmp_path / "a2.tif", "", volume()[0][:3])
    with pytest.raises(DataError, match=r"a2.tif: expected shape \(4, 5\) and type uint8 as of a1"):
        StackReader(tmp_path)


def test_masks_must_be_as_many(tmp_path):
    write_sections(tmp_path / "x", volume(), "abc")
    write_sections(tmp_path / "y", volume()[:2], "ab")
    with pytest.raises(DataError, match=r"has 3 images, .* has 2 labels"):
        find_samples(tmp_path, VOLUMES)


def test_an_empty_folder_has_no_samples(tmp_path):
    with pytest.raises(DataError, match="no images found"):
        find_samples(tmp_path, VOLUMES)
    with pytest.raises(DataError, match="expected the sections of a volume"):
        StackReader(tmp_path)
