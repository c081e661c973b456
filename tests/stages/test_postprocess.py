"""Samples are repaired to the same instances at once and block by block, with all they need."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.data.config import DataSettings
from instaseg.io.arrays import list_arrays, open_array, write_array
from instaseg.io.samples import Sample, Source, read_whole
from instaseg.methods.build import MethodSpec
from instaseg.methods.patches.config import PatchesSettings
from instaseg.models.config import ModelSettings
from instaseg.postprocess import pipeline
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.stages import postprocess, sizes
from instaseg.stages.postprocess import RepairTask, repair_sample
from instaseg.stages.results.instances import LABELLED, REPAIRED
from instaseg.stages.stored import stored_fingerprint

SHAPE = (20, 30)


@pytest.fixture
def task(tmp_path):
    rng = np.random.default_rng(0)
    labels = (rng.random(SHAPE) < 0.5).astype(np.uint16) * 3
    path, raw = tmp_path / "a.zarr", tmp_path / "image.zarr"
    write_array(path, LABELLED, labels)
    write_array(raw, "volumes/raw", rng.integers(0, 99, SHAPE).astype(np.uint8))
    return RepairTask(
        sample=Sample("a", Source(raw, "volumes/raw"), None, None, (2.0, 0.5), ("um", "um")),
        path=path,
        prediction=tmp_path / "prediction.zarr",
        method=MethodSpec(PatchesSettings(patch_shape=(5, 5)), ModelSettings(), DataSettings()),
        settings=PostprocessingSettings(components="largest", fill_holes="per_instance"),
        fingerprint="f",
    )


def result(task):
    with Pool(Workers()) as pool:
        repair_sample(task, pool)
    return read_whole(open_array(task.path, REPAIRED))


def test_blocks_are_taken_where_they_are_asked_for_or_needed(task, monkeypatch):
    at_once = result(task)
    calls = []
    in_blocks = postprocess.postprocess_blocks

    def counted(*arguments, **named):
        calls.append(named["work"].block_shape)
        in_blocks(*arguments, **named)

    monkeypatch.setattr(postprocess, "postprocess_blocks", counted)
    for block_shape in ((20, 30), (8, 30), (7, 7)):
        np.testing.assert_array_equal(result(replace(task, block_shape=block_shape)), at_once)
    monkeypatch.setattr(sizes, "MOST_AT_ONCE", 599)
    np.testing.assert_array_equal(result(task), at_once)
    assert calls == [(8, 30), (7, 7), (4096, 4096)]
    assert stored_fingerprint(task.path, REPAIRED) == "f"
    assert list_arrays(task.path) == [REPAIRED, LABELLED]


@pytest.mark.parametrize("block_shape", [None, (7, 11)])
def test_the_table_lies_beside_the_instances(task, block_shape):
    settings = PostprocessingSettings(measure=["area"], remove_where=[["area > 1e9"]])
    task = replace(task, settings=settings, block_shape=block_shape)
    assert not task.is_done()
    labels = result(task)
    assert task.is_done()
    with (task.path.parent / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    # a voxel is 2 x 0.5 um
    assert row["area"] == str((labels > 0).sum())
    assert row["comment"] == "kept"
    task.table.unlink()
    assert not task.is_done()
    assert not replace(task, fingerprint="g").is_done()
    # where nothing is measured any more, no old table stays
    result(task)
    result(replace(task, settings=PostprocessingSettings()))
    assert not task.table.exists()


def test_a_table_never_stands_beside_instances_that_are_not_its_own(task, monkeypatch):
    first = replace(task, settings=PostprocessingSettings(measure=["area"]))
    result(first)
    assert first.is_done()
    second = PostprocessingSettings(measure=["perimeter"])
    with monkeypatch.context() as patch:
        patch.setattr(postprocess, "write_array", interrupt)
        with pytest.raises(KeyboardInterrupt):
            result(replace(task, settings=second, fingerprint="g"))
    assert "perimeter" in first.table.read_text()
    assert not first.is_done()


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_instances_of_other_numbers_are_repaired_from_the_start(task, monkeypatch):
    """Labelled once more, in other blocks, the same instances may have other numbers."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:18, 2:28] = 1
    write_array(task.path, LABELLED, labels)
    settings = PostprocessingSettings(refine=["erode 0.6"], relabel="keep")
    task = replace(task, settings=settings, block_shape=(7, 11))
    change, done = pipeline._change_block, []

    def failing(one):
        if len(done) == 2:
            interrupt()
        done.append(change(one))

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_change_block", failing)
        with pytest.raises(KeyboardInterrupt):
            result(task)
    assert task.blocks.is_dir()
    write_array(task.path, LABELLED, labels * 2)
    assert set(np.unique(result(task))) == {0, 2}
    assert not task.blocks.exists()


