import os
import time
import tomllib
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.errors import DataError
from instaseg.io.arrays import open_array, write_array
from instaseg.metrics import score_instances
from instaseg.metrics.config import (
    COUNTS,
    MATCHED_LINES,
    MATCHED_SCORES,
    RATIOS,
    SIZES,
    score_names,
    threshold_key,
)
from instaseg.metrics.summary import value_of


def at(scores, key="th_0_5"):
    return scores["confusion_matrix"][key]


# three true rows of four; predictions: the first exactly, three of four voxels of the second,
# nothing of the third, and one beside everything. IoU: 1, 3/4, -, -
TRUTH = np.array(
    [
        [1, 1, 1, 1, 0],
        [2, 2, 2, 2, 0],
        [3, 3, 3, 3, 0],
    ]
)
PREDICTION = np.array(
    [
        [7, 7, 7, 7, 0],
        [5, 5, 5, 0, 0],
        [0, 0, 0, 0, 9],
    ]
)


def test_worked_out_by_hand():
    scores = score_instances(TRUTH, PREDICTION, ndim=2)
    assert scores["general"]["Num GT"] == 3
    assert scores["general"]["Num Pred"] == 3
    half = at(scores)
    assert (half["AP_TP"], half["AP_FP"], half["AP_FN"]) == (2, 1, 1)
    assert half["precision"] == half["recall"] == half["fscore"] == pytest.approx(2 / 3)
    assert half["AP"] == pytest.approx(4 / 9)
    assert half["S"] == pytest.approx(2 / 4)
    assert (half["false_split"], half["false_merge"]) == (0, 0)
    eighty = at(scores, "th_0_8")
    assert (eighty["AP_TP"], eighty["AP_FP"], eighty["AP_FN"]) == (1, 2, 2)
    assert eighty["S"] == pytest.approx(1 / 5)
    # S: 1/2 at 0.5, 0.6, 0.7; 1/5 at 0.8 and 0.9
    assert scores["confusion_matrix"]["avS"] == pytest.approx((3 / 2 + 2 / 5) / 5)
    # at 0.75, its own IoU, the second pair is no match; so 1/2 at 0.5 ... 0.7 and 1/5 at the rest
    assert scores["confusion_matrix"]["avS10"] == pytest.approx((5 / 2 + 5 / 5) / 10)
    # AP: 4/9 at 0.5 ... 0.7 (five), not at 0.75 itself; then 1/9 five times
    assert scores["confusion_matrix"]["avAP"] == pytest.approx((5 * 4 / 9 + 5 * 1 / 9) / 10)
    assert scores["confusion_matrix"]["avAP19"] == pytest.approx((7 * 4 / 9 + 2 * 1 / 9) / 9)
    assert scores["confusion_matrix"]["avFscore"] == pytest.approx((7 * 2 / 3 + 2 * 1 / 3) / 9)


@pytest.mark.parametrize(
    ("threshold", "counts", "shares"),
    [
        (0.3, (2, 1, 1), (2 / 3, 2 / 3, 2 / 3, 0.5, 0.8, 1.6 / 3, 1.6 / 3)),
        (0.5, (2, 1, 1), (2 / 3, 2 / 3, 2 / 3, 0.5, 0.8, 1.6 / 3, 1.6 / 3)),
        (0.75, (1, 2, 2), (1 / 3, 1 / 3, 1 / 3, 0.2, 1.0, 1 / 3, 1 / 3)),
        (0.99, (1, 2, 2), (1 / 3, 1 / 3, 1 / 3, 0.2, 1.0, 1 / 3, 1 / 3)),
    ],
)
def test_boxes_that_overlap_by_all_by_some_and_not_at_all(threshold, counts, shares):
    truth, prediction = np.zeros((2, 20, 20), int)
    for number, (y, x) in enumerate([(0, 0), (6, 0), (0, 10)], start=1):
        truth[y : y + 4, x : x + 4] = number
    for number, (y, x, side) in enumerate([(0, 0, 4), (7, 0, 4), (15, 15, 3)], start=1):
        prediction[y : y + side, x : x + side] = number
    # intersections over union: 1, 12 / 20, 0
    found = score_instances(truth, prediction, ndim=2, thresholds=[threshold])
    found = at(found, threshold_key(threshold))
    assert tuple(found[name] for name in COUNTS) == counts
    names = ("precision", "recall", "fscore", "S", *MATCHED_SCORES)
    assert [found[name] for name in names] == pytest.approx(shares)


