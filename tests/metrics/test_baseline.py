from functools import partial

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from instaseg.blockwise.components import local_labels
from instaseg.errors import DataError
from instaseg.io.arrays import slabs
from instaseg.metrics import baseline, otsu_components


def test_two_bright_objects():
    raw = np.zeros((1, 5, 6), np.uint16)
    raw[0, :2, :2], raw[0, 2, 2], raw[0, 4, 4:] = 200, 180, 190
    expected = np.zeros((5, 6), int)
    expected[:2, :2], expected[2, 2], expected[4, 4:] = 1, 1, 2
    assert otsu_components(raw).tolist() == expected.tolist()


def test_channels_are_averaged_and_volumes_work():
    raw = np.zeros((2, 3, 4, 4), np.float32)
    raw[0, 0, 0, 0], raw[1, 2, 3, 3] = 1, 1
    labels = otsu_components(raw)
    assert labels.shape == (3, 4, 4)
    assert labels.max() == 2
    assert (labels > 0).sum() == 2


def test_objects_in_images_of_even_height_and_odd_width_are_told_apart():
    raw = np.zeros((1, 100, 101), np.uint8)
    raw[0, ::3, ::3] = 200
    assert otsu_components(raw).max() == 34 * 34


@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_image_has_no_objects(value):
    assert otsu_components(np.full((1, 4, 4), value, np.uint8)).max() == 0


def test_bad_input():
    with pytest.raises(DataError, match=r"raw must be \(c, y, x\) or \(c, z, y, x\); got"):
        otsu_components(np.zeros((4, 4)))
    with pytest.raises(DataError, match="raw has NaN or infinite values"):
        otsu_components(np.array([[[0, np.nan]]]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_threshold_of_slabs_is_that_of_the_whole(dtype, channels, monkeypatch):
    monkeypatch.setattr(baseline, "slabs", partial(slabs, voxels=40))
    rng = np.random.default_rng(0)
    signs = -1 if np.dtype(dtype).kind != "u" else 0
    raw = (rng.integers(signs * 50, 90, (channels, 7, 5, 6)) * rng.random((7, 5, 6))).astype(dtype)
    grey = raw[0] if channels == 1 else raw.mean(axis=0)
    wanted = grey > threshold_otsu(grey.reshape(1, -1))
    bright = baseline.OtsuForeground(raw)
    assert (bright[2:5, 0:5, 1:3] == wanted[2:5, 0:5, 1:3]).all()
    assert (otsu_components(raw) == local_labels(wanted)).all()
