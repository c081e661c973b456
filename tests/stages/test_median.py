"""``label`` and validation see predictions after the median filters, whole and in blocks."""

from dataclasses import replace

import numpy as np
import pytest

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.data.config import DataSettings
from instaseg.io.arrays import list_arrays, open_array, write_array
from instaseg.io.samples import Sample, Source, read_whole
from instaseg.methods.build import MethodSpec
from instaseg.methods.patches import patch_targets
from instaseg.methods.patches.config import LabelSettings, PatchesSettings
from instaseg.metrics.config import EvaluationSettings
from instaseg.models.config import ModelSettings
from instaseg.postprocess.config import PostprocessingSettings, median_filter
from instaseg.postprocess.medians import filter_channels
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.scene import without_units
from instaseg.run.sweep import parameter_set
from instaseg.stages.labelling import LabelTask, copy_filtered, label_in_blocks, label_sample
from instaseg.stages.results.instances import LABELLED
from instaseg.stages.results.kind import Subject
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scoring import ValidationTask, read_scores, validate_sample

MEDIANS = (median_filter("xy 3"), median_filter("xy 5"))


@pytest.fixture
def task(tmp_path):
    """Return a task on the true patches of two squares, with noise that filters take away."""
    rng = np.random.default_rng(0)
    labels = np.zeros((24, 30), np.int32)
    labels[4:14, 3:13], labels[12:22, 16:27] = 1, 2
    heads = {
        "affs": patch_targets(np.pad(labels, 2), (5, 5)).astype(np.float16),
        "fgbg": np.pad(labels > 0, 2)[None].astype(np.float16),
    }
    prediction = tmp_path / "p.zarr"
    for name, values in heads.items():
        noisy = np.where(rng.random(values.shape) < 0.03, 1 - values, values)
        write_array(prediction, f"volumes/pred_{name}", noisy, chunks=(len(values), 10, 10))
    return LabelTask(
        sample="a",
        prediction=prediction,
        output=tmp_path / "a.zarr",
        method=MethodSpec(PatchesSettings(patch_shape=(5, 5)), ModelSettings(), DataSettings()),
        parameters=LabelSettings(),
        fingerprint="f",
        medians=MEDIANS,
    )


def test_labels_are_those_of_the_filtered_prediction(task):
    method = task.method.build()
    filtered = {
        head.name: filter_channels(read_whole(open_array(task.prediction, head.key)), MEDIANS)
        for head in method.heads
    }
    (wanted,) = method.label(filtered, [task.parameters])
    label_sample(task)
    np.testing.assert_array_equal(read_whole(open_array(task.output, LABELLED)), wanted)
    assert wanted.max() == 2  # without noise there are two


@pytest.mark.parametrize("block_shape", [(12, 12), (9, 40)])
def test_blocks_label_a_filtered_copy_that_goes_with_them(task, block_shape):
    label_sample(task)
    wanted = read_whole(open_array(task.output, LABELLED))
    with Pool(Workers()) as pool:
        label_in_blocks(task, block_shape, pool)
    np.testing.assert_array_equal(read_whole(open_array(task.output, LABELLED)), wanted)
    assert list(task.output.parent.glob("*.blocks")) == []


def test_the_copy_is_that_of_the_whole_and_is_kept(task, tmp_path):
    heads, copy = task.method.build().heads, tmp_path / "copy.zarr"
    copy_filtered(task.prediction, copy, heads=heads, by=MEDIANS)
    for head in heads:
        wanted = filter_channels(read_whole(open_array(task.prediction, head.key)), MEDIANS)
        np.testing.assert_array_equal(read_whole(open_array(copy, head.key)), wanted)
    assert len(list_arrays(copy)) == 2
    write_array(copy, heads[1].key, np.zeros((1, 2, 2), np.float16))
    copy_filtered(task.prediction, copy, heads=heads, by=MEDIANS)
    assert open_array(copy, heads[1].key).shape == (1, 2, 2)


def test_validation_scores_what_label_and_postprocess_would_give(task, tmp_path):
    path, truth = tmp_path / "image.zarr", np.zeros((24, 30), np.uint8)
    truth[4:14, 3:13], truth[12:22, 16:27] = 1, 2
    write_array(path, "volumes/raw", truth)
    write_array(path, "volumes/gt_labels", truth)
    places = Source(path, "volumes/raw"), Source(path, "volumes/gt_labels")
    sample = Sample("a", *places, None, (1.0, 1.0), ("um", "um"))
    tables = {"vote_instances": LabelSettings(), "evaluation": EvaluationSettings()}
    # two with the same filters, which share their work, and one without between them
    keys = [{"median": ("xy 3", "xy 5")}, {}, {"median": ("xy 3", "xy 5"), "refine": ("erode 2",)}]
    repairs = [PostprocessingSettings(**key) for key in keys]
    outputs = tuple(tmp_path / f"{n}.toml" for n in range(3))
    validate_sample(
        ValidationTask(
            sample=sample,
            prediction=task.prediction,
            method=task.method,
            sets=tuple(parameter_set({**tables, "postprocessing": one}, {}) for one in repairs),
            outputs=outputs,
            fingerprints=("f", "g", "h"),
        )
    )
    found = [read_scores(file, mark) for file, mark in zip(outputs, "fgh", strict=True)]
    for repair, scores in zip(repairs, found, strict=True):
        label_sample(replace(task, medians=repair.medians))
        labels = read_whole(open_array(task.output, LABELLED))
        repaired = postprocess(labels, repair, without_units(2))
        settings = EvaluationSettings().without_unread_scores()
        wanted = RESULTS["instances"].score(
            truth, repaired, Subject(sample, task.method, settings), run_here
        )
        assert scores["confusion_matrix"] == wanted["confusion_matrix"]
    assert found[0]["confusion_matrix"]["avS"] > found[2]["confusion_matrix"]["avS"]
