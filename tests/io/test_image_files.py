"""Stacks for ImageJ: axes, voxel sizes, types, and the note that tells what they were made from."""

import numpy as np
import pytest
import tifffile

from instaseg.io.arrays import open_array
from instaseg.io.image_files import StackLayout, stack_note, write_stack
from instaseg.io.samples import read_whole


def layout(shape, dtype, axes, resolution):
    return StackLayout(shape, np.dtype(dtype), axes, resolution, "um", "made from x")


def test_imagej_reads_axes_and_voxel_size(tmp_path):
    values = np.arange(4 * 3 * 5 * 6, dtype=np.uint16).reshape(4, 3, 5, 6)
    path = tmp_path / "new" / "a.tif"
    pages = (page for plane in values for page in plane)
    write_stack(path, pages, layout(values.shape, np.uint16, "ZCYX", (2.0, 0.5, 0.25)))
    with tifffile.TiffFile(path) as file:
        found = file.imagej_metadata
        assert file.series[0].axes == "ZCYX"
        assert (found["slices"], found["channels"]) == (4, 3)
        assert (found["spacing"], found["unit"]) == (2.0, "um")
        tags = file.pages.first.tags
        assert (tags["XResolution"].value, tags["YResolution"].value) == ((4, 1), (2, 1))
        assert file.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    np.testing.assert_array_equal(read_whole(open_array(path, "")), values)
    assert stack_note(path) == "made from x"
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_labels_of_more_than_16_bits_have_ome_metadata(tmp_path):
    values = np.array([[0, 70_000], [4_294_967_295, 1]], np.uint32)
    write_stack(tmp_path / "a.tif", [values], layout((2, 2), np.uint32, "YX", (0.5, 0.25)))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_ome
        assert (
            'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="0.5"' in file.ome_metadata
        )
    np.testing.assert_array_equal(read_whole(open_array(tmp_path / "a.tif", "")), values)
    assert stack_note(tmp_path / "a.tif") == "made from x"


def test_other_files_have_no_note(tmp_path):
    assert stack_note(tmp_path / "gone.tif") is None
    (tmp_path / "a.tif").write_text("no image")
    assert stack_note(tmp_path / "a.tif") is None
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 2), np.uint8), software=None)
    assert stack_note(tmp_path / "b.tif") != "made from x"


def test_what_fails_leaves_nothing(tmp_path):
    def broken():
        yield np.zeros((2, 2), np.uint8)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_stack(tmp_path / "a.tif", broken(), layout((2, 2, 2), np.uint8, "ZYX", (1, 1, 1)))
    assert list(tmp_path.iterdir()) == []
