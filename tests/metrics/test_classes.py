import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.metrics import classes as module
from instaseg.metrics.classes import (
    class_scores,
    count_classes,
    counts_of,
    pooled_class_scores,
    score_classes,
)
from instaseg.metrics.config import class_score_names
from instaseg.metrics.summary import mean_scores, value_of


def square(shape, *box):
    """Return class 1 in rows and columns from, to."""
    classes = np.zeros(shape, np.uint8)
    classes[box[0] : box[1], box[2] : box[3]] = 1
    return classes


TRUE, FOUND = square((8, 8), 2, 6, 2, 6), square((8, 8), 2, 6, 3, 7)


def test_two_squares_by_hand():
    scores = score_classes(TRUE, FOUND, num_classes=2, spacing=(1, 1), boundary_distance=1)
    assert scores["classes"]["1"]["iou"] == 12 / 20
    assert scores["classes"]["1"]["dice"] == 24 / 32
    assert scores["classes"]["1"]["precision"] == scores["classes"]["1"]["recall"] == 0.75
    assert scores["classes"]["0"]["iou"] == 44 / 52
    assert scores["general"]["accuracy"] == 56 / 64
    assert scores["general"]["mean_iou"] == pytest.approx((12 / 20 + 44 / 52) / 2)
    assert scores["general"]["foreground_iou"] == 12 / 20
    assert scores["confusion_matrix"] == {"0": {"0": 44, "1": 4}, "1": {"0": 4, "1": 12}}
    # rings of 12 voxels each that share three voxels above and three below
    assert scores["general"]["boundary_iou"] == 6 / 18


def test_all_names_have_a_value():
    scores = score_classes(TRUE, FOUND, num_classes=3, spacing=(1, 1))
    for name in class_score_names(3):
        assert isinstance(value_of(scores, name), (int, float))


def test_thick_boundaries_are_the_whole_object():
    scores = score_classes(TRUE, FOUND, num_classes=2, spacing=(1, 1), boundary_distance=9)
    assert scores["general"]["boundary_iou"] == scores["general"]["foreground_iou"]


def test_boundaries_are_physical():
    """A voxel twice as long along x: one voxel of boundary along x, two along y."""
    true = square((12, 12), 2, 10, 2, 10)
    wide = score_classes(true, true, num_classes=2, spacing=(1, 2), boundary_distance=2)
    assert wide["classes"]["1"]["boundary_either"] == 64 - 4 * 6


def test_the_end_of_the_image_is_a_boundary():
    full = np.ones((6, 6), np.uint8)
    scores = score_classes(full, full, num_classes=2, spacing=(1, 1), boundary_distance=1)
    assert scores["classes"]["1"]["boundary_shared"] == 20


def test_classes_on_neither_side_are_left_out_and_counted():
    scores = score_classes(TRUE, FOUND, num_classes=4, spacing=(1, 1))
    assert math.isnan(scores["classes"]["3"]["iou"])
    assert scores["general"]["skipped"] == 2
    assert scores["general"]["foreground_iou"] == 12 / 20
    blank = np.zeros((4, 4), np.uint8)
    nothing = score_classes(blank, blank, num_classes=2, spacing=(1, 1))
    assert math.isnan(nothing["general"]["foreground_iou"])
    assert nothing["general"]["mean_iou"] == 1
    ignored = score_classes(np.full((4, 4), -1), blank, num_classes=2, spacing=(1, 1))
    assert math.isnan(ignored["general"]["accuracy"])


def test_ignored_voxels_count_nowhere():
    true = TRUE.astype(np.int16)
    true[:, :3] = -1
    scores = score_classes(true, FOUND, num_classes=2, spacing=(1, 1), boundary_distance=1)
    assert scores["general"]["voxels"] == 40
    assert scores["classes"]["1"]["iou"] == 12 / 16
    # without a truth both sides are the same: no boundary begins at column 3 of the prediction
    # alone, and that of the truth does not lie in the part that is ignored
    assert scores["classes"]["1"]["boundary_shared"] == 8


def test_pooled_scores_are_those_of_one_large_sample():
    other = square((8, 8), 0, 3, 0, 8), square((8, 8), 1, 3, 0, 8)
    arguments = {"num_classes": 2, "spacing": (1, 1), "boundary_distance": 1.0}
    one, two = (score_classes(*pair, **arguments) for pair in ((TRUE, FOUND), other))
    pooled = pooled_class_scores([one, two])
    assert pooled["classes"]["1"]["iou"] == (12 + 16) / (20 + 24)
    assert pooled["general"]["voxels"] == 128
    mean = mean_scores([one, two])
    assert mean["classes"]["1"]["iou"] == pytest.approx((12 / 20 + 16 / 24) / 2)
    assert pooled_class_scores([one]) == one
    again = class_scores(counts_of(one))
    assert again["general"] == one["general"]


@settings(max_examples=25)
@given(data=st.data())
def test_slabs_give_the_counts_of_the_whole(data):
    shape = data.draw(st.sampled_from([(7, 9), (5, 6, 4)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    true, found = rng.integers(-1, 3, shape), rng.integers(0, 3, shape)
    spacing = data.draw(st.sampled_from([(1.0,) * 3, (3.0, 1.0, 2.0)]))[: len(shape)]
    arguments = {"num_classes": 3, "spacing": spacing, "boundary_distance": 2.0}
    whole = count_classes(true, found, **arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "slabs", _rows)
        cut = count_classes(true, found, **arguments)
    assert np.array_equal(whole.confusion, cut.confusion)
    assert np.array_equal(whole.boundary, cut.boundary)
    for number in range(3):
        inside = true >= 0
        both = ((true == number) & (found == number) & inside).sum()
        assert whole.confusion[number, number] == both


def _rows(shape):
    """Yield single rows, or planes."""
    for row in range(shape[0]):
        yield (slice(row, row + 1), *(slice(0, n) for n in shape[1:]))


def test_images_are_volumes_of_one_plane():
    arguments = {"num_classes": 2, "boundary_distance": 1.0}
    flat = score_classes(TRUE, FOUND, spacing=(1, 1), **arguments)
    deep = score_classes(TRUE[None], FOUND[None], spacing=(9, 1, 1), **arguments)
    # every voxel of a single plane lies within its end, but that is farther than 1 away
    assert flat == deep


def test_patches_are_averaged_one_by_one():
    truth = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    found = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    scores = score_classes(truth, found, num_classes=2, spacing=(1, 1), patch_shape=(2, 2))
    # 2 of 4; nothing on either side; only where there is no truth; 1 of 1
    assert (scores["general"]["patches"], scores["general"]["patch_iou"]) == (2, 0.75)
    assert scores["general"]["foreground_iou"] == 3 / 5
    pooled = pooled_class_scores([scores, scores])
    assert (pooled["general"]["patches"], pooled["general"]["patch_iou"]) == (4, 0.75)
    none = score_classes(truth, found, num_classes=2, spacing=(1, 1))
    assert none["general"]["patches"] == 0
    assert math.isnan(none["general"]["patch_iou"])
