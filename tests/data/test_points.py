"""Sites as layers of labels."""

import numpy as np
import pytest
import zarr

from instaseg.data.config import DataSettings
from instaseg.data.crops import open_crop_image
from instaseg.data.normalization import Statistics
from instaseg.data.points import LAYERS, PointLayers
from instaseg.errors import DataError
from instaseg.geometry import Box, whole
from instaseg.io.arrays import write_array
from instaseg.io.points import make_points, no_points
from instaseg.io.samples import find_samples


def test_sites_are_cubes_in_the_layer_of_their_kind():
    table = make_points([0, 1, 2, 1], [[2, 2], [2, 7.2], [7, 2], [7, 7]], partner=[-1, 0, -1, -1])
    layers = PointLayers(table, (10, 10))[(slice(0, 4), slice(0, 10), slice(0, 10))]
    assert layers.shape == (len(LAYERS), 10, 10)
    assert np.argwhere(layers[0] == 1).tolist() == [[y, x] for y in (1, 2, 3) for x in (1, 2, 3)]
    assert np.argwhere(layers[1] == 2).mean(axis=0).tolist() == [2, 7]
    assert np.argwhere(layers[1] == 4).mean(axis=0).tolist() == [7, 7]
    # the partner's label where the postsynaptic site is, nothing where it has none
    assert np.array_equal(layers[2] == 1, layers[1] == 2)
    assert set(np.unique(layers[2])) == {0, 1}
    assert np.unique(layers[3]).tolist() == [0, 3]


def test_voxels_between_two_sites_belong_to_the_nearer_one():
    layers = PointLayers(make_points([2, 2], [[3, 3], [3, 5]]), (7, 9)).in_box(whole((7, 9)))
    # column 4 is as far from both: the lower row has it
    assert layers[3, 3].tolist() == [0, 0, 1, 1, 1, 2, 2, 0, 0]
    assert layers[3, 2].tolist() == [0, 0, 1, 1, 1, 2, 2, 0, 0]


def test_boxes_agree_with_the_whole():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 40)
    table = make_points(kinds, rng.uniform(0, 14, (40, 3)))
    posts = np.flatnonzero(kinds == 1)
    table[posts, -1] = np.resize([*np.flatnonzero(kinds == 0), -1], len(posts))
    layers = PointLayers(table, (15, 15, 15))
    everything = layers.in_box(whole((15, 15, 15)))
    box = Box((3, 0, 7), (9, 5, 15))
    assert np.array_equal(layers.in_box(box), everything[(slice(None), *box.slices)])
    assert np.array_equal(
        layers[(slice(1, 3), *box.slices)], everything[(slice(1, 3), *box.slices)]
    )
    around = layers.in_box(whole((15, 15, 15)).grow((2, 2, 2)))
    assert np.array_equal(around[:, 2:-2, 2:-2, 2:-2], everything)
    # both layers of postsynaptic sites show the same one at every voxel
    shown = everything[1] > 0
    assert np.array_equal(everything[2][shown], table[everything[1][shown] - 1, -1] + 1)


def test_no_points_are_empty_layers():
    assert not PointLayers(no_points(2), (5, 6)).in_box(whole((5, 6))).any()


@pytest.fixture
def folder(tmp_path):
    """Return a data set of one sample that has labels and points."""
    path = tmp_path / "a.zarr"
    write_array(path, "volumes/raw", np.arange(80, dtype=np.uint8).reshape(1, 8, 10))
    write_array(path, "volumes/gt_labels", np.ones((8, 10), np.uint8))
    write_array(path, "volumes/gt_points", make_points(2, [[1, 1]]))
    return tmp_path


def test_the_method_says_which_ground_truth_a_sample_has(folder):
    (labelled,) = find_samples(folder, DataSettings())
    assert (labelled.truth, labelled.labels.key) == ("labels", "volumes/gt_labels")
    (pointed,) = find_samples(folder, DataSettings(), truth="points")
    assert (pointed.truth, pointed.labels.key) == ("points", "volumes/gt_points")
    assert pointed.read_points().tolist() == [[2, 1, 1, 1, 0, -1]]
    with pytest.raises(ValueError, match="has no points"):
        labelled.read_points()


def test_points_that_are_no_numbers_are_refused(folder):
    write_array(folder / "b.zarr", "volumes/raw", np.zeros((1, 8, 10), np.uint8))
    zarr.open_group(str(folder / "b.zarr"), mode="a")["volumes/gt_points"] = np.full((1, 6), "a")
    sample = find_samples(folder, DataSettings(), truth="points")[1]
    with pytest.raises(DataError, match=r"b.zarr: volumes/gt_points: .* <U1; expected numbers"):
        sample.read_points()


def test_nothing_is_known_outside_of_the_image(folder):
    (sample,) = find_samples(folder, DataSettings(), truth="points")
    image = open_crop_image(sample, Statistics())
    for one in (image, image.in_memory()):
        box = Box((-2, -2), (4, 4))
        mask = one.crop_mask(box)
        assert np.array_equal(mask, np.pad(np.ones((4, 4), np.uint8), ((2, 0), (2, 0))))
        # the site is not mirrored, and whole although its cube ends at the border
        assert np.argwhere(one.crop_labels(box)[3]).tolist() == [
            [y, x] for y in (2, 3, 4) for x in (2, 3, 4)
        ]
        assert not one.crop_mask(Box((-9, -9), (-5, -5))).any()
