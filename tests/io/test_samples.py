"""Which images a folder holds, and which labels belong to them."""

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples, read_whole

GREY = DataSettings()


def write(folder, *names):
    for name in names:
        write_array(folder / name, "", np.arange(20, dtype=np.uint8).reshape(4, 5))
    return folder


def names_of(samples):
    return [
        (s.name, s.raw.path.name, None if s.labels is None else s.labels.path.name) for s in samples
    ]


@pytest.mark.parametrize(("images", "labels"), [("x", "y"), ("images", "masks"), ("raw", "label")])
def test_pairs_of_equal_names(tmp_path, images, labels):
    write(tmp_path, f"{images}/b.tif", f"{images}/a.png", f"{labels}/a.tif", f"{labels}/b.tif")
    (tmp_path / images / ".hidden.tif").write_text("")
    (tmp_path / images / "notes.txt").write_text("")
    assert names_of(find_samples(tmp_path, GREY)) == [
        ("a", "a.png", "a.tif"),
        ("b", "b.tif", "b.tif"),
    ]


def test_pairs_by_number(tmp_path):
    write(tmp_path, "x/training-0002.tif", "x/training-0001.tif")
    write(tmp_path, "y/training_groundtruth-0001.tif", "y/training_groundtruth-0002.tif")
    assert names_of(find_samples(tmp_path, GREY)) == [
        ("training-0001", "training-0001.tif", "training_groundtruth-0001.tif"),
        ("training-0002", "training-0002.tif", "training_groundtruth-0002.tif"),
    ]


def test_pairs_by_name_with_suffix(tmp_path):
    write(tmp_path, "x/a.tif", "x/b.tif", "y/a_mask.tif", "y/b_mask.tif")
    assert names_of(find_samples(tmp_path, GREY))[0] == ("a", "a.tif", "a_mask.tif")


def test_names_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path, "x/1.tif", "x/2.tif", "y/2.tif", "y/10.tif")
    with pytest.raises(DataError) as caught:
        find_samples(tmp_path, GREY)
    assert "1 of 2 images, in sorted order, have labels of another name" in str(caught.value)
    assert "x/1.tif and" in str(caught.value)


def test_image_without_labels_and_the_reverse(tmp_path):
    write(tmp_path, "x/a.tif", "x/b.tif", "x/c.tif", "y/a.tif", "y/d.tif")
    with pytest.raises(DataError) as caught:
        find_samples(tmp_path, GREY)
    message = str(caught.value)
    assert "has 3 images" in message
    assert "has 2 labels; expected one each" in message
    assert f"{tmp_path / 'x' / 'b.tif'}: no labels of that name" in message
    assert f"{tmp_path / 'y' / 'd.tif'}: no image of that name" in message


@pytest.mark.parametrize("names", [("x/a.tif", "x/b.tif"), ("a.tif", "b.png")])
def test_images_alone_are_enough_to_predict(tmp_path, names):
    write(tmp_path, *names)
    assert [(s.name, s.labels) for s in find_samples(tmp_path, GREY)] == [("a", None), ("b", None)]


def test_zarr_and_hdf_containers(tmp_path):
    image, labels = np.zeros((2, 6, 7), np.uint8), np.zeros((6, 7), np.uint16)
    attributes = {"resolution": [9.0, 0.5, 0.25], "units": ["c", "um", "um"]}
    write_array(tmp_path / "b.zarr", "volumes/raw", image, attributes=attributes)
    write_array(tmp_path / "b.zarr", "volumes/gt_labels", labels)
    write_array(tmp_path / "b.zarr", "complete", labels)
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["volumes/raw"] = image
    settings = DataSettings(num_channels=2, mask_key="complete")
    first, second = find_samples(tmp_path, settings)
    assert (first.name, first.labels, first.resolution) == ("a", None, (1.0, 1.0))
    assert (second.name, second.resolution, second.units) == ("b", (0.5, 0.25), ("um", "um"))
    assert second.mask is not None
    assert second.read_raw().shape == (2, 6, 7)
    only = find_samples(tmp_path, DataSettings(input_format="zarr", num_channels=2))
    assert [s.name for s in only] == ["b"]
    alone = find_samples(tmp_path / "b.zarr", settings)
    assert [s.name for s in alone] == ["b"]


