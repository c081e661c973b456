"""Quality of predictions, worked out by hand and against the targets of training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instaseg.data.config import DataSettings
from instaseg.methods.patches.config import PatchesSettings
from instaseg.methods.patches.method import PatchesMethod
from instaseg.methods.patches.quality import (
    count_quality,
    foreground_quality,
    patch_quality,
    quality,
    quality_names,
    true_patches,
)
from instaseg.methods.patches.targets import patch_targets
from instaseg.methods.quality import ratios
from instaseg.models.config import ModelSettings

ALL = np.ones((1, 4), bool)


def test_ratios_of_nothing():
    assert set(ratios(0, 0, 0).values()) == {1.0}
    assert set(ratios(0, 2, 0).values()) == {0.0}


@given(arrays(np.int64, (2, 5, 6), elements=st.integers(0, 2)))
@settings(max_examples=40)
def test_true_patches_are_those_of_training(labels):
    instances = np.stack([channel == n for channel in labels for n in (1, 2)])
    alone = np.count_nonzero(labels, axis=0) == 1
    sites = np.nonzero(alone)
    expected = patch_targets(instances, (3, 5), ndim=2)[(slice(None), *sites)]
    np.testing.assert_array_equal(true_patches(labels, sites, (3, 5)), expected)
    np.testing.assert_array_equal(true_patches(instances, sites, (3, 5)), expected)


def test_patches_by_hand():
    """Labels 1 1 2 0 and patches of three voxels: the last of 1 is predicted too long."""
    labels = np.array([[1, 1, 2, 0]])
    true = patch_targets(labels, (1, 3)).astype(np.float16)
    predicted = true.copy()
    predicted[2, 0, 1] = 0.65  # right of the second voxel lies another instance
    predicted[0, 0, 1] = 0.85  # left of it the same one
    scores = patch_quality(predicted, labels[None], labels > 0, patch_shape=(1, 3))
    # true voxels: 2 + 2 + 1 = 5
    assert scores["patch.th_0_5.precision"] == pytest.approx(5 / 6)
    assert scores["patch.th_0_5.recall"] == 1
    assert scores["patch.th_0_5.IoU"] == pytest.approx(5 / 6)
    assert scores["patch.th_0_7.IoU"] == 1
    assert scores["patch.th_0_9.recall"] == pytest.approx(4 / 5)
    assert scores["patch.th_0_9.fscore"] == pytest.approx(8 / 9)


def test_only_the_chosen_voxels_count_and_bytes_are_read():
    labels = np.array([[1, 1, 0, 0]])
    predicted = np.full((3, 1, 4), 255, np.uint8)
    chosen = np.array([[True, False, False, False]])
    scores = patch_quality(predicted, labels[None], chosen, patch_shape=(1, 3))
    assert scores["patch.th_0_9.precision"] == pytest.approx(2 / 3)


def test_codes_are_decoded():
    labels = np.array([[1, 1, 2, 0]])
    true = patch_targets(labels, (1, 3)).astype(np.float32)
    codes = np.arange(4, dtype=np.float16).reshape(1, 1, 4)

    def decode(rows):
        return true[:, 0, rows[0].astype(int)]

    scores = quality(
        {"code": codes, "fgbg": np.float16([[[1, 1, 1, 0]]])},
        labels,
        None,
        patch_shape=(1, 3),
        decode=decode,
    )
    assert set(scores.values()) == {1.0}
    assert set(scores) == set(quality_names(None))


def test_counts_per_number():
    probabilities = np.float32([[0.8, 0.1, 0.1, 0.2], [0.1, 0.8, 0.6, 0.1], [0.1, 0.1, 0.3, 0.7]])
    found = count_quality(probabilities[:, None], np.array([[0, 1, 3, 2]]), ALL)
    assert found == {
        "count.accuracy": 0.75,
        "count.accuracy_0": 1,
        "count.accuracy_1": 1,
        "count.accuracy_2": 0.5,
    }
    some = count_quality(
        probabilities[:, None], np.array([[0, 1, 3, 2]]), ALL & np.array([[1, 1, 0, 0]], bool)
    )
    assert some == {"count.accuracy": 1, "count.accuracy_0": 1, "count.accuracy_1": 1}


def test_unlabelled_background_is_not_counted():
    found, count = np.array([[True, True, False, True]]), np.array([[1, 0, 1, 0]])
    everywhere = foreground_quality(found, count, ALL)
    assert everywhere["foreground.precision"] == pytest.approx(1 / 3)
    known = ALL & np.array([[1, 1, 1, 0]], bool)
    assert foreground_quality(found, count, known)["foreground.precision"] == 0.5


@pytest.mark.parametrize("foreground", ["head", "count", "centre"])
def test_a_perfect_prediction_with_margin_is_perfect(foreground):
    labels = np.zeros((6, 8), np.int32)
    labels[1:4, 1:4], labels[2:6, 4:7] = 1, 2
    method = PatchesMethod(
        PatchesSettings(patch_shape=(3, 3), foreground=foreground),
        model=ModelSettings(),
        data=DataSettings(),
    )
    padded = np.pad(labels, 1, mode="reflect")
    inside = (padded > 0).astype(np.float16)[None]
    heads = {
        "affs": patch_targets(padded, (3, 3)).astype(np.float16),
        "fgbg": inside,
        "numinst": np.concatenate([1 - inside, inside, 0 * inside]),
    }
    prediction = {head.name: heads[head.name] for head in method.heads}
    prediction["affs"] = np.where(padded > 0, heads["affs"], 0)
    # a mirrored instance goes on in the margin; inside the image the truth ends at its border
    prediction["affs"][:, [0, -1]] = 0
    scores = method.prediction_quality(prediction, labels, None)
    assert set(scores) == set(method.quality_names) - {"count.accuracy_2"}
    assert scores["foreground.IoU"] == 1
    assert scores["patch.th_0_5.recall"] == 1
    assert scores.get("count.accuracy", 1) == 1