def test_centre_lines_worked_out_by_hand():
    scores = score_instances(TRUTH, PREDICTION, ndim=2)
    # a row of voxels is its own centre line: covered 1, 3/4 and 0
    assert scores["general"]["avg_gt_skel_coverage"] == pytest.approx((1 + 3 / 4 + 0) / 3)
    assert (scores["general"]["FS"], scores["general"]["FM"]) == (0, 0)
    half = at(scores)
    # clDice of the second: precision 1, recall 3/4
    assert half["clDice_TP"] == pytest.approx((1 + 2 * 0.75 / 1.75) / 2)
    assert half["avg_tp_skel_coverage"] == pytest.approx((1 + 3 / 4) / 2)
    expected = (scores["confusion_matrix"]["avFscore"] + (1 + 3 / 4) / 3) / 2
    assert scores["general"]["avg_f1_cov_score"] == pytest.approx(expected)


def test_cldice_as_criterion():
    # clDice 1 and 0.857: both match at 0.8, where by IoU only one does
    scores = score_instances(TRUTH, PREDICTION, ndim=2, criterion="cldice")
    assert at(scores, "th_0_8")["AP_TP"] == 2
    assert at(scores, "th_0_85")["AP_TP"] == 2
    assert at(scores, "th_0_9")["AP_TP"] == 1


def test_a_split_and_a_merge():
    truth = np.array([[1] * 10, [2] * 10, [3] * 10])
    prediction = np.array([[1] * 6 + [2] * 4, [4] * 10, [4] * 10])
    scores = score_instances(truth, prediction, ndim=2)
    half = at(scores)
    # 1 matches (IoU 0.6), 2 is what was split off, 4 covers two instances (IoU 0.5: no match)
    assert (half["AP_TP"], half["AP_FP"], half["AP_FN"]) == (1, 2, 2)
    assert half["false_merge"] == 1
    assert (
        half["false_split"] == 1 + 1
    )  # 2 lies in 1; the unmatched 4 lies in 2 rather than outside
    assert (scores["general"]["FS"], scores["general"]["FM"]) == (1, 1)


def test_overlapping_truth_is_no_merge_where_only_the_overlap_is_covered():
    # b is hidden behind a except for one voxel; the prediction is a
    truth = np.zeros((2, 1, 8), bool)
    truth[0, 0, :6], truth[1, 0, 3:7] = True, True
    prediction = np.array([[1] * 6 + [0, 0]])
    assert at(score_instances(truth, prediction, ndim=2))["false_merge"] == 0


def test_instance_channels_on_either_side():
    crossing = np.zeros((2, 5, 5), np.uint8)
    crossing[0, 2, :] = 1
    crossing[1, :, 2] = 1
    both = score_instances(crossing, crossing[::-1] * 9, ndim=2)
    assert at(both, "th_0_95")["S"] == 1
    flat = score_instances(crossing, crossing[0] + 2 * (crossing[1] & ~crossing[0]), ndim=2)
    assert flat["general"]["Num Pred"] == 2
    assert at(flat, "th_0_75")["AP_TP"] == 2  # 1 and 4/5
    assert at(flat, "th_0_8")["AP_TP"] == 1
    swapped = score_instances(np.array([[1, 0]]), np.array([[[0, 4]], [[4, 0]]]), ndim=2)
    assert at(swapped)["AP_TP"] == 1


def test_volumes():
    truth = np.zeros((3, 4, 4), np.uint16)
    truth[:, :2], truth[:, 3:] = 1, 2
    scores = score_instances(truth, np.where(truth == 1, 6, 0), ndim=3)
    assert at(scores)["S"] == 0.5
    assert scores["general"]["avg_gt_skel_coverage"] == 0.5


