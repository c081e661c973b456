import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.deep_watershed.config import DeepWatershedSettings, LabelSettings
from instaseg.methods.deep_watershed.decoding import (
    Evidence,
    direction_errors,
    fill_small_holes,
    find_instances,
    find_seeds,
    instance_scores,
    keep,
    read_depth,
)
from instaseg.methods.deep_watershed.targets import make_targets
from instaseg.metrics import score_instances

EDGES = DeepWatershedSettings().edges


def perfect(layers, *, wall_width=None):
    """Return the evidence of a network that is always right."""
    made = make_targets(layers, (1,) * (layers.ndim - 1), edges=EDGES, wall_width=wall_width)
    depth = np.concatenate([[0], EDGES]).astype(np.float32)[made.levels]
    return Evidence(depth, (made.classes > 0).astype(np.float32), made.directions)


def decode(evidence, **values):
    spacing = (1,) * evidence.depth.ndim
    return find_instances(evidence, LabelSettings(**values), spacing)[0]


def row(depth):
    depth = np.array([depth], np.float32)
    return Evidence(depth, (depth > 0).astype(np.float32))


def test_depth_of_certain_levels_is_the_last_edge_exceeded():
    levels = np.array([[0, 1, 3]])
    ordinal = np.stack([levels > k for k in range(3)]).astype(np.float16)
    classes = np.stack([levels == k for k in range(4)]).astype(np.float16)
    for stored, kind in ((ordinal, "ordinal"), (classes, "classes")):
        depth = read_depth(stored, (0.5, 1.2, 1.7), kind)
        assert depth.tolist() == [[0, 0.5, np.float32(1.7)]]


def test_uncertain_depth_lies_between():
    levels = np.array([[1.0], [0.5], [0.25]])
    assert read_depth(levels, (1.0, 2.0, 4.0), "ordinal")[0] == 1 + 0.5 * 1 + 0.25 * 2


def test_a_cut_separates_and_growing_gives_the_rim_back():
    labels = decode(row([0, 1, 2, 3, 2, 1, 1, 2, 3, 1, 0]), cut=1.0)
    assert labels.tolist() == [[0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0]]


def test_without_growing_the_rim_is_lost():
    labels = decode(row([0, 1, 2, 3, 2, 1, 1, 2, 3, 1, 0]), cut=1.0, grow="none")
    assert labels.tolist() == [[0, 0, 1, 1, 1, 0, 0, 2, 2, 0, 0]]


def test_growing_stays_in_the_foreground_and_within_its_reach():
    depth = np.array([[3, 1, 1, 1, 1, 0, 1]], np.float32)
    evidence = Evidence(depth, np.array([[1, 1, 1, 1, 1, 0, 1]], np.float32))
    for how in ("flood", "nearest"):
        assert decode(evidence, cut=2.0, grow=how).tolist()[0][:6] == [1, 1, 1, 1, 1, 0]
        assert decode(evidence, cut=2.0, grow=how, grow_most=2.0).tolist() == [
            [1, 1, 1, 0, 0, 0, 0]
        ]
    assert decode(evidence, cut=2.0, grow="flood")[0, 6] == 0  # nothing leads there


def test_published_dilation_goes_beyond_the_foreground_and_later_labels_win():
    evidence = row([3, 0, 3, 0, 0])
    labels = decode(evidence, cut=2.0, grow="dilate", neighbours="all")
    assert labels.tolist() == [[1, 2, 2, 2, 0]]


def test_a_second_cut_splits_what_falls_apart_and_keeps_what_is_shallow():
    evidence = row([0, 3, 5, 3, 5, 3, 0, 2, 0])
    assert decode(evidence, cut=1.0).max() == 2
    labels = decode(evidence, cut=1.0, seed_cut=4.0)
    assert labels.tolist() == [[0, 1, 1, 1, 2, 2, 0, 3, 0]]


def test_cuts_have_to_ascend():
    with pytest.raises(ValueError, match=r"seed_cut must be larger than cut \(2\); got 1.5"):
        LabelSettings(cut=2.0, seed_cut=1.5)


def test_small_parts_are_dropped_before_growing():
    evidence = row([1, 2, 1, 0, 1, 2, 2, 1])
    assert decode(evidence, cut=1.0, min_size=2).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_foreground_without_depth_is_kept_where_asked_for():
    evidence = row([1, 1, 0, 1, 2, 1])
    assert decode(evidence, cut=1.0).tolist() == [[0, 0, 0, 1, 1, 1]]
    assert decode(evidence, cut=1.0, unseeded="keep").tolist() == [[2, 2, 0, 1, 1, 1]]


def test_holes_up_to_a_size_are_filled():
    mask = np.ones((7, 9), bool)
    mask[2, 2] = mask[4, 5:8] = False
    assert (~fill_small_holes(mask, 1)).sum() == 3
    assert fill_small_holes(mask, 3).all()
    assert fill_small_holes(mask, 0) is mask


