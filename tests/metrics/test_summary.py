import numpy as np
import pytest

from instaseg.errors import DataError
from instaseg.metrics import score_instances
from instaseg.metrics.config import AVERAGES, MATCHED_SCORES, RATIOS, score_names
from instaseg.metrics.summary import (
    average_scores,
    mean_scores,
    pooled_scores,
    summary_rows,
    value_of,
    worst_samples,
)

# a: one instance, found; b: three instances, one found and one false
A = score_instances(np.array([[1, 1, 0]]), np.array([[1, 1, 0]]), ndim=2)
B = score_instances(np.array([[1, 1, 2, 3, 0, 0]]), np.array([[1, 1, 0, 0, 0, 4]]), ndim=2)
EMPTY = score_instances(np.array([[0]]), np.array([[0]]), ndim=2)
FALSE = score_instances(np.array([[0]]), np.array([[1]]), ndim=2)


def test_mean_over_images():
    mean = mean_scores([A, B])
    assert mean["general"]["Num GT"] == 2
    assert mean["confusion_matrix"]["th_0_5"]["S"] == pytest.approx((1 + 1 / 4) / 2)
    assert mean["confusion_matrix"]["avS"] == pytest.approx((1 + 1 / 4) / 2)
    assert mean["general"]["avg_gt_skel_coverage"] == pytest.approx((1 + 1 / 3) / 2)


def test_pooled_counts():
    pooled = pooled_scores([A, B])
    half = pooled["confusion_matrix"]["th_0_5"]
    assert (half["AP_TP"], half["AP_FP"], half["AP_FN"]) == (2, 1, 2)
    assert half["S"] == pytest.approx(2 / 5)
    assert half["precision"] == pytest.approx(2 / 3)
    assert pooled["confusion_matrix"]["avFscore"] == pytest.approx(4 / 7)
    assert pooled["general"]["Num GT"] == 4
    assert pooled["general"]["avg_gt_skel_coverage"] == pytest.approx(2 / 4)
    assert pooled["general"]["avg_f1_cov_score"] == pytest.approx((4 / 7 + 2 / 4) / 2)
    assert average_scores([A, B], "pooled", pooled_scores) == pooled
    assert average_scores([A, B], "images", pooled_scores) == mean_scores([A, B])


@pytest.mark.parametrize("samples", [[A], [B], [EMPTY], [FALSE]])
def test_one_sample_pools_to_itself_under_the_same_names(samples):
    pooled = pooled_scores(samples)
    for name in score_names():
        assert value_of(pooled, name) == pytest.approx(value_of(samples[0], name), nan_ok=True), (
            name
        )


def test_pooled_equals_the_score_of_both_in_one_image():
    whole = score_instances(
        np.array([[1, 1, 0], [0, 0, 0], [2, 2, 0]]),
        np.array([[1, 1, 0], [0, 0, 0], [0, 0, 3]]),
        ndim=2,
    )
    parts = [
        score_instances(np.array([[1, 1, 0]]), np.array([[1, 1, 0]]), ndim=2),
        score_instances(np.array([[2, 2, 0]]), np.array([[0, 0, 3]]), ndim=2),
    ]
    pooled = pooled_scores(parts)
    for name in score_names():
        assert value_of(pooled, name) == pytest.approx(value_of(whole, name), nan_ok=True), name


def test_an_empty_image_does_not_hide_a_false_one():
    assert pooled_scores([EMPTY, FALSE])["general"]["avg_gt_skel_coverage"] == 0
    assert mean_scores([EMPTY, FALSE])["confusion_matrix"]["avS"] == 0


@pytest.mark.parametrize("average", [mean_scores, pooled_scores])
def test_an_image_that_is_empty_on_both_sides_is_skipped_and_counted(average):
    with_it, without = average([B, EMPTY]), average([B])
    shares = [f"confusion_matrix.{name}" for name in AVERAGES]
    shares += [f"confusion_matrix.th_0_5.{name}" for name in (*RATIOS, *MATCHED_SCORES)]
    shares += ["general.avg_gt_skel_coverage", "general.avg_f1_cov_score"]
    for name in shares:
        assert value_of(with_it, name) == pytest.approx(value_of(without, name)), name
    assert pooled_scores([B, EMPTY, EMPTY])["general"]["Num skipped"] == 2
    assert np.isnan(average([EMPTY, EMPTY])["confusion_matrix"]["avS"])


