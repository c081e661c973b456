"""Scores of instances by class, worked out by hand."""

import math

import numpy as np
import pytest

from instaseg.metrics import score_instances
from instaseg.metrics.config import instance_class_score_names
from instaseg.metrics.instance_classes import InstanceClasses, pooled_class_scores
from instaseg.metrics.summary import mean_scores, pooled_scores, value_of

# Four true instances of six voxels; the first three are found, with IoU 1, 5/6 and 1.
TRUTH = np.repeat([1, 2, 3, 4], 6).reshape(4, 6)
FOUND = np.array([[10] * 6, [20] * 5 + [0], [30] * 6, [0] * 6])


def scores(truth, prediction, count=2, found=FOUND):
    classes = InstanceClasses(
        {(0, label): one for label, one in truth.items()},
        None if prediction is None else {(0, label): one for label, one in prediction.items()},
        count,
    )
    return score_instances(TRUTH, found, ndim=2, classes=classes)


def test_matches_count_where_the_class_is_right_too():
    of_classes = scores({1: 1, 2: 1, 3: 2, 4: 2}, {10: 1, 20: 2, 30: 2})["classes"]
    assert (of_classes["matched"], of_classes["right"]) == (3, 2)
    assert of_classes["accuracy"] == pytest.approx(2 / 3)
    one, two = of_classes["1"], of_classes["2"]
    assert [one[n] for n in ("Num GT", "Num Pred", "AP_TP", "AP_FP", "AP_FN")] == [2, 1, 1, 0, 1]
    assert [two[n] for n in ("Num GT", "Num Pred", "AP_TP", "AP_FP", "AP_FN")] == [2, 2, 1, 1, 1]
    assert one["panoptic_quality"] == pytest.approx(1 / 1.5)
    assert two["panoptic_quality"] == pytest.approx(1 / 2)
    assert of_classes["mean"]["fscore"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert of_classes["mean"]["S"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_instances_of_unknown_class_and_what_was_found_of_them_do_not_count():
    of_classes = scores({1: 1, 2: 0, 3: 1, 4: 1}, {10: 1, 20: 2, 30: 1})["classes"]
    assert (of_classes["matched"], of_classes["right"]) == (2, 2)
    assert of_classes["1"]["AP_FN"] == 1
    assert of_classes["2"]["Num Pred"] == 0
    assert math.isnan(of_classes["2"]["S"])
    assert of_classes["mean"]["S"] == pytest.approx(2 / 3)


def test_nothing_is_said_of_what_has_no_classes():
    of_classes = scores({1: 1, 2: 1, 3: 2, 4: 2}, None)["classes"]
    names = [name.removeprefix("classes.") for name in instance_class_score_names(2)]
    assert all(math.isnan(value_of(of_classes, name)) for name in names)


def test_every_name_has_a_value():
    found = scores({1: 1, 2: 1, 3: 2, 4: 2}, {10: 1, 20: 2, 30: 2})
    for name in instance_class_score_names(2):
        assert isinstance(value_of(found, name), (int, float))


def test_pooled_scores_are_of_summed_counts():
    first = scores({1: 1, 2: 1, 3: 2, 4: 2}, {10: 1, 20: 2, 30: 2})
    second = scores({1: 1, 2: 1, 3: 1, 4: 1}, {10: 1, 20: 1, 30: 1})
    pooled = pooled_scores([first, second])["classes"]
    assert pooled["1"]["AP_TP"] == 1 + 3
    assert pooled["1"]["S"] == pytest.approx(4 / 6)
    assert pooled["1"]["mean_matched_score"] == pytest.approx((1 + 1 + 5 / 6 + 1) / 4)
    assert pooled["accuracy"] == pytest.approx(5 / 6)
    assert mean_scores([first, second])["classes"]["1"]["S"] == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_pooling_leaves_out_what_has_no_classes():
    first = scores({1: 1, 2: 1, 3: 2, 4: 2}, {10: 1, 20: 2, 30: 2})["classes"]
    blank = scores({1: 1, 2: 1, 3: 2, 4: 2}, None)["classes"]
    assert pooled_class_scores([blank, first]) == pooled_class_scores([first])
    assert math.isnan(pooled_class_scores([blank])["accuracy"])
