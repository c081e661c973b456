"""Diameters of objects, and samples resized by them."""

import numpy as np
import pytest

from instaseg.data.classes import ClassMap
from instaseg.data.config import DataSettings, ObjectSizeSettings
from instaseg.data.object_size import diameters, median_diameter, resized, resized_by_labels
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples, read_whole

TO_TEN = ObjectSizeSettings(target=10.0)


def squares(*sides, shape=(40, 120)):
    """Return labels of squares of some sides beside each other."""
    labels = np.zeros(shape, np.uint16)
    for number, side in enumerate(sides):
        labels[1 : 1 + side, 30 * number : 30 * number + side] = 5 * number + 3
    return labels


def test_a_diameter_is_that_of_the_disc_of_equal_area():
    found = np.sort(diameters(squares(4, 9), TO_TEN, ndim=2))
    np.testing.assert_allclose(found, [4 * np.sqrt(4 / np.pi), 9 * np.sqrt(4 / np.pi)])


def test_channels_count_each_by_itself():
    stack = np.zeros((3, 10, 10), np.uint8)
    stack[0, :2, :2] = 1
    stack[1, 1:3, 1:3] = 1  # overlaps the first
    found = np.sort(diameters(stack, TO_TEN, ndim=2))
    np.testing.assert_allclose(found, [2 * np.sqrt(4 / np.pi)] * 2)


def test_in_the_plane_an_instance_is_as_large_as_its_largest_section():
    labels = np.zeros((5, 12, 12), np.int32)
    labels[1, :2, :2] = labels[2, :6, :6] = labels[3, :3, :3] = 4
    found = diameters(labels, TO_TEN, ndim=3)
    np.testing.assert_allclose(found, [6 * np.sqrt(4 / np.pi)])
    channels = (labels == 4)[np.newaxis]
    np.testing.assert_allclose(diameters(channels, TO_TEN, ndim=3), found)


def test_with_all_axes_it_is_that_of_the_ball():
    labels = np.zeros((12, 12, 12), np.int32)
    labels[:4, :4, :4] = 9
    solid = ObjectSizeSettings(target=10, axes="all")
    np.testing.assert_allclose(diameters(labels, solid, ndim=3), [(6 * 64 / np.pi) ** (1 / 3)])


def test_objects_of_classes_are_connected_regions():
    classes = np.zeros((20, 20), np.int16)
    classes[:4, :4], classes[:4, 4:8] = 1, 2  # one region of 32 voxels
    classes[10:13, 10:13] = 1
    classes[18:, 18:] = -1  # unknown
    found = np.sort(diameters(classes, TO_TEN, ndim=2, objects="regions"))
    np.testing.assert_allclose(found, [2 * np.sqrt(9 / np.pi), 2 * np.sqrt(32 / np.pi)])
    # each section of a volume by itself, since a region in the plane is as large as its section
    volume = np.stack([classes, classes])
    assert len(diameters(volume, TO_TEN, ndim=3, objects="regions")) == 4
    solid = ObjectSizeSettings(target=10, axes="all")
    found = np.sort(diameters(volume, solid, ndim=3, objects="regions"))
    np.testing.assert_allclose(found, np.cbrt(6 * np.array([18, 64]) / np.pi))


def test_the_median_leaves_out_debris():
    assert median_diameter(squares(1, 1, 1, 9), TO_TEN, ndim=2) == pytest.approx(10.155, abs=1e-3)
    assert median_diameter(np.zeros((5, 5), int), TO_TEN, ndim=2) is None


@pytest.fixture
def samples(tmp_path):
    """Return three images: squares of 20 voxels, of 5 voxels, and nothing."""
    for name, labels in (("a", squares(20)), ("b", squares(5)), ("c", squares())):
        write_array(tmp_path / "x" / f"{name}.tif", "", (labels > 0).astype(np.uint8) * 200)
        write_array(tmp_path / "y" / f"{name}.tif", "", labels)
    return find_samples(tmp_path, DataSettings())


def test_samples_come_at_the_target_size(samples):
    found = resized_by_labels(samples, TO_TEN)
    first, second, third = found.samples
    side = np.sqrt(4 / np.pi)
    assert found.diameter == pytest.approx(12.5 * side)
    assert first.size == (round(40 * 10 / (20 * side)), round(120 * 10 / (20 * side)))
    assert second.size == (round(40 * 10 / (5 * side)), round(120 * 10 / (5 * side)))
    assert third.size == (round(40 * 10 / (12.5 * side)), round(120 * 10 / (12.5 * side)))
    for sample in (first, second):
        raw, labels = sample.read_raw(), sample.read_labels()
        assert raw.shape == (1, *sample.size)
        assert labels.shape == sample.size
        assert set(np.unique(labels)) == {0, 3}
        # Image and labels have stayed together.
        assert ((raw[0] > 100) == (labels > 0)).mean() > 0.97
        assert median_diameter(labels, TO_TEN, ndim=2) == pytest.approx(10, rel=0.08)
    assert first.resized(None) == samples[0]


def test_samples_of_classes_come_at_the_target_size(samples):
    found = resized_by_labels(samples, TO_TEN, class_map=ClassMap(2, objects="instances"))
    assert found == resized_by_labels(samples, TO_TEN)


def test_factors_are_bounded(samples):
    bounded = ObjectSizeSettings(target=10, max_factor=1.5)
    assert resized(samples[0], 1.0, bounded).size == (60, 180)
    assert resized(samples[0], 1000.0, bounded).size == (27, 80)


def test_volumes_keep_their_sections_unless_all_axes_are_asked_for(tmp_path):
    write_array(tmp_path / "x" / "a.tif", "", np.zeros((6, 20, 30), np.uint8))
    (sample,) = find_samples(tmp_path, DataSettings(ndim=3))
    assert resized(sample, 5.0, TO_TEN).size == (6, 40, 60)
    assert resized(sample, 5.0, ObjectSizeSettings(target=10, axes="all")).size == (12, 40, 60)
    raw = resized(sample, 5.0, TO_TEN).open_raw()
    assert read_whole(raw).shape == (1, 6, 40, 60)