def test_partly_labelled_ignores_what_lies_on_background():
    truth = np.array([[1, 1, 1, 1, 0, 0, 0, 0]])
    prediction = np.array([[1, 1, 1, 2, 2, 2, 3, 3]])
    half = at(score_instances(truth, prediction, ndim=2))
    assert (half["AP_TP"], half["AP_FP"], half["AP_FN"]) == (1, 2, 0)
    # 2 lies on the background for the larger part, 3 entirely
    partly = at(score_instances(truth, prediction, ndim=2, partly=True))
    assert (partly["AP_TP"], partly["AP_FP"], partly["AP_FN"]) == (1, 0, 0)
    split = np.array([[1, 1, 1, 2, 2, 0, 0, 0]])  # half of 2: the background wins the tie
    assert at(score_instances(truth, split, ndim=2, partly=True))["AP_FP"] == 0
    split = np.array([[1, 1, 1, 2, 0, 0, 0, 0]])
    assert at(score_instances(truth, split, ndim=2, partly=True))["AP_FP"] == 1


def test_small_predictions_are_left_out():
    scores = score_instances(TRUTH, PREDICTION, ndim=2, remove_small=1)
    assert scores["general"]["Num Pred"] == 2
    assert at(scores)["AP_FP"] == 0
    assert score_instances(TRUTH, PREDICTION, ndim=2, remove_small=3)["general"]["Num Pred"] == 1


EMPTY = np.zeros((3, 5), int)


@pytest.mark.parametrize("criterion", ["iou", "cldice"])
@pytest.mark.parametrize("assignment", ["hungarian", "greedy"])
def test_empty_sides(criterion, assignment):
    def run(truth, prediction):
        return score_instances(
            truth, prediction, ndim=2, criterion=criterion, assignment=assignment
        )

    nothing = run(EMPTY, EMPTY)
    assert np.isnan(nothing["general"]["avg_gt_skel_coverage"])
    assert np.isnan(nothing["general"]["avg_f1_cov_score"])
    for name in (*RATIOS, *MATCHED_SCORES, *MATCHED_LINES):
        assert np.isnan(at(nothing)[name])
    assert np.isnan(nothing["confusion_matrix"]["avS"])
    assert [at(nothing)[name] for name in COUNTS] == [0, 0, 0]
    assert nothing["general"]["Num skipped"] == 1
    for scores, false, missed in ((run(EMPTY, TRUTH), 3, 0), (run(TRUTH, EMPTY), 0, 3)):
        assert (at(scores)["AP_FP"], at(scores)["AP_FN"]) == (false, missed)
        names = [name for name in score_names() if not name.startswith("subsets.")]
        values = [value_of(scores, name) for name in names]
        assert sum(values) == 3 + 14 * 3  # Num GT or Num Pred, and a count at 14 thresholds


def test_plain_python_numbers_under_exactly_the_listed_names():
    scores = score_instances(TRUTH, PREDICTION, ndim=2, thresholds=(0.5, 0.123))
    names = []

    def walk(group, prefix):
        for name, value in group.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                names.append(prefix + name)
                assert type(value) in (int, float)

    walk(scores, "")
    assert sorted(names) == sorted(score_names((0.5, 0.123)))
    assert "confusion_matrix.th_0_123.AP" in names
    skipped = score_instances(TRUTH, PREDICTION, ndim=2, centre_lines="skip")
    assert list(skipped["general"]) == ["Num GT", "Num Pred", "Num skipped"]
    assert at(skipped) == {k: v for k, v in at(scores).items() if k in at(skipped)}


def crossing():
    """Return three true instances, the first two cross, and a flat prediction."""
    truth = np.zeros((3, 5, 5), bool)
    truth[0, 2], truth[1, :, 2], truth[2, 0, :2] = True, True, True
    prediction = np.where(truth[0], 4, np.where(truth[1], 7, 0))
    return truth, prediction


def test_instances_that_overlap_and_dim_ones_on_their_own():
    truth, prediction = crossing()
    scores = score_instances(truth, prediction, ndim=2, dim=[3])
    # a is found exactly, b without the voxel where they cross: IoU and coverage 1 and 4/5
    assert scores["subsets"]["overlapping"] == {
        "Num GT": 2,
        "TP": 2,
        "recall_0_5": 1.0,
        "mean_iou": pytest.approx(0.9),
        "coverage": pytest.approx(0.9),
    }
    dim = scores["subsets"]["dim"]
    assert list(dim.values()) == [1, 0, 0.0, 0.0, 0.0]
    # clDice of b: its own line, and 4 of 5; the intersection over union stays what it is
    lines = score_instances(truth, prediction, ndim=2, dim=[2], criterion="cldice")
    assert lines["subsets"]["dim"]["TP"] == 1
    assert lines["subsets"]["dim"]["mean_iou"] == pytest.approx(0.8)
    skipped = score_instances(truth, prediction, ndim=2, centre_lines="skip")
    assert "coverage" not in skipped["subsets"]["overlapping"]


