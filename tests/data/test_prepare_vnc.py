"""The script of the app vnc, on tiny sections in the layout of the download."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from imageio import v3 as iio

from instaseg.io.arrays import array_attributes, open_array, write_array
from instaseg.io.samples import read_whole

FILE = Path(__file__).parents[2] / "experiments" / "vnc" / "prepare.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("prepare_vnc", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def download(tmp_path):
    """Return tiny sections: a membrane along row 4, a cleft on it in sections 3 to 5 and in 14."""
    data = tmp_path / "stack1"
    rng = np.random.default_rng(0)
    for section in range(16):
        masks = {name: np.zeros((12, 14), np.uint8) for name in ("membranes", "mitochondria")}
        masks["membranes"][4] = 255
        masks["mitochondria"][4:8, 1:4] = 255
        masks["mitochondria"][10, 10] = 127  # not white
        synapses = np.zeros((12, 14), np.uint8)
        if section in (3, 4, 5, 14):
            synapses[3:6, 8:11] = 255
        write_array(
            data / "raw" / f"{section:02}.tif", "", rng.integers(0, 255, (12, 14), np.uint8)
        )
        for name, mask in {**masks, "synapses": synapses}.items():
            write_array(data / name / f"{section:02}.png", "", mask)
    return data


def read(path, key):
    return read_whole(open_array(path, f"volumes/{key}"))


def test_classes_clefts_and_points_are_written(script, download, tmp_path, caplog):
    caplog.set_level("INFO")
    command = ["--data", str(download), "--out", str(tmp_path / "out")]
    assert script.main(command) == 0
    train = tmp_path / "out" / "train" / "sections_00_13.zarr"
    val = tmp_path / "out" / "val" / "sections_14_15.zarr"
    assert read(train, "raw").shape == (1, 14, 12, 14)
    assert read(val, "raw").shape == (1, 2, 12, 14)
    assert array_attributes(train, "volumes/raw")["resolution"] == [50.0, 4.6, 4.6]
    # the mitochondrion hides the membrane, the synapse too
    labels = read(train, "gt_labels")
    assert labels[3, 4].tolist() == [1, 2, 2, 2, 1, 1, 1, 1, 3, 3, 3, 1, 1, 1]
    assert labels[3, 10, 10] == 0
    clefts = read(train, "gt_clefts")
    assert np.unique(clefts).tolist() == [0, 1]
    assert np.array_equal(clefts > 0, labels == 3)
    assert read(train, "gt_points").tolist() == [[2, 4, 4, 9, 1, 0, -1]]
    assert read(val, "gt_points").tolist() == [[2, 0, 4, 9, 1, 0, -1]]
    assert script.main(command) == 0
    assert "1 samples were there already and are left as they are" in caplog.text


def test_masks_of_one_bit_are_read(script, tmp_path):
    mask = np.array([[True, False, True], [False, True, False]])
    iio.imwrite(tmp_path / "a.png", mask, plugin="pillow")
    found = script.read_mask(tmp_path / "a.png")
    assert found.dtype == bool
    # True is 1 in every byte, also for libraries that look at the bytes
    assert np.array_equal(found.view(np.uint8), mask.view(np.uint8))


def test_a_missing_section_is_named(script, download, tmp_path, caplog):
    (download / "synapses" / "07.png").unlink()
    assert script.main(["--data", str(download), "--out", str(tmp_path / "out")]) == 1
    assert "section 7: expected an image synapses/07, found no such file" in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_named(script, tmp_path, caplog):
    (tmp_path / "raw").mkdir()
    assert script.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "missing membranes/, mitochondria/, synapses/" in caplog.text
