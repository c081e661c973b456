"""Reading and writing of arrays: all formats alike, whole or not at all, clear errors."""

import errno
import pickle
import shutil

import h5py
import imageio.v3 as imageio
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from instaseg.errors import DataError
from instaseg.io import arrays, image_files, zarr_folders
from instaseg.io.arrays import (
    ArrayPlan,
    array_attributes,
    delete_array,
    forget_parts,
    has_array,
    list_arrays,
    new_array,
    open_array,
    resumed_arrays,
    scratch_array,
    slabs,
    stored_size,
    write_array,
)
from instaseg.io.samples import read_whole

IMAGE = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
ZARR_3 = int(zarr.__version__.split(".")[0]) >= 3
PART = (slice(3, 9), slice(10, 14))


@pytest.mark.parametrize("name", ["s.zarr", "s.tif", "s.tiff", "s.png"])
def test_what_is_written_is_read(tmp_path, name):
    write_array(tmp_path / name, "volumes/raw", IMAGE)
    reader = open_array(tmp_path / name, "volumes/raw")
    assert reader.shape == (30, 40)
    assert reader.dtype == np.uint16
    np.testing.assert_array_equal(reader[PART], IMAGE[PART])
    assert [p.name for p in tmp_path.iterdir()] == [name]  # no temporary file is left


def test_hdf5_is_read(tmp_path):
    with h5py.File(tmp_path / "s.hdf", "w") as file:
        file.create_dataset("volumes/raw", data=IMAGE).attrs["resolution"] = [2.0, 1.0]
    reader = open_array(tmp_path / "s.hdf", "volumes/raw")
    np.testing.assert_array_equal(reader[PART], IMAGE[PART])
    assert list(reader.attributes["resolution"]) == [2.0, 1.0]
    assert list_arrays(tmp_path / "s.hdf") == ["volumes/raw"]


def test_attributes_are_plain_and_stored_with_the_array(tmp_path):
    given = {"resolution": (1.0, np.float32(2)), "axis_names": ["y", "x"], "n": np.int64(3)}
    write_array(tmp_path / "s.zarr", "volumes/raw", IMAGE, attributes=given)
    expected = {"resolution": [1.0, 2.0], "axis_names": ["y", "x"], "n": 3}
    assert array_attributes(tmp_path / "s.zarr", "volumes/raw") == expected


def test_an_array_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "s.zarr"
    with new_array(path, "volumes/a", shape=(30, 40), dtype="uint16", chunks=(10, 10)) as writer:
        writer[PART] = IMAGE[PART]
        assert not has_array(path, "volumes/a")
    expected = np.zeros_like(IMAGE)
    expected[PART] = IMAGE[PART]
    np.testing.assert_array_equal(open_array(path, "volumes/a")[:, :], expected)


def test_an_error_while_writing_leaves_the_older_array(tmp_path):
    path = tmp_path / "s.zarr"
    write_array(path, "a", IMAGE)

    def interrupted():
        with new_array(path, "a", shape=(2, 2), dtype="uint8") as writer:
            writer[:, :] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list_arrays(path) == ["a"]
    np.testing.assert_array_equal(open_array(path, "a")[:, :], IMAGE)


def test_what_a_killed_process_left_is_replaced(tmp_path):
    path = tmp_path / "s.zarr"
    write_array(path, "volumes/a", np.zeros((4, 4), np.uint8))
    (path / "volumes" / "a").rename(path / "volumes" / "a.partial")
    assert not has_array(path, "volumes/a")
    assert list_arrays(path) == []
    write_array(path, "volumes/a", IMAGE)
    assert list_arrays(path) == ["volumes/a"]
    assert sorted(p.name for p in (path / "volumes").iterdir()) == [".zgroup", "a"]


