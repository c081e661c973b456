"""The embedded images, and the script that turns folders into samples."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from instaseg.data.check import check_samples
from instaseg.data.config import DataSettings
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples

APP = Path(__file__).parents[2] / "experiments" / "dsb2018"
GREY = DataSettings()


@pytest.fixture(scope="module")
def prepare():
    spec = importlib.util.spec_from_file_location("prepare", APP / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_embedded_images():
    sets = {part: find_samples(APP / "data" / part, GREY) for part in ("train", "val", "test")}
    assert {part: len(samples) for part, samples in sets.items()} == {
        "train": 24,
        "val": 6,
        "test": 8,
    }
    for samples in sets.values():
        check_samples(samples, GREY, labels="required", least_shape=(256, 256))
    names = [sample.name for samples in sets.values() for sample in samples]
    contents = {s.read_raw().tobytes() for samples in sets.values() for s in samples}
    assert len(set(names)) == len(contents) == 38
    assert sum(file.stat().st_size for file in (APP / "data").rglob("*.tif")) < 2_000_000
    readme = (APP / "README.md").read_text()
    assert all(name in readme for name in names)


def test_layout_with_parts(prepare, image_folder, tmp_path, caplog):
    caplog.set_level("INFO")
    image_folder.rename(tmp_path / "train")
    command = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert prepare.main(command) == 0
    assert [s.name for s in find_samples(tmp_path / "out" / "train", GREY)] == ["a", "b", "c"]
    assert prepare.main(command) == 0
    assert "3 samples were there already and are left as they are" in caplog.text


def test_layout_with_a_list_of_names(prepare, image_folder, tmp_path):
    (image_folder / "x").rename(image_folder / "images")
    (image_folder / "y").rename(image_folder / "masks")
    image_folder.rename(tmp_path / "train")
    (tmp_path / "ids.txt").write_text("b\n")
    command = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert prepare.main([*command, "--val-ids", str(tmp_path / "ids.txt")]) == 0
    assert [s.name for s in find_samples(tmp_path / "out" / "train", GREY)] == ["a", "c"]
    assert [s.name for s in find_samples(tmp_path / "out" / "val", GREY)] == ["b"]


def test_own_folders_with_voxel_size(prepare, image_folder, tmp_path):
    command = ["--images", str(image_folder / "x"), "--masks", str(image_folder / "y")]
    command += ["--out", str(tmp_path / "out"), "--resolution", "0.5", "0.25", "--unit", "um"]
    assert prepare.main(command) == 0
    sample = find_samples(tmp_path / "out", GREY)[0]
    assert (sample.resolution, sample.units) == ((0.5, 0.25), ("um", "um"))


def test_broken_data_end_with_1_and_write_nothing(prepare, image_folder, tmp_path, caplog):
    write_array(image_folder / "y" / "b.tif", "", np.full((48, 56), -1, np.int16))
    command = ["--images", str(image_folder / "x"), "--masks", str(image_folder / "y")]
    assert prepare.main([*command, "--out", str(tmp_path / "out")]) == 1
    assert "b: labels go down to -1" in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--masks", "m"], "--masks needs --images"),
        (["--images", "i", "--val-ids", "v"], "--val-ids goes with --data"),
        (["--resolution", "1"], "--resolution needs 2 numbers, got 1"),
        (["--resolution", "1", "0"], "--resolution must be positive"),
        (["--channels", "0"], "--channels must be at least 1, got 0"),
    ],
)
def test_wrong_usage_ends_with_2(prepare, capsys, command, message):
    with pytest.raises(SystemExit) as caught:
        prepare.main([*command, "--out", "o"])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_folders_end_with_2(prepare, tmp_path, caplog):
    assert prepare.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "expected folders train/, val/ or test/; check --data" in caplog.text