def test_without_centre_lines():
    skipped = score_instances(np.array([[1]]), np.array([[1]]), ndim=2, centre_lines="skip")
    assert pooled_scores([skipped, skipped])["general"] == {
        "Num GT": 2,
        "Num Pred": 2,
        "Num skipped": 0,
    }


def test_rows_end_with_mean_and_pooled():
    rows = summary_rows(
        {"a": A, "b": B}, ["general.Num GT", "confusion_matrix.th_0_5.S"], pooled_scores
    )
    assert [row["sample"] for row in rows] == ["a", "b", "mean", "pooled"]
    assert [row["general.Num GT"] for row in rows] == [1, 3, 2, 4]
    assert rows[3]["confusion_matrix.th_0_5.S"] == pytest.approx(2 / 5)


def test_worst_samples_and_the_direction_of_scores():
    samples = {"good": A, "bad": B, "also bad": B}
    assert worst_samples(samples, "confusion_matrix.avS", 2) == [("also bad", 0.25), ("bad", 0.25)]
    assert worst_samples(samples, "confusion_matrix.th_0_5.AP_FN", 1) == [("also bad", 2)]
    assert worst_samples(samples, "confusion_matrix.avS", 9)[-1] == ("good", 1.0)


def test_errors():
    with pytest.raises(DataError, match="no scores to average: no sample was evaluated"):
        mean_scores([])
    with pytest.raises(DataError, match=r"no 'general\.Numm': 'Numm' is missing\. Evaluate again"):
        value_of(A, "general.Numm")
    with pytest.raises(DataError, match="'general' is a group of scores, not a number"):
        value_of(A, "general")


def in_channels(*rows):
    return np.array(rows)[:, None]


def test_images_without_instances_of_a_subset_are_left_out_of_its_mean():
    none = score_instances(np.array([[1, 0]]), np.array([[1, 0]]), ndim=2)
    # two that share a voxel, one of them found; three, all of them found
    two = in_channels([1, 1, 1, 0], [0, 0, 1, 1])
    half = score_instances(two, two[0], ndim=2)
    three = in_channels([1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1])
    full = score_instances(three, three, ndim=2)
    name = "subsets.overlapping.recall_0_5"
    assert value_of(mean_scores([none, half, full]), name) == pytest.approx((1 / 2 + 1) / 2)
    pooled = pooled_scores([none, half, full])["subsets"]["overlapping"]
    assert (pooled["Num GT"], pooled["TP"]) == (5, 4)
    assert pooled["recall_0_5"] == pytest.approx(4 / 5)
    # intersection over union 1 and 0, then three times 1
    assert pooled["mean_iou"] == pytest.approx(4 / 5)
    assert pooled["coverage"] == pytest.approx((1 + 3) / 5)
    assert np.isnan(value_of(mean_scores([none, none]), name))
    assert np.isnan(value_of(pooled_scores([none, none]), name))
    samples = {"none": none, "half": half, "full": full}
    assert worst_samples(samples, name, 9) == [("half", 0.5), ("full", 1.0)]


def test_ranking_score_of_fisbe_is_that_of_pooled_counts():
    pooled = pooled_scores([A, B])
    # 2 of 4 found and 1 false at every threshold: F1 = 4/7, not the mean 3/4 of 1 and 1/2;
    # true instances covered: 1 of 1, and 1 of 3
    assert pooled["general"]["avg_f1_cov_score"] == pytest.approx((4 / 7 + 2 / 4) / 2)
    (*_, row) = summary_rows({"a": A, "b": B}, ["general.avg_f1_cov_score"], pooled_scores)
    assert row["general.avg_f1_cov_score"] == pytest.approx((4 / 7 + 2 / 4) / 2)


def test_boundary_scores_are_averaged_over_images():
    exact = score_instances(np.array([[1, 2]]), np.array([[1, 2]]), ndim=2, boundaries="sections")
    merged = score_instances(np.array([[1, 2]]), np.array([[1, 1]]), ndim=2, boundaries="sections")
    empty = score_instances(np.array([[0, 0]]), np.array([[0, 1]]), ndim=2, boundaries="sections")
    for average in (mean_scores, pooled_scores):
        general = average([exact, merged, empty])["general"]
        # two voxels apart, together: 2 * 2 / (2 + 4)
        assert general["rRAND"] == pytest.approx((1 + 4 / 6) / 2)
        assert general["rINF"] == pytest.approx((1 + 0) / 2)
