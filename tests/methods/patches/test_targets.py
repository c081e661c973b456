"""Patch targets of a few pixels."""

import numpy as np
import pytest

from instaseg.errors import DataError
from instaseg.methods.patches import patch_targets


def test_line_of_labels():
    #  label   1  1  2  2  0
    #  left    0  1  0  1  0      same as the pixel to the left; 0 outside and in the background
    #  self    1  1  1  1  0
    #  right   1  0  1  0  0
    targets = patch_targets(np.array([[1, 1, 2, 2, 0]]), (1, 3))
    assert targets[:, 0].tolist() == [[0, 1, 0, 1, 0], [1, 1, 1, 1, 0], [1, 0, 1, 0, 0]]
    assert targets.dtype == bool


def test_overlapping_instances():
    #  first   1  1  1  0        second  0  0  1  1
    # pixel 2 has two instances: no patch there, but it is in the patches of both neighbours
    instances = np.array([[[1, 1, 1, 0]], [[0, 0, 1, 1]]])
    targets = patch_targets(instances, (1, 3))
    assert targets[:, 0].tolist() == [[0, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize("patch_shape", [(3, 5), (3, 3, 5)])
def test_equals_the_definition(patch_shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (6,) * len(patch_shape))
    radius = [n // 2 for n in patch_shape]
    padded = np.pad(labels, [(r, r) for r in radius])
    targets = patch_targets(labels, patch_shape)
    for k, offset in enumerate(np.ndindex(*patch_shape)):
        moved = padded[tuple(slice(o, o + 6) for o in offset)]
        assert np.array_equal(targets[k], (moved == labels) & (labels > 0))


def test_disjoint_channels_equal_labels():
    labels = np.random.default_rng(1).integers(0, 4, (7, 8))
    channels = np.stack([labels == i for i in (1, 2, 3)])
    assert np.array_equal(patch_targets(channels, (3, 3)), patch_targets(labels, (3, 3)))


def test_flat_patch_on_an_image():
    labels = np.random.default_rng(1).integers(0, 4, (7, 8))
    assert np.array_equal(patch_targets(labels, (1, 3, 3)), patch_targets(labels, (3, 3)))


def test_a_patch_larger_than_the_image():
    assert patch_targets(np.ones((2, 2), dtype=int), (7, 7)).sum() == 16


@pytest.mark.parametrize(
    ("labels", "patch_shape", "message"),
    [
        (np.zeros((4, 4)), (3, 3), "labels must be integers, 0 for background; got float64"),
        (np.zeros((4, 4), int), (3, 4), r"two or three odd sides in voxels; got \(3, 4\)"),
        (
            np.zeros(4, int),
            (3, 3),
            r"must have the 2 axes of patch_shape \(3, 3\).*got shape \(4,\)",
        ),
        (np.zeros((4, 4), int), (257, 3), "at most 255 voxels"),
    ],
)
def test_bad_input(labels, patch_shape, message):
    with pytest.raises(DataError, match=message):
        patch_targets(labels, patch_shape)