def test_one_prediction_counts_for_one_of_the_instances_it_covers():
    truth = np.zeros((2, 1, 9), bool)
    truth[0, 0, :5], truth[1, 0, 4:8] = True, True
    scores = score_instances(truth, truth.any(axis=0).astype(int), ndim=2)
    # 5 of 8 voxels are the first's; nothing is left for the second
    assert scores["subsets"]["overlapping"]["mean_iou"] == pytest.approx((5 / 8 + 0) / 2)
    assert scores["subsets"]["overlapping"]["recall_0_5"] == 0.5


def test_dim_instances_of_a_label_image_are_named_by_their_labels():
    found = score_instances(TRUTH * 10, PREDICTION, ndim=2, dim=[20, 30, 99])["subsets"]
    assert (found["dim"]["Num GT"], found["dim"]["TP"]) == (2, 1)
    assert found["dim"]["mean_iou"] == pytest.approx(0.75 / 2)
    assert found["overlapping"]["Num GT"] == 0
    assert np.isnan(found["overlapping"]["recall_0_5"])


def test_small_and_large_instances_on_their_own():
    truth = np.array([[1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 3, 0, 4, 4, 4, 4, 4]])
    prediction = np.where(truth == 2, 0, truth)
    found = score_instances(truth, prediction, ndim=2, size_limits=(2, 4))["subsets"]
    counts = {name: (found[name]["Num GT"], found[name]["TP"]) for name in SIZES}
    assert counts == {"small": (1, 1), "medium": (2, 1), "large": (1, 1)}
    assert found["medium"]["mean_iou"] == 0.5
    assert not set(SIZES) & set(score_instances(truth, prediction, ndim=2)["subsets"])


def test_partly_labelled_truth_changes_nothing_about_what_was_found():
    truth, prediction = crossing()
    prediction[4, 4] = 9
    full = score_instances(truth, prediction, ndim=2)
    partly = score_instances(truth, prediction, ndim=2, partly=True)
    assert (at(full)["AP_FP"], at(partly)["AP_FP"]) == (1, 0)
    assert at(full)["recall"] == at(partly)["recall"]
    assert at(partly)["fscore"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert partly["subsets"]["overlapping"] == full["subsets"]["overlapping"]
    for name in ("avg_gt_skel_coverage", "FS", "FM"):
        assert partly["general"][name] == full["general"][name]


@settings(max_examples=40)
@given(data=st.data(), ndim=st.sampled_from([2, 3]))
def test_arrays_on_disk_score_like_those_in_memory(on_disk, data, ndim):
    def side(name):
        channels = data.draw(st.integers(1, 3), f"channels of {name}")
        return data.draw(hnp.arrays(np.uint8, (channels, *shape), elements=st.integers(0, 3)), name)

    shape = data.draw(st.tuples(*[st.integers(2, 7)] * ndim))
    chunks = data.draw(st.tuples(*[st.integers(1, 4)] * ndim))
    truth, prediction = side("truth"), side("prediction")
    options = {"ndim": ndim, "dim": (1,), "remove_small": 1}
    options["criterion"] = data.draw(st.sampled_from(["iou", "cldice"]))
    whole = score_instances(truth, prediction, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("instaseg.metrics.overlaps._SIDE", {2: 1, 3: 1})
        patch.setattr("instaseg.metrics.centre_lines._VOXELS_TOGETHER", 20)
        parts = score_instances(on_disk(truth, (1, *chunks)), on_disk(prediction), **options)
    np.testing.assert_equal(parts, whole)


def test_seventy_thousand_instances_in_seconds():
    ids = np.arange(1, 265**2 + 1, dtype=np.int32).reshape(265, 265)
    truth = np.kron(ids, np.pad(np.ones((3, 3), np.int32), ((0, 1), (0, 1))))
    begin = time.process_time()
    scores = score_instances(truth, np.roll(truth, 1, axis=1), ndim=2, centre_lines="skip")
    assert time.process_time() - begin < 6  # one, where nothing else runs
    found = at(scores, "th_0_4")  # each moved by a third: 6 / 12
    assert (found["AP_TP"], found["mean_matched_score"]) == (265**2, 0.5)


def test_renumbering_changes_nothing():
    scores = score_instances(TRUTH, PREDICTION, ndim=2)
    other = score_instances(TRUTH * 1000, np.where(PREDICTION, 20 - PREDICTION, 0), ndim=2)
    assert scores == other


def test_inputs_are_not_changed():
    truth, prediction = TRUTH.copy(), PREDICTION.copy()
    score_instances(truth, prediction, ndim=2, remove_small=2, criterion="cldice")
    assert (truth == TRUTH).all()
    assert (prediction == PREDICTION).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "error", "message"),
    [
        (TRUTH, TRUTH[:2], DataError, r"same spatial shape; got \(3, 5\) and \(2, 5\)"),
        (TRUTH.astype(float), TRUTH, DataError, "truth: labels must be integers; got float64"),
        (TRUTH, -TRUTH, DataError, "prediction: labels must not be negative; found -3"),
        (TRUTH, TRUTH[0], DataError, "prediction: expected 2 axes for labels or 3"),
    ],
)
def test_bad_input(truth, prediction, error, message):
    with pytest.raises(error, match=message):
        score_instances(truth, prediction, ndim=2)


