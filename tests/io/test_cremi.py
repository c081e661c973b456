"""Sites in files as the CREMI challenge has them."""

import h5py
import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.data.crops import open_crop_image
from instaseg.data.normalization import Statistics
from instaseg.errors import DataError
from instaseg.geometry import whole
from instaseg.io.cremi import has_annotations, read_sites
from instaseg.io.points import positions
from instaseg.io.samples import find_samples, read_whole

RAW = "volumes/raw"


@pytest.fixture
def file(tmp_path):
    """Return a file of two connections; their presynaptic site is listed twice."""
    path = tmp_path / "a.hdf"
    with h5py.File(path, "w") as out:
        raw = out.create_dataset(RAW, data=np.zeros((5, 20, 20), np.uint8))
        raw.attrs["resolution"] = (40.0, 4.0, 4.0)
        group = out.create_group("annotations")
        group.attrs["offset"] = (40.0, 0.0, 0.0)
        group["ids"] = np.array([10, 11, 12, 13, 99], np.uint64)
        group["types"] = np.array(
            [
                b"presynaptic_site",
                b"postsynaptic_site",
                b"presynaptic_site",
                b"postsynaptic_site",
                b"note",
            ]
        )
        group["locations"] = np.array(
            [[20, 10, 10], [20, 30, 10], [20, 10, 10], [60, 10, 40], [0, 0, 0]], np.float64
        )
        group["presynaptic_site/partners"] = np.array([[10, 11], [12, 13]], np.uint64)
    return path


def change(path, key, values):
    with h5py.File(path, "a") as out:
        del out[key]
        out[key] = values


def test_locations_become_voxels(file):
    assert has_annotations(file)
    table = read_sites(file, RAW)
    assert table[:, 0].tolist() == [0, 1, 1]
    # (20 + 40) / 40 lies in the middle of voxel 1; 10 / 4 in the middle of voxel 2
    assert positions(table).tolist() == [[1, 2, 2], [1, 7, 2], [2, 2, 9.5]]
    assert table[:, -1].tolist() == [-1, 0, 0]


def test_other_files_have_no_annotations(tmp_path):
    assert not has_annotations(tmp_path / "a.zarr")
    with h5py.File(tmp_path / "b.h5", "w") as out:
        out[RAW] = np.zeros((2, 2, 2))
    assert not has_annotations(tmp_path / "b.h5")


def test_without_partners_nothing_is_paired(file):
    with h5py.File(file, "a") as out:
        del out["annotations/presynaptic_site"]
    assert read_sites(file, RAW)[:, -1].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("key", "values", "text"),
    [
        ("annotations/presynaptic_site/partners", [[10, 77]], "77 is no postsynaptic site"),
        ("annotations/presynaptic_site/partners", [[11, 10]], "11 is no presynaptic site"),
        (
            "annotations/presynaptic_site/partners",
            [[10, 11], [12, 11]],
            "gives site 11 two presynaptic partners",
        ),
        ("annotations/ids", [1, 2], r"expected \(n,\), \(n,\) and \(n, 3\) with the same n"),
        ("annotations/locations", [[b"a"] * 3] * 5, r"locations is of type \S+; expected numbers"),
    ],
)
def test_wrong_annotations_are_refused(file, key, values, text):
    change(file, key, np.array(values))
    with pytest.raises(DataError, match=text):
        read_sites(file, RAW)


CLEFTS = "volumes/labels/clefts"


@pytest.mark.parametrize("kind", ["uint64", "uint32"])
def test_ones_are_background_of_painted_clefts(file, kind):
    ones = np.iinfo(kind).max
    painted = np.full((5, 20, 20), ones, kind)
    painted[1, 2:5, 3:9] = 7
    with h5py.File(file, "a") as out:
        out[CLEFTS] = painted
    settings = DataSettings(ndim=3, gt_key=CLEFTS)
    (sample,) = find_samples(file, settings, truth="clefts")
    labels = sample.open_labels()
    assert labels.dtype == painted.dtype
    expected = np.where(painted == 7, 7, 0)
    np.testing.assert_array_equal(read_whole(labels), expected)
    part = (slice(1, 2), slice(0, 4), slice(2, 5))
    np.testing.assert_array_equal(labels[part], expected[part])
    smaller = sample.resized((5, 10, 10)).read_labels()
    assert sorted(set(smaller.ravel().tolist())) == [0, 7]
    crop = open_crop_image(sample, Statistics((0.0,), (1.0,))).crop_labels(whole((5, 20, 20)))
    np.testing.assert_array_equal(crop[0] != 0, expected != 0)
    (other,) = find_samples(file, settings)
    assert other.read_labels().max() == ones


def test_other_types_of_painted_clefts_are_read_as_they_are(file):
    with h5py.File(file, "a") as out:
        out[CLEFTS] = np.full((5, 20, 20), 255, np.uint8)
    (sample,) = find_samples(file, DataSettings(ndim=3, gt_key=CLEFTS), truth="clefts")
    assert (sample.read_labels() == 255).all()
