"""Instances of every kind as TIFF, and the stage through the command line."""

import re

import numpy as np
import pytest
import tifffile

from instaseg.errors import DataError
from instaseg.io.arrays import new_array, open_array, write_array
from instaseg.io.samples import read_whole
from instaseg.stages.results import tiff
from instaseg.stages.results.kind import ExportTask


def exported(tmp_path, instances, *, ndim, chunks=None):
    """Return series axes, dtype and values of the TIFF of some instances."""
    source, output = tmp_path / "a.zarr", tmp_path / "out" / "a.tif"
    if chunks is None:
        write_array(source, "instances", instances)
    else:
        with new_array(
            source, "instances", shape=instances.shape, dtype=instances.dtype, chunks=chunks
        ) as writer:
            writer[...] = instances
    task = ExportTask(
        sample="a",
        source=source,
        key="instances",
        output=output,
        resolution=(0.5,) * ndim,
        units=("um",) * ndim,
        note="instaseg 1",
    )
    tiff.write_labels(task)
    with tifffile.TiffFile(output) as file:
        return file.series[0].axes, file.series[0].dtype, read_whole(open_array(output, ""))


def test_labels_become_one_image(tmp_path):
    labels = np.array([[0, 1, 300], [2, 0, 0]], np.int32)
    axes, dtype, values = exported(tmp_path, labels, ndim=2)
    assert (axes, dtype) == ("YX", np.uint16)
    np.testing.assert_array_equal(values, labels)


def test_large_labels_take_32_bits(tmp_path):
    labels = np.array([[0, 65_536]], np.int64)
    _, dtype, values = exported(tmp_path, labels, ndim=2)
    assert dtype == np.uint32
    np.testing.assert_array_equal(values, labels)


def test_labels_that_no_tiff_holds_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"at most 32 bits, found 4294967296; number them again"):
        exported(tmp_path, np.array([[0, 1 << 32]], np.int64), ndim=2)


def test_overlapping_instances_are_channels(tmp_path):
    instances = np.zeros((3, 4, 5), np.uint8)
    instances[0, 1], instances[1, :, 2], instances[2, 1, 2] = 1, 2, 3
    axes, dtype, values = exported(tmp_path, instances, ndim=2)
    assert (axes, dtype) == ("CYX", np.uint8)
    np.testing.assert_array_equal(values, instances)


def test_no_instance_is_an_empty_image(tmp_path):
    _, _, values = exported(tmp_path, np.zeros((0, 4, 5), np.uint8), ndim=2)
    assert values.shape == (4, 5)
    assert not values.any()


@pytest.mark.parametrize("most", [1, 24, 1000])
def test_volumes_are_written_slab_by_slab(tmp_path, monkeypatch, most):
    monkeypatch.setattr(tiff, "MOST_VALUES", most)
    labels = np.arange(7 * 3 * 4, dtype=np.int32).reshape(7, 3, 4)
    axes, _, values = exported(tmp_path, labels, ndim=3, chunks=(2, 3, 4))
    assert axes == "ZYX"
    np.testing.assert_array_equal(values, labels)


def test_channels_of_volumes_follow_each_other_in_every_plane(tmp_path):
    instances = np.random.default_rng(0).integers(0, 9, (2, 5, 3, 4)).astype(np.uint16)
    axes, _, values = exported(tmp_path, instances, ndim=3)
    assert axes == "ZCYX"
    np.testing.assert_array_equal(values, instances.transpose(1, 0, 2, 3))


def test_export_writes_repaired_instances_once(experiment, run):
    done = run("--do", "export", "-id", experiment)
    assert done.code == 0, done.err
    files = sorted((experiment / "test" / "export").iterdir())
    assert [file.name for file in files] == ["2227fd.tif", "4d0967.tif", "8cdbdd.tif"]
    (instances,) = experiment.glob("test/instances/*/*/2227fd.zarr")
    expected = read_whole(open_array(instances, "instances"))
    np.testing.assert_array_equal(read_whole(open_array(files[0], "")), expected)
    assert re.search("export: 3 of 3 files done", run("--do", "export", "-id", experiment).err)