def test_bad_settings():
    with pytest.raises(ValueError, match=r"thresholds must be from 0 to below 1; got \[1\.5\]"):
        score_instances(TRUTH, TRUTH, ndim=2, thresholds=[1.5])
    with pytest.raises(ValueError, match="centre_lines must be 'measure' where criterion"):
        score_instances(TRUTH, TRUTH, ndim=2, criterion="cldice", centre_lines="skip")


WORMS = Path(os.environ.get("INSTASEG_DATA", "/nonexistent")) / "bbbc010"


@pytest.mark.skipif(not WORMS.is_dir(), reason="INSTASEG_DATA names no folder with bbbc010")
def test_published_predictions_score_as_published():
    """The authors' label volumes of fold1: PatchPerPix on BBBC010, predictions over 600 pixels."""
    import h5py
    import imageio.v3

    found = []
    for well in tomllib.loads((WORMS / "split.toml").read_text())["fold1"]:
        files = sorted((WORMS / "BBBC010_v1_foreground_eachworm").glob(f"{well}_*.png"))
        truth = np.stack([imageio.v3.imread(file) > 0 for file in files])
        with h5py.File(WORMS / "published_predictions" / f"{well}.hdf") as file:
            prediction = file["vote_instances"][:, 0]
        scores = score_instances(truth, prediction, ndim=2, remove_small=600, centre_lines="skip")[
            "confusion_matrix"
        ]
        keys = ("th_0_5", "th_0_6", "th_0_7", "th_0_8", "th_0_9")
        found.append([*(scores[key]["S"] for key in keys), scores["avS"]])
    expected = [0.9708, 0.9500, 0.9259, 0.8357, 0.3971, 0.8159]
    assert np.mean(found, axis=0).round(4).tolist() == expected


@pytest.mark.parametrize("criterion", ["iou", "cldice"])
def test_scores_of_two_workers_are_those_of_one(tmp_path, criterion):
    rng = np.random.default_rng(4)
    sides = []
    for name in ("truth", "found"):
        channels = np.zeros((2, 60, 70), np.uint8)
        for label in range(1, 14):
            y, x = rng.integers(0, 50, 2)
            channels[label % 2, y : y + 9, x : x + 12] = label
        write_array(tmp_path / "a.zarr", name, channels, chunks=(1, 20, 25))
        sides.append(open_array(tmp_path / "a.zarr", name))
    wanted = score_instances(*sides, ndim=2, criterion=criterion)
    with Pool(Workers(2)) as pool:

        def run(function, tasks, step):
            return pool.run(function, tasks, description=step)

        found = score_instances(*sides, ndim=2, criterion=criterion, run=run)
    assert str(found) == str(wanted)  # texts, for what is not a number equals nothing