def test_voxel_size_of_the_configuration_wins(tmp_path):
    write_array(
        tmp_path / "b.zarr", "volumes/raw", np.zeros((6, 7)), attributes={"resolution": [2, 2]}
    )
    (sample,) = find_samples(tmp_path, DataSettings(voxel_size=(0.5, 0.25)))
    assert sample.resolution == (0.5, 0.25)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DataError, match="none: expected a folder of images, found nothing"):
        find_samples(tmp_path / "none", GREY)
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match=r"no images found; expected \*\.zarr; .*x/ and y/"):
        find_samples(tmp_path, GREY)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="found a file"):
        find_samples(tmp_path / "file", GREY)


def test_two_samples_of_one_name(tmp_path):
    write(tmp_path, "a.tif", "a.png")
    with pytest.raises(DataError, match=r"a.png and a.tif are both sample 'a'"):
        find_samples(tmp_path, GREY)


def test_choosing_samples(image_folder):
    assert [s.name for s in find_samples(image_folder, GREY, names=["c", "a"])] == ["a", "c"]
    with pytest.raises(DataError, match=r"no sample 'd'; there are a, b, c"):
        find_samples(image_folder, GREY, names=["d"])


CHANNELS = [
    ("grey", (6, 7), 2, 1),
    ("channel first", (1, 6, 7), 2, 1),
    ("channel last", (6, 7, 3), 2, 3),
    ("three first", (3, 6, 7), 2, 3),
    ("volume", (5, 6, 7), 3, 1),
    ("volume with channels", (2, 5, 6, 7), 3, 2),
]


@pytest.mark.parametrize(("shape", "ndim", "channels"), [c[1:] for c in CHANNELS])
@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_channels_come_first(tmp_path, suffix, shape, ndim, channels):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, image, photometric="minisblack")
    else:
        write_array(path, "volumes/raw", image)
    (sample,) = find_samples(tmp_path, DataSettings(ndim=ndim, num_channels=channels))
    last = len(shape) == ndim + 1 and shape[0] != channels
    expected = np.moveaxis(image, -1, 0) if last else image.reshape(channels, *shape[-ndim:])
    np.testing.assert_array_equal(sample.read_raw(), expected)
    index = (slice(0, channels), *(slice(1, 4) for _ in range(ndim)))
    np.testing.assert_array_equal(sample.open_raw()[index], expected[index])


def test_axis_names_decide(tmp_path):
    image = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    write_array(
        tmp_path / "a.zarr", "volumes/raw", image, attributes={"axis_names": ["y", "x", "c"]}
    )
    (sample,) = find_samples(tmp_path, DataSettings(num_channels=3))
    np.testing.assert_array_equal(sample.read_raw(), np.moveaxis(image, -1, 0))


def test_rgb_where_grey_is_expected(tmp_path):
    imageio.imwrite(tmp_path / "a.png", np.zeros((6, 7, 3), np.uint8))
    (sample,) = find_samples(tmp_path, GREY)
    with pytest.raises(DataError) as caught:
        sample.open_raw()
    assert str(caught.value) == (
        f"sample a: {tmp_path / 'a.png'} has shape (6, 7, 3); expected (y, x) because data.ndim = 2"
        " and data.num_channels = 1. It has 3 channels (RGB): set data.num_channels = 3, or convert"
        " the images to grey"
    )


def test_wrong_number_of_axes(tmp_path):
    write_array(tmp_path / "a.zarr", "volumes/raw", np.zeros((20, 30, 40), np.uint8))
    (sample,) = find_samples(tmp_path, GREY)
    with pytest.raises(DataError, match=r"expected \(y, x\).*Set data.ndim = 3 if that fits"):
        sample.open_raw()
    (sample,) = find_samples(tmp_path, DataSettings(num_channels=3, ndim=3))
    with pytest.raises(DataError, match=r"no channel axis: set data.num_channels = 1"):
        sample.open_raw()


def test_labels_with_a_flat_axis_are_flat(tmp_path):
    write_array(tmp_path / "a.zarr", "volumes/raw", np.zeros((1, 6, 7), np.uint8))
    labels = np.arange(42, dtype=np.uint16).reshape(1, 6, 7)
    write_array(tmp_path / "a.zarr", "volumes/gt_labels", labels)
    (sample,) = find_samples(tmp_path, GREY)
    np.testing.assert_array_equal(sample.read_labels(), labels[0])
    assert read_whole(sample.open_labels()).shape == (6, 7)


