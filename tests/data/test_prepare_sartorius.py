"""The app sartorius, on generated cells in the competition's layout."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.io.arrays import open_array, write_array
from instaseg.io.run_lengths import decode
from instaseg.io.samples import find_samples, read_whole

APP = Path(__file__).parents[2] / "experiments" / "sartorius"
SHAPE = (60, 70)


def script(name):
    spec = importlib.util.spec_from_file_location(f"sartorius_{name}", APP / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate():
    return script("generate")


@pytest.fixture(scope="module")
def prepare():
    return script("prepare")


@pytest.fixture(scope="module")
def submission():
    return script("submission")


@pytest.fixture
def competition(generate, tmp_path):
    """Return a folder with train.csv and two images of each type."""
    folder = tmp_path / "competition"
    arguments = ["--out", str(folder), "--images", "2", "--shape", *map(str, SHAPE)]
    assert generate.main(arguments) == 0
    return folder


def annotations(folder):
    with (folder / "train.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_samples_hold_every_cell_and_its_type(prepare, competition, tmp_path):
    out = tmp_path / "samples"
    assert prepare.main(["--data", str(competition), "--out", str(out), "--folds", "2"]) == 0
    rows = annotations(competition)
    samples = {
        sample.name: sample
        for part in ("train", "val")
        for sample in find_samples(out / part, DataSettings())
    }
    assert set(samples) == {row["id"] for row in rows}
    for name, sample in samples.items():
        own = [row for row in rows if row["id"] == name]
        expected = np.stack([decode(row["annotation"], SHAPE) for row in own])
        assert sample.truth == "instances"
        assert np.array_equal(sample.read_labels() != 0, expected)
        assert sample.kind == own[0]["cell_type"]
        image = read_whole(open_array(competition / "train" / f"{name}.png", ""))
        assert np.array_equal(sample.read_raw()[0], image)


def test_folds_are_of_whole_images_and_have_all_types(prepare, competition, tmp_path):
    parts = []
    for fold in range(2):
        out = tmp_path / f"fold{fold}"
        arguments = ["--data", str(competition), "--out", str(out), "--folds", "2"]
        assert prepare.main([*arguments, "--fold", str(fold)]) == 0
        parts.append(find_samples(out / "val", DataSettings()))
    names = [{sample.name for sample in part} for part in parts]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 6
    for part in parts:
        assert {sample.kind for sample in part} == {"cort", "shsy5y", "astro"}


def test_images_with_doubled_annotations_are_left_out(prepare):
    assert set(prepare.DOUBLED) == {"ce5d0de993bd", "a9fc5e872671"}


def test_missing_files_are_listed_before_anything_is_written(
    prepare, competition, tmp_path, caplog
):
    (competition / "train" / "cort0000.png").unlink()
    arguments = ["--data", str(competition), "--out", str(tmp_path / "samples")]
    assert prepare.main(arguments) == 1
    assert "image cort0000: expected" in caplog.text
    assert "nothing is written" in caplog.text
    assert not (tmp_path / "samples").exists()


def test_a_table_without_a_column_is_refused(prepare, competition, tmp_path, caplog):
    (competition / "train.csv").write_text("id,annotation,width,height\n")
    assert prepare.main(["--data", str(competition), "--out", str(tmp_path / "samples")]) == 2
    assert "missing cell_type" in caplog.text


def test_a_submission_has_a_row_for_each_cell(submission, tmp_path):
    labels = np.array([[1, 1, 0, 2], [0, 1, 0, 2]], np.int32)
    write_array(tmp_path / "labels" / "a.tif", "", labels)
    write_array(tmp_path / "labels" / "b.tif", "", np.zeros_like(labels))
    out = tmp_path / "submission.csv"
    assert submission.main(["--labels", str(tmp_path / "labels"), "--out", str(out)]) == 0
    assert out.read_text() == "id,predicted\na,1 2 6 1\na,4 1 8 1\nb,\n"


def test_predictions_that_overlap_are_refused(submission, tmp_path, caplog):
    channels = np.zeros((2, 3, 4), np.uint8)
    channels[0, :2], channels[1, 1:] = 1, 1
    write_array(tmp_path / "labels" / "a.tif", "", channels)
    out = tmp_path / "submission.csv"
    assert submission.main(["--labels", str(tmp_path / "labels"), "--out", str(out)]) == 1
    assert (
        "a: expected instances that do not overlap, found 4 pixels with more than one"
        in caplog.text
    )
    assert not out.exists()


def test_channels_that_do_not_overlap_are_taken(submission):
    channels = np.zeros((2, 2, 3), np.uint8)
    channels[0, 0], channels[1, 1] = 5, 9
    assert submission.one_layer(channels, "a").tolist() == [[1, 1, 1], [2, 2, 2]]


def test_without_files_there_is_nothing_to_submit(submission, tmp_path, caplog):
    (tmp_path / "labels").mkdir()
    arguments = ["--labels", str(tmp_path / "labels"), "--out", str(tmp_path / "s.csv")]
    assert submission.main(arguments) == 2
    assert "expected *.tif files, found none" in caplog.text


@pytest.mark.parametrize("kind", ["cort", "shsy5y", "astro"])
def test_generated_cells_have_the_published_number_size_and_overlap(generate, kind):
    cells = generate.draw_cells(kind, 0)
    kept = generate.TYPES[kind]
    assert len(cells) == kept.count
    depth = np.zeros(generate.SHAPE, int)
    for cell in cells:
        depth[cell.box] += cell.mask
    assert depth.sum() / len(cells) == pytest.approx(kept.area, rel=0.2)
    assert 0.001 < (depth > 1).sum() / (depth > 0).sum() < 0.013
