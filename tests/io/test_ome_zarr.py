"""OME-Zarr is read at its most detailed level, with the axes and voxel sizes it names."""

import json

import numpy as np
import pytest
import zarr

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import open_array, write_array
from instaseg.io.ome_zarr import label_key, level_key
from instaseg.io.samples import find_samples, read_whole

MICRO = "micrometer"
AXES = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    **{name: {"name": name, "type": "space", "unit": MICRO} for name in "zyx"},
}


def write_image(folder, values, axes, scale, *, factor=None):
    """Write a multiscale image of two levels as other programs do, with nested chunks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    datasets = []
    for level, part in enumerate((values, values[..., ::2, ::2])):
        write_array_nested(folder / str(level), part)
        sizes = [s * (1 + level * (a in "yx")) for s, a in zip(scale, axes, strict=True)]
        transformations = [{"type": "scale", "scale": sizes}]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    multiscale = {"version": "0.4", "axes": [AXES[a] for a in axes], "datasets": datasets}
    if factor:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": factor}]
    (folder / ".zattrs").write_text(json.dumps({"multiscales": [multiscale]}))


def write_array_nested(folder, values):
    version = {"zarr_format": 2} if zarr.__version__.startswith("3") else {"zarr_version": 2}
    written = zarr.create(
        store=str(folder),
        shape=values.shape,
        dtype=values.dtype,
        chunks=tuple(min(n, 5) for n in values.shape),
        dimension_separator="/",
        **version,
    )
    written[...] = values


def labelled(folder, values, axes, scale, name="cells"):
    write_image(folder / "labels" / name, values, axes, scale)
    names = sorted(path.name for path in (folder / "labels").iterdir() if path.is_dir())
    (folder / "labels" / ".zattrs").write_text(json.dumps({"labels": names}))


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(0, 200, (1, 2, 4, 12, 14)).astype(np.uint8)


def test_a_volume_with_labels_is_a_sample(tmp_path, volume):
    folder, truth = tmp_path / "a.ome.zarr", (volume[0, 0] // 20).astype(np.int32)
    write_image(folder, volume, "tczyx", [1, 1, 2.0, 0.5, 0.5], factor=[1, 1, 2, 1, 1])
    labelled(folder, truth, "zyx", [2.0, 0.5, 0.5])
    settings = DataSettings(ndim=3, num_channels=2)
    for given in (tmp_path, folder):
        (sample,) = find_samples(given, settings)
        assert sample.name == "a"
        assert sample.raw.key == "0"
        assert sample.labels.key == "labels/cells/0"
        assert sample.resolution == (4.0, 0.5, 0.5)
        assert sample.units == (MICRO,) * 3
        assert (sample.read_raw() == volume[0]).all()
        assert (sample.read_labels() == truth).all()
        part = sample.open_raw()[(slice(1, 2), slice(1, 3), slice(2, 9), slice(3, 4))]
        assert (part == volume[0, 1:2, 1:3, 2:9, 3:4]).all()


def test_an_image_stored_as_a_volume_of_one_slice(tmp_path, volume):
    write_image(tmp_path / "a.zarr", volume[:, :1, :1], "tczyx", [1, 1, 1, 0.3, 0.3])
    (sample,) = find_samples(tmp_path, DataSettings(ndim=2))
    assert (sample.read_raw() == volume[0, :1, 0]).all()
    assert sample.resolution == (0.3, 0.3)
    reader = open_array(tmp_path / "a.zarr", "0")
    assert (reader.shape, reader.chunks) == ((12, 14), (5, 5))
    assert reader.attributes["axis_names"] == ["y", "x"]


def test_an_image_in_a_group_and_one_of_several_labels(tmp_path, volume):
    folder = tmp_path / "a.zarr"
    write_image(folder / "0", volume[0, 0], "zyx", [2, 1, 1])
    labelled(folder / "0", volume[0, 0], "zyx", [2, 1, 1], "cells")
    labelled(folder / "0", volume[0, 1], "zyx", [2, 1, 1], "nuclei")
    assert level_key(folder, "") is None
    settings = DataSettings(ndim=3, raw_key="0", gt_key="0/labels/nuclei")
    (sample,) = find_samples(tmp_path, settings)
    assert (sample.raw.key, sample.labels.key) == ("0/0", "0/labels/nuclei/0")
    assert (sample.read_labels() == volume[0, 1]).all()
    with pytest.raises(DataError, match=r"expected one label image, found cells, nuclei in labels"):
        label_key(folder / "0")


def test_own_keys_come_first_and_wrong_ones_are_not_replaced(tmp_path, volume):
    folder = tmp_path / "a.zarr"
    write_image(folder, volume[0, 0], "zyx", [2, 1, 1])
    write_array(folder, "volumes/raw", volume[0, 1])
    (sample,) = find_samples(tmp_path, DataSettings(ndim=3))
    assert sample.raw.key == "volumes/raw"
    assert sample.labels is None
    (sample,) = find_samples(tmp_path, DataSettings(ndim=3, raw_key="volumes/rwa"))
    with pytest.raises(DataError, match=r"no array 'volumes/rwa'; found '0', '1', 'volumes/raw'"):
        sample.read_raw()


def test_metadata_without_axes_are_those_of_old_versions(tmp_path, volume):
    write_image(tmp_path / "a.zarr", volume, "tczyx", [1] * 5)
    metadata = {"multiscales": [{"version": "0.2", "datasets": [{"path": "0"}]}]}
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps(metadata))
    reader = open_array(tmp_path / "a.zarr", "0")
    assert reader.attributes["axis_names"] == ["c", "z", "y", "x"]
    assert reader.attributes["resolution"] == [1.0] * 4
    assert (read_whole(reader) == volume[0]).all()


def test_several_points_in_time_are_refused(tmp_path, volume):
    write_image(tmp_path / "a.zarr", volume[0], "tzyx", [1, 1, 1, 1])
    with pytest.raises(DataError, match=r"a.zarr: 0: expected one point in time, found 2 along"):
        open_array(tmp_path / "a.zarr", "0")


def test_axes_that_do_not_fit_the_array_are_refused(tmp_path, volume):
    write_image(tmp_path / "a.zarr", volume[0, 0], "zyx", [1, 1, 1])
    file = tmp_path / "a.zarr" / ".zattrs"
    metadata = json.loads(file.read_text())
    metadata["multiscales"][0]["axes"].pop()
    file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=r"expected 2 axes \(z, y\) as its group's multiscales"):
        open_array(tmp_path / "a.zarr", "0")
    file.write_text("{")
    with pytest.raises(DataError, match=r"\.zattrs: not valid JSON .* write it again"):
        open_array(tmp_path / "a.zarr", "0")


@pytest.mark.parametrize(
    "scale", [[1.0], [2.0, 0.5, 0.0], ["a", "b", "c"], None], ids=["one", "zero", "texts", "none"]
)
def test_scales_that_are_no_sizes_are_refused(tmp_path, volume, scale):
    folder = tmp_path / "a.zarr"
    write_image(folder, volume[0, 0], "zyx", [2.0, 0.5, 0.5])
    content = json.loads((folder / ".zattrs").read_text())
    level = content["multiscales"][0]["datasets"][0]
    level["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    (folder / ".zattrs").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"a.zarr/0: coord.* a scale of 3 numbers above 0.* found"):
        find_samples(folder, DataSettings(ndim=3))


@pytest.mark.parametrize("found", [{"a": 1}, ["a"], [{"datasets": [{"a": 1}]}], [{"datasets": 1}]])
def test_metadata_of_another_form_are_refused(tmp_path, volume, found):
    folder = tmp_path / "a.zarr"
    write_image(folder, volume[0, 0], "zyx", [2.0, 0.5, 0.5])
    (folder / ".zattrs").write_text(json.dumps({"multiscales": found}))
    with pytest.raises(DataError, match=r"a.zarr: multiscales: expected a list of images, each"):
        find_samples(folder, DataSettings(ndim=3))


def test_metadata_of_zarr_format_3_are_found(tmp_path):
    ome = {"version": "0.5", "multiscales": [{"datasets": [{"path": "s0"}]}]}
    content = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (tmp_path / "zarr.json").write_text(json.dumps(content))
    assert level_key(tmp_path, "") == "s0"