def test_scores_are_mean_margins():
    labels = np.array([[1, 1, 2, 0]], np.int32)
    probability = np.array([[1.0, 0.75, 0.3, 0.9]], np.float32)
    assert instance_scores(labels, probability).tolist() == [0.75, 0]
    evidence = Evidence(np.full((1, 4), 3, np.float32) * (labels > 0), probability)
    assert decode(evidence, cut=1.0, fg_threshold=0.2).max() == 1
    assert decode(evidence, cut=1.0, fg_threshold=0.8, min_score=0.99).max() == 1
    assert not decode(evidence, cut=1.0, fg_threshold=0.2, min_score=0.99).any()


def test_labels_that_are_kept_are_numbered_anew():
    labels = np.array([[1, 2, 3, 0]], np.int32)
    assert keep(labels, np.array([False, True, True])).tolist() == [[0, 1, 2, 0]]


def test_directions_tell_a_wrong_merge_from_a_right_instance():
    truth = np.zeros((1, 30, 60), np.int32)
    truth[0, 5:25, 5:20], truth[0, 5:25, 20:35], truth[0, 5:25, 40:55] = 1, 2, 3
    evidence = perfect(truth)
    merged = np.where(truth[0] == 2, 1, np.where(truth[0] == 3, 2, truth[0])).astype(np.int32)
    errors = direction_errors(merged, evidence.directions, (1, 1))
    assert errors[0] > 0.2
    assert errors[1] < 1e-6
    shallow = Evidence(
        np.where(merged > 0, 3, 0).astype(np.float32), evidence.foreground, evidence.directions
    )
    assert decode(shallow, cut=1.0).max() == 2
    assert decode(shallow, cut=1.0, max_direction_error=0.2).max() == 1


@given(st.integers(0, 10**6), st.sampled_from(["flood", "nearest"]))
@settings(max_examples=15)
def test_perfect_predictions_give_the_cells_back(cells, seed, how):
    shape = (140, 150)
    truth = cells.as_layers(cells.draw_cells("shsy5y", seed, shape=shape, overlaps=False), shape)
    found = decode(perfect(truth), grow=how, min_size=5)
    scores = score_instances(truth, found, ndim=2, centre_lines="skip")["confusion_matrix"]
    assert scores["avS10"] >= 0.98


@pytest.mark.parametrize(("kind", "least"), [("cort", 0.995), ("shsy5y", 0.98), ("astro", 0.985)])
def test_ceilings_of_overlapping_cells(cells, kind, least):
    """The full table is made by benchmarks/decoding_ceilings.py."""
    truth = cells.as_layers(cells.draw_cells(kind, 0), cells.SHAPE)
    ours = decode(perfect(truth), cut=1.0, min_size=10)
    published = decode(perfect(truth, wall_width=5), cut=1.0, grow="dilate", neighbours="all")
    ours, published = (
        score_instances(truth, found[None], ndim=2, centre_lines="skip")["confusion_matrix"][
            "avS10"
        ]
        for found in (ours, published)
    )
    assert ours >= least
    assert ours > published + 0.05


def test_a_volume_of_one_section_is_decoded_as_the_image(cells):
    shape = (60, 70)
    truth = cells.as_layers(cells.draw_cells("astro", 3, shape=shape), shape)
    flat = perfect(truth)
    deep = Evidence(flat.depth[None], flat.foreground[None])
    for how in ("flood", "nearest", "dilate"):
        assert np.array_equal(decode(flat, grow=how), decode(deep, grow=how)[0])


def test_an_image_without_cells_has_no_instances():
    nothing = Evidence(
        np.zeros((8, 9), np.float32), np.zeros((8, 9), np.float32), np.zeros((2, 8, 9))
    )
    for how in ("flood", "nearest", "dilate", "none"):
        found = decode(nothing, grow=how, unseeded="keep", fill_holes=3, max_direction_error=0.5)
        assert found.dtype == np.int32
        assert not found.any()


def test_evidence_is_not_changed(cells):
    evidence = perfect(cells.as_layers(cells.draw_cells("cort", 3, shape=(60, 70)), (60, 70)))
    copies = evidence.depth.copy(), evidence.foreground.copy(), evidence.directions.copy()
    decode(evidence, fill_holes=5, grow_most=3.0, max_direction_error=1.0, seed_cut=4.0)
    for before, after in zip(
        copies, (evidence.depth, evidence.foreground, evidence.directions), strict=True
    ):
        assert np.array_equal(before, after)


def test_an_image_is_decoded_in_milliseconds(cells):
    """20 ms of processor time for 256 x 256 pixels, taken three times as long for slow machines."""
    shape = (256, 256)
    evidence = perfect(cells.as_layers(cells.draw_cells("shsy5y", 0, shape=shape), shape))
    noisy = Evidence(
        evidence.depth + np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32),
        evidence.foreground,
        evidence.directions,
    )
    spent = []
    for _ in range(6):
        begin = time.process_time()
        decode(noisy, cut=1.0, min_size=10)
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.06


def test_seeds_are_numbered_by_their_first_voxel():
    depth = np.array([[0, 2, 0], [2, 0, 2]], np.float32)
    seeds = find_seeds(depth, depth > 0, LabelSettings(cut=1.0))
    assert seeds.tolist() == [[0, 1, 0], [2, 0, 3]]