@pytest.mark.parametrize("block_shape", [None, (7, 11)])
@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_instances_grow_in_a_head_of_the_prediction(task, dtype, block_shape):
    labels, foreground = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, bool)
    labels[3, 3], labels[3, 25] = 1, 2
    foreground[3, 2:27], foreground[10:12, 4:6] = True, True
    margin = np.pad(foreground, 2, constant_values=True)  # half a patch, mirrored in truth
    stored = np.where(margin, 0.9, 0.2) * (255 if dtype == np.uint8 else 1)
    write_array(task.path, LABELLED, labels)
    write_array(task.prediction, "volumes/pred_fgbg", stored.astype(dtype)[None])
    voronoi = {"head": "fgbg", "threshold": 0.5, "without_instance": "new"}
    task = replace(task, settings=PostprocessingSettings(voronoi=voronoi), block_shape=block_shape)
    grown = result(task)
    assert (grown > 0).tolist() == foreground.tolist()
    assert grown[3, 2:27].tolist() == [1] * 13 + [2] * 12
    assert (grown[10:12, 4:6] == 3).all()
    # the filters of the prediction count here too: a line of one pixel is gone
    task = replace(task, settings=task.settings.model_copy(update={"median": ("xy 3",)}))
    assert not result(task)[3, 5:24].any()


@pytest.mark.parametrize("block_shape", [None, (7, 11)])
def test_a_region_of_interest_is_scaled_to_the_image(task, block_shape):
    write_array(task.path, LABELLED, np.ones(SHAPE, np.uint8))
    write_array(task.sample.raw.path, "volumes/roi", np.array([[[0, 7, 0], [0, 0, 0]]], np.uint8))
    settings = PostprocessingSettings(roi_key="volumes/roi")
    wanted = np.zeros(SHAPE, int)
    wanted[:10, 10:20] = 1
    found = result(replace(task, settings=settings, block_shape=block_shape))
    assert found.tolist() == wanted.tolist()


def test_through_the_command_line(experiment, run):
    changes = (
        *("--set", "postprocessing.median=['xy 3']"),
        *("--set", "postprocessing.refine=['remove_small 5']"),
        *("--set", "postprocessing.voronoi.head=fgbg", "--set", "postprocessing.voronoi.most=3"),
        *("--set", "postprocessing.measure=['circularity']"),
        *("--set", "postprocessing.remove_where=[['area < 30']]"),
    )
    words = ("--do", "label", "postprocess", "evaluate", "-id", experiment, *changes)
    done = run(*words)
    assert done.code == 0, done.err
    tables = sorted((experiment / "test" / "instances").rglob("*.csv"))
    assert len(tables) == 3
    for table in tables:
        with table.open() as file:
            rows = list(csv.DictReader(file))
        labels = read_whole(open_array(table.with_suffix(".zarr"), REPAIRED))
        left = {int(row["result_label"]) for row in rows if row["comment"] == "kept"}
        assert left == set(np.unique(labels[labels > 0]).tolist())
        assert all(float(row["area"]) < 30 for row in rows if row["conditions"] == "area < 30")
    again = run(*words)
    assert "label: 3 of 3 samples done, skipped" in again.err
    assert "postprocess: 3 of 3 samples done, skipped" in again.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("median=['z 3']", 'median: must be "xy SIZE" for images of 2 axes; got "z 3"'),
        ("measure=['volume']", '"volume" is not measured in images of 2 axes; did you mean "area"'),
        ("voronoi.head=fgb", "head: must be a head of the method, affs, fgbg; got fgb"),
        ("roi_key=volumes/roi", "expected an image 2227fd in the folder"),
    ],
)
def test_what_does_not_fit_is_found_before_any_work(experiment, run, change, message):
    done = run(
        *("--do", "label", "postprocess", "-id", experiment),
        *("--set", f"postprocessing.{change}"),
    )
    assert done.code == 2
    assert message in done.err
