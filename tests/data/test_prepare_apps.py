"""The scripts that turn downloads into samples, on tiny data in each layout; all setups load."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest

from instaseg.config.load import load_config
from instaseg.io.arrays import array_attributes, has_array, open_array, write_array
from instaseg.io.samples import read_whole

APPS = Path(__file__).parents[2] / "experiments"
SETUPS = sorted(APPS.glob("*/setups/*/*.toml"))
RAW, LABELS = "volumes/raw", "volumes/gt_labels"
INSTANCES, MASK = "volumes/gt_instances", "volumes/mask"


def script(app):
    spec = importlib.util.spec_from_file_location(f"prepare_{app}", APPS / app / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def worms():
    return script("wormbodies")


@pytest.fixture(scope="module")
def nuclei():
    return script("nuclei3d")


@pytest.fixture(scope="module")
def neurons():
    return script("flylight")


@pytest.fixture(scope="module")
def membranes():
    return script("isbi2012")


def read(path, key):
    return read_whole(open_array(path, key))


def names(folder):
    return sorted(path.stem for path in folder.glob("*.zarr"))


@pytest.mark.parametrize(
    "file", SETUPS, ids=lambda file: f"{file.parts[-4]}-{file.parent.name}-{file.stem}"
)
def test_setups_load_and_say_how_to_run_them(file):
    load_config([file])
    if file.stem == "base":  # is only extended
        return
    first, *rest = file.read_text().splitlines()
    comment = [first, *(line for line in rest[:4] if line.startswith("#"))]
    assert first.startswith("# ")
    assert any("python run_ppp.py" in line and file.name in line for line in comment)


def test_readmes_name_every_setup():
    for app in {file.parents[2] for file in SETUPS}:
        text = (app / "README.md").read_text()
        files = [file for file in app.glob("setups/*/*.toml") if file.stem != "base"]
        assert all(f.parent.name in text and f.name in text for f in files)


# --- wormbodies


@pytest.fixture
def wells(tmp_path):
    """Return a tiny BBBC010: two worms a well that cross in one pixel; one is in two outlines."""
    data = tmp_path / "bbbc010"
    image = np.full((12, 14), 1000, np.uint16)
    image[4, 2:9] = image[2:8, 5] = 500
    across, down = np.zeros((2, 12, 14), np.uint8)
    across[4, 2:9] = down[2:8, 5] = 255
    for well in ("A01", "B21", "C03", "C04", "C13"):
        for channel in ("w1", "w2"):
            name = f"1649_1109_0003_Amp5-1_B_20070424_{well}_{channel}_ABC.tif"
            write_array(data / "BBBC010_v1_images" / name, "", image)
        for number, worm in enumerate((across, down), 1):
            name = f"{well}_{number:02}_ground_truth.png"
            write_array(data / "BBBC010_v1_foreground_eachworm" / name, "", worm)
    return data


@pytest.fixture
def few_wells(worms, monkeypatch):
    monkeypatch.setattr(worms, "TRAIN", ["A01"])
    monkeypatch.setattr(worms, "VAL", ["B21"])
    monkeypatch.setattr(worms, "FOLDS", {"fold1": ["C03", "C13"], "fold2": ["C04"]})
    monkeypatch.setattr(worms, "CLOSING", 5)
    return worms


def test_worms_are_split_as_published(worms):
    assert (worms.TRAIN[0], worms.TRAIN[-1], len(worms.TRAIN)) == ("A01", "B20", 44)
    assert (worms.VAL[0], worms.VAL[-1], len(worms.VAL)) == ("B21", "C02", 6)
    assert (worms.TEST[0], worms.TEST[-1], len(worms.TEST)) == ("C03", "E04", 50)
    assert len(worms.FOLDS["fold1"]) == len(worms.FOLDS["fold2"]) == 25
    assert set(worms.FOLDS["fold1"]) | set(worms.FOLDS["fold2"]) == set(worms.TEST)


def test_worms_keep_their_overlap(few_wells, wells, tmp_path, caplog):
    caplog.set_level("INFO")
    command = ["--data", str(wells), "--out", str(tmp_path / "out")]
    assert few_wells.main(command) == 0
    assert "not all of their worms are labelled: C13" in caplog.text
    assert {part: names(tmp_path / "out" / part) for part in ("train", "val", "test")} == {
        "train": ["A01"],
        "val": ["B21"],
        "test": ["C03"],
    }
    sample = tmp_path / "out" / "train" / "A01.zarr"
    instances = read(sample, INSTANCES)
    assert instances.shape == (2, 12, 14)
    assert instances.dtype == np.uint8
    assert instances.sum(axis=0).max() == 2
    assert np.argwhere(instances.sum(axis=0) == 2).tolist() == [[4, 5]]
    assert array_attributes(sample, RAW)["axis_names"] == ["c", "y", "x"]
    # half as bright as the surroundings: log 2, in 1/10000
    raw = read(sample, RAW)
    assert raw.shape == (1, 12, 14)
    assert np.array_equal(raw[0], np.where(instances.any(axis=0), 6931, 0))
    assert few_wells.main(command) == 0
    assert "1 samples were there already and are left as they are" in caplog.text


def test_worms_as_they_are_and_the_other_fold(few_wells, wells, tmp_path):
    command = ["--data", str(wells), "--out", str(tmp_path / "out"), "--test", "fold2"]
    assert few_wells.main([*command, "--image", "raw"]) == 0
    assert names(tmp_path / "out" / "test") == ["C04"]
    assert set(np.unique(read(tmp_path / "out" / "test" / "C04.zarr", RAW))) == {500, 1000}


def test_all_that_is_wrong_with_wells_is_said_at_once(few_wells, wells, tmp_path, caplog):
    folder = wells / "BBBC010_v1_foreground_eachworm"
    for file in folder.glob("B21*"):
        file.unlink()
    write_array(folder / "A01_01_ground_truth.png", "", np.zeros((3, 4), np.uint8))
    next((wells / "BBBC010_v1_images").glob("*C03_w2*")).unlink()
    assert few_wells.main(["--data", str(wells), "--out", str(tmp_path / "out")]) == 1
    assert "3 problems; nothing is written" in caplog.text
    assert "well A01: A01_01_ground_truth.png has shape (3, 4); expected (12, 14)" in caplog.text
    assert "well B21: expected one PNG per worm" in caplog.text
    assert "well C03: expected one brightfield image (w2)" in caplog.text
    assert not (tmp_path / "out").exists()


def test_an_empty_worm_is_refused(few_wells, wells, tmp_path, caplog):
    empty = wells / "BBBC010_v1_foreground_eachworm" / "A01_01_ground_truth.png"
    write_array(empty, "", np.zeros((12, 14), np.uint8))
    assert few_wells.main(["--data", str(wells), "--out", str(tmp_path / "out")]) == 1
    assert "A01_01_ground_truth.png: expected a worm, found an empty mask" in caplog.text


def test_worms_without_their_folders_end_with_2(worms, tmp_path, caplog):
    assert worms.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "missing BBBC010_v1_images/, BBBC010_v1_foreground_eachworm/" in caplog.text


# --- nuclei3d


def volume(folder, name, *, seed=0):
    image = np.random.default_rng(seed).integers(0, 1000, (4, 5, 6)).astype(np.uint16)
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    write_array(folder[0] / name, "", image)
    write_array(folder[1] / name, "", labels)


@pytest.fixture
def embryos(tmp_path):
    """Return a tiny BBBC050 of two training embryos and a test embryo, three time points each."""
    data = tmp_path / "bbbc050"
    for part, numbers in (("train", ("01", "10")), ("test", ("1",))):
        folders = (
            data / "Images" / part / "Images",
            data / "GroundTruth" / part / "GroundTruth_QCANet",
        )
        for number in numbers:
            for time in (1, 51, 101):
                volume(folders, f"Emb{number}_t{time:03}.tif", seed=time)
    return data


def test_embryos_are_not_divided(nuclei, embryos, tmp_path):
    assert nuclei.main(["--data", str(embryos), "--out", str(tmp_path / "out")]) == 0
    times = ("t001", "t051", "t101")
    assert {part: names(tmp_path / "out" / part) for part in ("train", "val", "test")} == {
        "train": [f"Emb01_{time}" for time in times],
        "val": [f"Emb10_{time}" for time in times],
        "test": [f"Emb1_{time}" for time in times],
    }
    sample = tmp_path / "out" / "train" / "Emb01_t001.zarr"
    assert array_attributes(sample, RAW)["resolution"] == [2.2, 1.0, 1.0]
    assert read(sample, LABELS).shape == (4, 5, 6)


def test_every_second_time_point_counts_from_the_last(nuclei, embryos, tmp_path):
    command = ["--data", str(embryos), "--out", str(tmp_path / "out"), "--every", "2"]
    assert nuclei.main([*command, "--val-embryos", "01"]) == 0
    assert names(tmp_path / "out" / "train") == ["Emb10_t001", "Emb10_t101"]
    assert names(tmp_path / "out" / "val") == ["Emb01_t001", "Emb01_t101"]


@pytest.mark.parametrize("wanted", [["7"], ["01", "10"]])
def test_embryos_that_validate_must_be_there_and_leave_some(
    nuclei, embryos, tmp_path, caplog, wanted
):
    command = ["--data", str(embryos), "--out", str(tmp_path / "out"), "--val-embryos", *wanted]
    assert nuclei.main(command) == 2
    assert "expected some, not all, of the embryos 01, 10" in caplog.text


def test_files_must_tell_embryo_and_time(nuclei, embryos, tmp_path, caplog):
    images, masks = (
        embryos / "Images/train/Images",
        embryos / "GroundTruth/train/GroundTruth_QCANet",
    )
    for folder in (images, masks):
        (folder / "Emb01_t001.tif").rename(folder / "first.tif")
    assert nuclei.main(["--data", str(embryos), "--out", str(tmp_path / "out")]) == 1
    assert "first.tif: expected a name such as Emb01_t001.tif" in caplog.text


def test_layout_of_stardist(nuclei, tmp_path, caplog):
    data = tmp_path / "demo3D"
    for number in range(6):
        volume((data / "train" / "images", data / "train" / "masks"), f"{number}.tif", seed=number)
    volume((data / "test" / "images", data / "test" / "masks"), "t.tif")
    command = ["--data", str(data), "--out", str(tmp_path / "out"), "--resolution", "2", "1", "1"]
    assert nuclei.main([*command, "--unit", "um"]) == 0
    assert names(tmp_path / "out" / "train") == ["0", "1", "2", "3", "4"]
    assert names(tmp_path / "out" / "val") == ["5"]
    assert names(tmp_path / "out" / "test") == ["t"]
    found = array_attributes(tmp_path / "out" / "test" / "t.zarr", RAW)
    assert (found["resolution"], found["units"]) == ([2.0, 1.0, 1.0], ["um"] * 3)
    for folder in ("images", "masks"):
        (data / "train" / folder / "5.tif").unlink()
    assert nuclei.main(["--data", str(data), "--out", str(tmp_path / "other")]) == 1
    assert "expected at least six volumes in train/images" in caplog.text


def test_no_known_layout_of_nuclei_ends_with_2(nuclei, tmp_path, caplog):
    assert nuclei.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "found neither. Check --data" in caplog.text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--every", "0"], "--every must be at least 1, got 0"),
        (["--resolution", "1", "0", "1"], "--resolution must be positive"),
    ],
)
def test_wrong_usage_ends_with_2(nuclei, capsys, command, message):
    with pytest.raises(SystemExit) as caught:
        nuclei.main(["--data", "d", "--out", "o", *command])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


# --- flylight


def neuron_volume(path, *, channels=3):
    raw = np.random.default_rng(0).integers(0, 4000, (channels, 6, 7, 8)).astype(np.uint16)
    instances = np.zeros((3, 6, 7, 8), np.uint8)
    instances[0, 2, 3] = 1
    instances[1, 2, :, 4] = 2  # the third channel stays empty
    write_array(path, RAW, raw)
    write_array(path, INSTANCES, instances)


@pytest.fixture
def fisbe(tmp_path):
    data = tmp_path / "fisbe"
    for labelled in ("completely", "partly"):
        for part in ("train", "val", "test"):
            neuron_volume(data / labelled / part / f"{labelled}_{part}.zarr")
    return data


def test_completely_labelled_neurons(neurons, fisbe, tmp_path):
    assert neurons.main(["--data", str(fisbe), "--out", str(tmp_path / "out")]) == 0
    assert names(tmp_path / "out" / "train") == ["completely_train"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test", "train", "val"]
    sample = tmp_path / "out" / "test" / "completely_test.zarr"
    instances = read(sample, INSTANCES)
    assert instances.shape == (2, 6, 7, 8)
    assert (instances.max(), instances.sum(axis=0).max()) == (1, 2)
    assert not has_array(sample, MASK)
    assert read(sample, RAW).shape == (3, 6, 7, 8)


def test_partly_labelled_neurons_get_a_mask(neurons, fisbe, tmp_path):
    command = ["--data", str(fisbe), "--out", str(tmp_path / "out"), "--sets", "both"]
    assert neurons.main([*command, "--resolution", "0.4", "0.4", "0.4", "--unit", "um"]) == 0
    assert names(tmp_path / "out" / "train") == ["completely_train", "partly_train"]
    assert names(tmp_path / "out" / "val") == ["completely_val"]
    assert names(tmp_path / "out" / "test_partly") == ["partly_test"]
    whole = read(tmp_path / "out" / "train" / "completely_train.zarr", MASK)
    some = tmp_path / "out" / "train" / "partly_train.zarr"
    assert whole.all()
    assert np.array_equal(read(some, MASK), read(some, INSTANCES).any(axis=0))
    assert array_attributes(some, RAW)["resolution"] == [0.4, 0.4, 0.4]


def test_one_volume_plays_all_parts_and_that_is_said(neurons, tmp_path, caplog):
    neuron_volume(tmp_path / "crop.zarr")
    archive = tmp_path / "data" / "crop.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "crop.zarr").rglob("*")):
            file.write(path, path.relative_to(tmp_path))
    for data in (tmp_path / "crop.zarr", archive, archive.parent):
        out = tmp_path / "out" / data.stem
        assert neurons.main(["--data", str(data), "--out", str(out)]) == 0
        assert [names(out / part) for part in ("train", "val", "test")] == [["crop"]] * 3
    assert "ONE VOLUME IS TRAINING, VALIDATION AND TEST SET" in caplog.text


def test_wrong_volumes_are_all_named(neurons, fisbe, tmp_path, caplog):
    neuron_volume(fisbe / "completely" / "val" / "completely_val.zarr", channels=2)
    write_array(
        fisbe / "completely" / "test" / "other.zarr", RAW, np.zeros((3, 2, 2, 2), np.uint16)
    )
    assert neurons.main(["--data", str(fisbe), "--out", str(tmp_path / "out")]) == 1
    assert "2 problems; nothing is written" in caplog.text
    assert "found (2, 6, 7, 8) and (3, 6, 7, 8)" in caplog.text
    assert "expected volumes/raw and volumes/gt_instances, found volumes/raw" in caplog.text


@pytest.mark.parametrize(
    ("part", "command", "code", "message"),
    [
        ("nothing", [], 2, "found 0 volumes. Check --data"),
        ("completely", [], 2, "found none in completely/train, completely/val, completely/test"),
        ("crop.zarr", ["--sets", "both"], 2, "found a single volume; leave --sets out"),
        ("crop.zip", [], 1, "cannot be unpacked"),
    ],
)
def test_wrong_places_of_neurons(neurons, tmp_path, caplog, part, command, code, message):
    (tmp_path / "data").mkdir()
    if part == "crop.zip":
        (tmp_path / "data" / part).write_text("no archive")
    else:
        (tmp_path / "data" / part).mkdir()
    options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *command]
    assert neurons.main(options) == code
    assert message in caplog.text


# --- isbi2012


@pytest.fixture
def sections(tmp_path, membranes, monkeypatch):
    """Return four sections that a membrane cuts into two cells each."""
    monkeypatch.setattr(
        membranes, "SECTIONS", {"train": range(2), "val": range(2, 3), "test": range(3, 4)}
    )
    data = tmp_path / "isbi2012"
    label = np.full((5, 6), 255, np.uint8)
    label[2] = 0
    for number in range(4):
        image = np.full((5, 6), 10 + number, np.uint8)
        write_array(data / "train" / "image" / f"{number}.png", "", image)
        write_array(data / "train" / "label" / f"{number}.png", "", label)
    return data


def test_cells_of_one_section_are_not_those_of_the_next(membranes, sections, tmp_path):
    assert membranes.main(["--data", str(sections), "--out", str(tmp_path / "out")]) == 0
    sample = tmp_path / "out" / "train" / "sections_00_01.zarr"
    cells = read(sample, LABELS)
    assert cells[:, :, 0].tolist() == [[1, 1, 0, 2, 2], [3, 3, 0, 4, 4]]
    assert read(sample, RAW)[0, :, 0, 0].tolist() == [10, 11]
    assert array_attributes(sample, LABELS)["resolution"] == [50.0, 4.0, 4.0]
    assert names(tmp_path / "out" / "val") == ["sections_02_02"]


def test_sections_are_images_of_their_own(membranes, sections, tmp_path):
    command = ["--data", str(sections), "--out", str(tmp_path / "out"), "--samples", "sections"]
    assert membranes.main(command) == 0
    assert names(tmp_path / "out" / "train") == ["section_00", "section_01"]
    for name in names(tmp_path / "out" / "train"):
        sample = tmp_path / "out" / "train" / f"{name}.zarr"
        assert read(sample, RAW).shape == (1, 5, 6)
        assert set(np.unique(read(sample, LABELS)).tolist()) == {0, 1, 2}
        assert array_attributes(sample, LABELS)["resolution"] == [4, 4]


def test_wrong_sections_are_named(membranes, sections, tmp_path, caplog):
    command = ["--data", str(sections), "--out", str(tmp_path / "out")]
    file = sections / "train" / "label" / "1.png"
    write_array(file, "", np.full((5, 6), 7, np.uint8))
    assert membranes.main(command) == 1
    assert "1.png: expected 0 (membrane) and 255, found other values" in caplog.text
    write_array(file, "", np.full((5, 7), 255, np.uint8))
    assert membranes.main(command) == 1
    assert "1.png: expected shape (5, 6) as all sections, found (5, 7)" in caplog.text
    file.unlink()
    assert membranes.main(command) == 1
    assert "section 1: expected train/label/1.png, found no such file" in caplog.text
    assert membranes.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "missing train/image/, train/label/" in caplog.text
