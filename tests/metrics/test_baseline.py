import numpy as np
import pytest

from instaseg.errors import DataError
from instaseg.metrics import otsu_components


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