def test_a_full_disk_is_one_line_with_the_free_space(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")

    class FullDisk:
        shape, dtype, attrs = (4, 4), np.dtype("uint8"), {}

        def __setitem__(self, index, values):
            raise full

    monkeypatch.setattr(zarr_folders, "create", lambda *_, **__: FullDisk())
    with pytest.raises(DataError) as caught:
        write_array(tmp_path / "s.zarr", "a", np.zeros((4, 4), np.uint8))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 's.zarr'}: cannot write a: No space left on device; ")
    assert "MB are free there. Free space or choose another folder" in message
    assert not has_array(tmp_path / "s.zarr", "a")


def test_deleted_arrays_leave_others_and_those_being_written(tmp_path):
    path = tmp_path / "s.zarr"
    write_array(path, "a", IMAGE)
    with new_array(path, "b", shape=IMAGE.shape, dtype=IMAGE.dtype) as writer:
        delete_array(path, "a")
        writer[...] = IMAGE
    assert list_arrays(path) == ["b"]
    assert stored_size(path, "b") <= stored_size(path)
    with pytest.raises(DataError, match=r"a"):
        delete_array(path, "a")


def test_stacks_are_read_page_by_page(tmp_path):
    stack = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    tifffile.imwrite(tmp_path / "s.tif", stack, compression="zlib", photometric="minisblack")
    reader = open_array(tmp_path / "s.tif", "")
    assert reader.chunks == (1, 6, 7)
    index = (slice(1, 3), slice(0, 4), slice(2, 5))
    np.testing.assert_array_equal(reader[index], stack[index])
    assert reader[(slice(2, 2), slice(0, 6), slice(0, 7))].shape == (0, 6, 7)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_lzw_without_imagecodecs_is_read_with_pillow(tmp_path, dtype):
    image = (IMAGE % 250).astype(dtype)
    Image.fromarray(image).save(tmp_path / "s.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(open_array(tmp_path / "s.tif", "")[PART], image[PART])


def test_axes_of_a_colour_tiff_are_known(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((6, 7, 3), np.uint8), photometric="rgb")
    assert open_array(tmp_path / "s.tif", "").attributes == {"axis_names": ["y", "x", "c"]}


def test_missing_file_key_and_unknown_format(tmp_path):
    with pytest.raises(DataError, match=r"s.zarr: not found; check the path"):
        open_array(tmp_path / "s.zarr", "a")
    write_array(tmp_path / "s.zarr", "volumes/raw", IMAGE)
    with pytest.raises(DataError) as caught:
        open_array(tmp_path / "s.zarr", "volume/raw")
    assert str(caught.value) == (
        f"{tmp_path / 's.zarr'}: no array 'volume/raw'; found 'volumes/raw'."
        " did you mean 'volumes/raw'?"
    )
    with pytest.raises(
        DataError, match=r"expected a file or folder ending in .zarr, .*found '.nd2'"
    ):
        open_array(tmp_path / "s.nd2", "")
    with pytest.raises(DataError, match=r"arrays are written to folders ending in .zarr"):
        write_array(tmp_path / "s.h5", "a", IMAGE)
    with pytest.raises(DataError, match=r"PNG holds uint8 or uint16; got float32"):
        write_array(tmp_path / "s.png", "", IMAGE.astype(np.float32))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_tiff(tmp_path, compression, share):
    path = tmp_path / "s.tif"
    noise = np.random.default_rng(0).integers(0, 255, (100, 100)).astype(np.uint8)
    tifffile.imwrite(path, noise, compression=compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"s.tif: cannot be read as TIF .* truncated"):
        open_array(path, "")


def test_truncated_png_and_other_formats_under_its_name(tmp_path):
    path = tmp_path / "s.png"
    imageio.imwrite(path, np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"s.png: cannot be read as PNG .*truncated"):
        open_array(path, "")[PART]
    path.write_text("not an image")
    with pytest.raises(DataError, match=r"cannot be read as PNG"):
        open_array(path, "")


def test_broken_hdf5(tmp_path):
    (tmp_path / "s.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"s.h5: cannot be read as HDF5"):
        open_array(tmp_path / "s.h5", "a")


def damage(file, how):
    content = bytearray(file.read_bytes())
    if how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[-30] ^= 0xFF
        file.write_bytes(content)
    else:
        file.write_bytes(b"\x00" * len(content))


@pytest.mark.parametrize("how", ["truncated", "flipped", "zeros"])
def test_damaged_chunk(tmp_path, how):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    write_array(tmp_path / "s.zarr", "volumes/raw", noise, chunks=(32, 32))
    damage(tmp_path / "s.zarr" / "volumes" / "raw" / "1.0", how)
    reader = open_array(tmp_path / "s.zarr", "volumes/raw")
    np.testing.assert_array_equal(reader[0:32, 0:64], noise[:32])
    with pytest.raises(DataError, match=r"volumes/raw\[20:40, 0:64\] cannot be read .*damaged"):
        reader[20:40, 0:64]


def test_truncated_chunk_of_blosc_is_found(tmp_path):
    """Blosc, which others' files use, decodes a truncated chunk to garbage by itself."""
    folder = tmp_path / "s.zarr"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    made = zarr.open(
        str(folder / "raw"),
        mode="w",
        shape=noise.shape,
        chunks=(64, 64),
        dtype="u1",
        compressor=numcodecs.Blosc(cname="zstd"),
        **({"zarr_format": 2} if ZARR_3 else {}),
    )
    made[:] = noise
    np.testing.assert_array_equal(open_array(folder, "raw")[0:64, 0:64], noise)
    damage(folder / "raw" / "0.0", "truncated")
    with pytest.raises(DataError, match=r"cannot be read .*expected"):
        open_array(folder, "raw")[0:64, 0:64]


def test_damaged_metadata(tmp_path):
    write_array(tmp_path / "s.zarr", "raw", IMAGE)
    (tmp_path / "s.zarr" / "raw" / ".zarray").write_text("{")
    with pytest.raises(DataError, match=r"raw: metadata cannot be read"):
        open_array(tmp_path / "s.zarr", "raw")


@pytest.mark.skipif(ZARR_3, reason="zarr 3 reads format 3")
def test_format_3_with_zarr_2_says_what_is_needed(tmp_path):
    (tmp_path / "s.zarr" / "raw").mkdir(parents=True)
    (tmp_path / "s.zarr" / "raw" / "zarr.json").write_text('{"node_type": "array"}')
    with pytest.raises(DataError, match=r"raw is zarr format 3; .*Install zarr 3"):
        open_array(tmp_path / "s.zarr", "raw")


@pytest.mark.skipif(not ZARR_3, reason="needs zarr 3")
def test_format_3_is_read(tmp_path):
    made = zarr.open(
        str(tmp_path / "s.zarr" / "raw"), mode="w", shape=(30, 40), dtype="u2", zarr_format=3
    )
    made[:] = IMAGE
    assert list_arrays(tmp_path / "s.zarr") == ["raw"]
    np.testing.assert_array_equal(open_array(tmp_path / "s.zarr", "raw")[PART], IMAGE[PART])


def test_slabs_cover_an_array_once():
    count = np.zeros((7, 4, 5), dtype=int)
    for index in slabs(count.shape, voxels=45):
        count[index] += 1
    assert (count == 1).all()


def test_image_is_not_left_half_written(tmp_path, monkeypatch):
    def fail(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(DataError, match=r"cannot write the file: No space left"):
        write_array(tmp_path / "s.tif", "", IMAGE)
    assert list(tmp_path.iterdir()) == []


def test_free_space_is_that_of_the_nearest_folder(tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda p: asked.append(p) or usage)
    with pytest.raises(DataError), arrays.disk_errors(tmp_path / "no" / "s.zarr", "a"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert asked == [tmp_path]


PLANS = [
    ArrayPlan("volumes/a", (4, 6), np.dtype("uint8"), (2, 2), {"fingerprint": "x"}),
    ArrayPlan("volumes/b", (4,), np.dtype("float32"), None),
]


def write_rows(path, made_from, *, fail_at=4):
    """Write the rows that are missing; return which these were."""
    written = []
    with resumed_arrays(path, PLANS, made_from) as ((a, b), done):
        for row in range(0, 4, 2):
            if row in done:
                continue
            if row == fail_at:
                raise KeyboardInterrupt
            a[slice(row, row + 2), slice(0, 6)] = np.full((2, 6), row + 1, np.uint8)
            b[(slice(row, row + 2),)] = np.full(2, row + 1, np.float32)
            done.update([row])
            written.append(row)
    return written


def test_arrays_go_on_after_an_interruption(tmp_path):
    path = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, "x", fail_at=2)
    assert list_arrays(path) == []
    with (path / "finished_parts.partial").open("a") as journal:
        journal.write("1")  # a line that was cut off
    assert write_rows(path, "x") == [2]
    assert list_arrays(path) == ["volumes/a", "volumes/b"]
    assert read_whole(open_array(path, "volumes/a"))[:, 0].tolist() == [1, 1, 3, 3]
    assert read_whole(open_array(path, "volumes/b")).tolist() == [1, 1, 3, 3]
    assert array_attributes(path, "volumes/a") == {"fingerprint": "x"}
    assert not list(path.rglob("*partial*"))
    assert write_rows(path, "x") == [0, 2], "finished arrays are replaced, not gone on with"


def test_arrays_begin_anew_from_something_else(tmp_path):
    path = tmp_path / "a.zarr"
    for made_from, forget in (("y", False), ("x", True)):
        with pytest.raises(KeyboardInterrupt):
            write_rows(path, "x", fail_at=2)
        if forget:
            forget_parts(path)
        assert write_rows(path, made_from) == [0, 2]
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, "x", fail_at=0)
    assert not list(path.rglob("*partial*")), "nothing was finished, so nothing is kept"
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, "x", fail_at=2)
    journal = path / "finished_parts.partial"
    header, *_ = journal.read_text().split("\n")
    journal.write_text(f"{header}\nno number\n")
    assert write_rows(path, "x") == [0, 2]


def test_arrays_of_another_size_begin_anew(tmp_path):
    path = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, "x", fail_at=2)
    wider = [ArrayPlan("volumes/a", (4, 8), np.dtype("uint8"), (2, 2)), PLANS[1]]
    with resumed_arrays(path, wider, "x") as ((a, _), done):
        assert not len(done)
        a[slice(0, 4), slice(0, 8)] = np.ones((4, 8), np.uint8)
    assert open_array(path, "volumes/a").shape == (4, 8)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_pixels_are_not_sent_and_decoded_once(tmp_path, monkeypatch, name):
    image = np.arange(300 * 400, dtype=np.uint16).reshape(300, 400)
    write_array(tmp_path / name, "", image)
    reader = open_array(tmp_path / name, "")
    np.testing.assert_array_equal(read_whole(reader), image)
    sent = pickle.dumps(reader)
    assert len(sent) < 2000
    for function in ("_read_tiff", "_read_png"):
        monkeypatch.setattr(image_files, function, lambda path: pytest.fail(f"{path} again"))
    np.testing.assert_array_equal(pickle.loads(sent)[PART], image[PART])


def test_scratch_is_read_back_and_deleted(tmp_path):
    path = tmp_path / "a.zarr"
    with scratch_array(path, "s", shape=(3, 3), dtype=np.dtype("uint16")) as scratch:
        scratch[slice(1, 2), slice(0, 3)] = np.array([[7, 8, 9]], np.uint16)
        assert scratch[slice(0, 2), slice(1, 3)].tolist() == [[0, 0], [8, 9]]
        assert list_arrays(path) == []
    assert not list(path.rglob("*partial*"))
