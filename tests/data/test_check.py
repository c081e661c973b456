"""All that is wrong with a data set is told at once, before any work."""

import logging

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from instaseg.data.check import check_samples
from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import write_array
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