def test_identity_follows_the_files(image_folder):
    before = [s.identity() for s in find_samples(image_folder, GREY)]
    assert len(set(before)) == 3
    write_array(image_folder / "y" / "b.tif", "", np.ones((48, 56), np.uint16))
    after = [s.identity() for s in find_samples(image_folder, GREY)]
    assert [b == a for b, a in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize("suffix", ["zarr", "hdf"])
@pytest.mark.parametrize(
    ("ndim", "stored"), [(2, (3, 6, 7)), (2, (3, 1, 6, 7)), (3, (3, 5, 6, 7)), (2, (1, 6, 7))]
)
def test_instances_have_a_channel_each(tmp_path, suffix, ndim, stored):
    instances = np.arange(np.prod(stored), dtype=np.uint16).reshape(stored)
    space = stored[-ndim:]
    write_arrays(
        tmp_path / f"a.{suffix}", {"volumes/raw": np.zeros(space), "other/worms": instances}
    )
    (sample,) = find_samples(tmp_path, DataSettings(ndim=ndim, instances_key="other/worms"))
    assert sample.truth == "instances"
    expected = instances.reshape(stored[0], *space)
    np.testing.assert_array_equal(sample.read_labels(), expected)
    index = (slice(0, 1), *(slice(1, 4) for _ in range(ndim)))
    np.testing.assert_array_equal(sample.open_labels()[index], expected[index])


def write_arrays(path, arrays):
    """Write arrays by key, to zarr or HDF5."""
    if path.suffix == ".zarr":
        for key, array in arrays.items():
            write_array(path, key, array)
        return
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array


def test_labels_come_before_instances(tmp_path):
    labels = np.ones((6, 7), np.uint16)
    arrays = {"volumes/raw": labels, "volumes/gt_labels": labels}
    write_arrays(tmp_path / "a.zarr", {**arrays, "volumes/gt_instances": labels[np.newaxis]})
    write_arrays(tmp_path / "b.zarr", {"volumes/raw": labels})
    first, second = find_samples(tmp_path, GREY)
    assert (first.truth, first.read_labels().shape) == ("labels", (6, 7))
    assert (second.truth, second.read_labels()) == ("labels", None)
    (chosen, _) = find_samples(tmp_path, DataSettings(gt_key="none"))
    assert (chosen.truth, chosen.read_labels().shape) == ("instances", (1, 6, 7))
    assert chosen.identity() != first.identity()


def test_instances_of_other_axes_are_refused(tmp_path):
    labels = np.ones((6, 7), np.uint16)
    write_arrays(tmp_path / "a.zarr", {"volumes/raw": labels, "volumes/gt_instances": labels})
    (sample,) = find_samples(tmp_path, GREY)
    with pytest.raises(DataError, match=r"shape \(6, 7\); expected \(n, y, x\), one channel per"):
        sample.open_labels()


def test_only_image_files_are_stacked(tmp_path):
    write_array(tmp_path / "a.zarr", "volumes/raw", np.ones((5, 6, 7)))
    stacked = DataSettings(ndim=3, stack="z")
    for folder in (tmp_path, tmp_path / "a.zarr"):
        with pytest.raises(DataError, match=r"expected image files.* found a\.zarr; set data.st"):
            find_samples(folder, stacked)


@pytest.mark.parametrize("stored", ["abc", [2.0], [0.0, 1.0], [float("nan"), 1.0], [-1.0, 1.0]])
def test_voxel_sizes_that_are_none_are_refused(tmp_path, stored):
    attributes = {"resolution": stored}
    write_array(tmp_path / "a.zarr", "volumes/raw", np.ones((6, 7)), attributes=attributes)
    with pytest.raises(
        DataError, match=r"a.zarr: volumes/raw: attribute resolution: expected numb"
    ):
        find_samples(tmp_path, DataSettings())
    (sample,) = find_samples(tmp_path, DataSettings(voxel_size=[2, 1]))
    assert sample.resolution == (2, 1)


def test_an_image_without_axes_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = 3
    (sample,) = find_samples(tmp_path, DataSettings())
    with pytest.raises(DataError, match=r"has shape \(\); expected \(y, x\)"):
        sample.open_raw()
