"""Samples that are put together from several files."""

import numpy as np
import pytest

from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import array_attributes, delete_array, list_arrays, open_array, write_array
from instaseg.io.prepared import (
    INSTANCES_KEY,
    Arrays,
    Pending,
    exit_code,
    inside,
    need_folders,
    need_one_shape,
    numbered_images,
    refuse_problems,
    write_pending,
)
from instaseg.io.samples import read_whole

MASK_KEY = "volumes/mask"


def pending(calls):
    instances = np.zeros((2, 4, 5), np.uint8)
    instances[0, 1] = instances[1, :, 2] = 1

    def read():
        calls.append("read")
        arrays = {INSTANCES_KEY: instances, MASK_KEY: np.ones((4, 5), np.uint8)}
        return Arrays(np.zeros((3, 4, 5), np.uint16), arrays, (0.5, 0.25), "um")

    return Pending("a", (INSTANCES_KEY, MASK_KEY), read)


def test_arrays_and_their_axes(tmp_path):
    counts = write_pending([pending([])], tmp_path)
    assert (counts.written, counts.skipped) == (1, 0)
    path = tmp_path / "a.zarr"
    assert list_arrays(path) == [INSTANCES_KEY, MASK_KEY, "volumes/raw"]
    found = [array_attributes(path, key)["axis_names"] for key in list_arrays(path)]
    assert found == [["n", "y", "x"], ["y", "x"], ["c", "y", "x"]]
    attributes = array_attributes(path, INSTANCES_KEY)
    assert (attributes["resolution"], attributes["units"]) == ([0.5, 0.25], ["um", "um"])
    assert read_whole(open_array(path, INSTANCES_KEY)).sum() == 9


def test_a_complete_sample_is_not_even_read_and_an_interrupted_one_is_written_again(tmp_path):
    calls = []
    write_pending([pending(calls)], tmp_path)
    assert write_pending([pending(calls)], tmp_path).skipped == 1
    assert len(calls) == 1
    delete_array(tmp_path / "a.zarr", INSTANCES_KEY)
    assert write_pending([pending(calls)], tmp_path).written == 1
    assert len(calls) == 2


def test_many_problems_are_one_error():
    refuse_problems([])
    with pytest.raises(
        DataError, match=r"(?s)21 problems; nothing is written\n  no 0\n.*and 1 more"
    ):
        refuse_problems([f"no {number}" for number in range(21)])


def test_missing_folders(tmp_path):
    (tmp_path / "a").mkdir()
    need_folders(tmp_path, ["a"])
    with pytest.raises(
        ConfigError, match=r"expected the folders a/, b/; missing b/\. Check --data"
    ):
        need_folders(tmp_path, ["a", "b"])


def test_images_are_found_by_their_numbers(tmp_path):
    for name in ("00.png", "7.TIF", "10.png", "a1.png", "3.txt", "-2.png"):
        (tmp_path / name).touch()
    found = numbered_images(tmp_path)
    assert found == {0: tmp_path / "00.png", 7: tmp_path / "7.TIF", 10: tmp_path / "10.png"}


def test_sections_have_one_shape(tmp_path):
    files = [tmp_path / f"{number}.tif" for number in range(4)]
    for file, shape in zip(files, [(4, 5), (4, 6), (4, 5), (3, 5)], strict=True):
        write_array(file, "", np.zeros(shape, np.uint8))
    need_one_shape([files[0], files[2]])
    with pytest.raises(DataError, match="2 problems; nothing is written") as caught:
        need_one_shape(files)
    assert str(caught.value).splitlines()[1:] == [
        f"  {files[1]}: expected shape (4, 5) as all sections, found (4, 6); download it again",
        f"  {files[3]}: expected shape (4, 5) as all sections, found (3, 5); download it again",
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (DataError("broken"), 1), (ConfigError("wrong"), 2)]
)
def test_exit_codes(caplog, error, code):
    def work():
        if error:
            raise error

    assert exit_code(work) == code
    assert error is None or f"error: {error}" in caplog.text


def test_inside_is_one_where_something_lies():
    assert inside(np.array([[0, 255, 3]])).tolist() == [[0, 1, 1]]
