"""Validation in blocks gives the scores of the whole, and leaves nothing but them."""

from dataclasses import replace

import numpy as np
import pytest

from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.data.config import DataSettings
from instaseg.errors import DataError, StageError
from instaseg.io.arrays import write_array
from instaseg.io.samples import Sample, Source
from instaseg.methods.build import MethodSpec
from instaseg.methods.channels import config as channels
from instaseg.methods.patches import config as patches
from instaseg.methods.patches import patch_targets
from instaseg.metrics.config import EvaluationSettings
from instaseg.models.config import CodeSettings, ModelSettings
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.run.sweep import parameter_set
from instaseg.stages import validation
from instaseg.stages.decoding import decoding_in_label
from instaseg.stages.scoring import ValidationTask, read_scores, validate_sample
from instaseg.stages.sizes import run_by_size

SHAPE = (24, 30)
REPAIRS = (
    {"remove_small_comps": 30},
    {"fill_holes": "per_instance", "measure": ("volume",)},
    {"median": ("xy 3",)},
)


def truth():
    labels = np.zeros(SHAPE, np.int32)
    labels[4:14, 3:13], labels[12:22, 16:27], labels[2:6, 20:24] = 1, 2, 3
    labels[7:9, 6:8] = 0
    return labels


def of_patches(prediction):
    """Write true patches with noise; return the method and its swept tables."""
    rng = np.random.default_rng(0)
    labels = truth()
    heads = {
        "affs": patch_targets(np.pad(labels, 2), (5, 5)).astype(np.float16),
        "fgbg": np.pad(labels > 0, 2)[None].astype(np.float16),
    }
    for name, values in heads.items():
        noisy = np.where(rng.random(values.shape) < 0.03, 1 - values, values)
        write_array(prediction, f"volumes/pred_{name}", noisy, chunks=(len(values), 10, 10))
    swept = [{"patch_threshold": 0.5}, {"patch_threshold": 0.5, "fg_threshold": 0.7}]
    return patches.PatchesSettings(patch_shape=(5, 5)), patches.LabelSettings(), swept


def of_channels(prediction):
    """Write a noisy foreground and contour; return the method and its swept tables."""
    rng = np.random.default_rng(0)
    labels = truth()
    inner = np.zeros(SHAPE, bool)
    inner[1:-1, 1:-1] = np.all(
        [labels[1:-1, 1:-1] == labels[1 + y : 23 + y, 1 + x : 29 + x] for y, x in np.argwhere(
            np.ones((3, 3))) - 1],
        axis=0,
    )  # fmt: skip
    heads = {"foreground": labels > 0, "contour": (labels > 0) & ~inner}
    for name, values in heads.items():
        noisy = np.clip(values + rng.normal(0, 0.1, SHAPE), 0, 1)[None].astype(np.float16)
        write_array(prediction, f"volumes/pred_{name}", noisy, chunks=(1, 10, 10))
    settings = channels.ChannelsSettings(channels=("foreground", "contour"), context=(4,))
    return settings, channels.LabelSettings(), [{}, {"seed_contour": 0.2}]


@pytest.fixture(params=[of_patches, of_channels])
def task(request, tmp_path):
    """Return a task with two ways to label and three to repair."""
    prediction, image = tmp_path / "p.zarr", tmp_path / "image.zarr"
    settings, labelling, swept = request.param(prediction)
    write_array(image, "volumes/raw", truth().astype(np.uint8))
    write_array(image, "volumes/gt_labels", truth().astype(np.uint8))
    places = Source(image, "volumes/raw"), Source(image, "volumes/gt_labels")
    tables = {"vote_instances": labelling, "evaluation": EvaluationSettings()}
    sets = tuple(
        parameter_set(
            {**tables, "postprocessing": PostprocessingSettings(**repair)},
            {f"vote_instances.{key}": value for key, value in chosen.items()},
        )
        for chosen in swept
        for repair in REPAIRS
    )
    return ValidationTask(
        sample=Sample("a", *places, None, (1.0, 1.0), ("um", "um")),
        prediction=prediction,
        method=MethodSpec(settings, ModelSettings(), DataSettings()),
        sets=sets,
        outputs=tuple(tmp_path / "val" / str(n) / "a.toml" for n in range(len(sets))),
        fingerprints=tuple(f"f{n}" for n in range(len(sets))),
    )


def scores(task):
    """Return the texts of all score files, which are then deleted."""
    found = [file.read_text() for file in task.outputs]
    for file in task.outputs:
        file.unlink()
    return found


def run_in_blocks(task):
    with Pool(Workers()) as pool:
        run_by_size(
            pool,
            [task],
            lambda _: (9, 13),
            whole=validate_sample,
            in_blocks=validation.validate_in_blocks,
            description="validate",
        )


def test_scores_in_blocks_are_those_of_the_whole(task):
    validate_sample(task)
    first = read_scores(task.outputs[0], "f0")
    assert first["confusion_matrix"]["avS"] > 0.5
    wanted = scores(task)
    assert len({text.partition("general")[2] for text in wanted}) > 2
    run_in_blocks(task)
    assert {file.name for file in task.outputs[0].parents[1].glob("*/*")} == {"a.toml"}
    assert scores(task) == wanted


def test_what_is_scored_is_removed_after_an_error_too(task, monkeypatch):
    def fails(*_):
        raise DataError("no scores")

    monkeypatch.setattr(validation, "score_set", fails)
    with pytest.raises(StageError, match=r"sample a of .*: no scores"):
        run_in_blocks(replace(task, sets=task.sets[1:2]))
    assert not list(task.outputs[0].parents[1].glob("*/*"))


def test_codes_are_decoded_as_they_are_labelled():
    settings = patches.PatchesSettings(
        patch_shape=(5, 5), prediction="codes", code=CodeSettings(decode="stage")
    )
    spec = MethodSpec(settings, ModelSettings(), DataSettings())
    assert spec.build().labelled_heads[0].name == "affs"
    assert decoding_in_label(spec).build().labelled_heads == spec.build().heads
    other = MethodSpec(patches.PatchesSettings(patch_shape=(5, 5)), ModelSettings(), DataSettings())
    assert decoding_in_label(other) == other


@pytest.mark.parametrize("stage", ["validate_checkpoints", "cross_validate"])
def test_a_score_that_no_sample_has_chooses_nothing(experiment, run, stage):
    before = (experiment / "val" / "best.toml").read_text()
    metric = ("--set", "evaluation.metric=subsets.dim.recall_0_5")
    refused = run("--do", stage, "-id", experiment, *metric)
    assert refused.code == 1
    assert "expected samples that have a value of the score that chooses" in refused.err
    assert "subsets.dim.recall_0_5" in refused.err
    assert (experiment / "val" / "best.toml").read_text() == before
