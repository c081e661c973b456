import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import skeletonize

from instaseg.metrics.centre_lines import (
    best_truth,
    centre_line_dice,
    centre_lines,
    coverage,
    share_inside,
    splits_and_merges,
)
from instaseg.metrics.overlaps import Pairs, Voxels, find_instances, hits


def everything(instances):
    """Return number + 1 of all instances, ``(n, [z,] y, x)``."""
    return instances.read(tuple(slice(0, n) for n in instances.shape))


def pairs_of(matrix):
    matrix = np.asarray(matrix, float)
    rows, columns = np.nonzero(matrix)
    return Pairs(rows, columns, matrix[rows, columns], matrix.shape)


def plain_lines(array, ndim):
    """Thin every instance in the whole volume; one voxel where nothing is left."""
    found = find_instances(array, ndim=ndim)
    lines = []
    for number in range(len(found)):
        mask = everything(found)[found.channel[number]] == number + 1
        line = skeletonize(mask)
        lines.append(set(np.flatnonzero(line)) if line.any() else None)
    return found, lines


@pytest.mark.parametrize("ndim", [2, 3])
@settings(max_examples=40)
@given(data=st.data())
def test_thinned_together_as_if_alone(ndim, data):
    # scikit-image thins a volume of one plane as if it were 2-D, so two planes at least
    shape = data.draw(st.tuples(*[st.integers(ndim - 1, 9)] * ndim))
    array = data.draw(hnp.arrays(np.uint8, (2, *shape), elements=st.integers(0, 2)))
    found, expected = plain_lines(array, ndim)
    lines = centre_lines(found)
    for number, line in enumerate(expected):
        ours = set(lines.position[lines.instance == number])
        assert len(ours) == lines.sizes[number] > 0
        assert ours == line or (line is None and len(ours) == 1)


def test_many_sizes_share_canvases(monkeypatch):
    monkeypatch.setattr("instaseg.metrics.centre_lines._CANVAS_VOXELS", 200)
    rng = np.random.default_rng(1)
    array = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((13, 11), int))
    array[rng.random(array.shape) < 0.2] = 0
    found, expected = plain_lines(array, 2)
    lines = centre_lines(found)
    assert [set(lines.position[lines.instance == n]) for n in range(25)] == expected


def test_few_at_a_time_as_all_together(monkeypatch):
    rng = np.random.default_rng(2)
    array = np.kron(np.arange(1, 28).reshape(3, 3, 3), np.ones((6, 7, 5), int))
    array[rng.random(array.shape) < 0.1] = 0
    found, expected = plain_lines(array, 3)
    monkeypatch.setattr("instaseg.metrics.centre_lines._VOXELS_TOGETHER", 500)
    lines = centre_lines(found)
    assert [set(lines.position[lines.instance == n]) for n in range(27)] == expected


def test_a_cube_that_thins_to_nothing_keeps_its_middle():
    cube = np.zeros((4, 4, 4), np.uint8)
    cube[1:3, 1:3, 1:3] = 1
    lines = centre_lines(find_instances(cube, ndim=3))
    assert lines.position.tolist() == [1 * 16 + 1 * 4 + 1]
    assert lines.sizes.tolist() == [1]


def test_dice_is_the_harmonic_mean_and_0_where_one_side_is_0():
    dice = centre_line_dice(pairs_of([[0.5, 0.2], [0, 1]]), pairs_of([[1, 0], [0.3, 1]]))
    assert dice.dense() == pytest.approx(np.array([[2 / 3, 0], [0, 1]]))


def test_background_is_a_candidate_and_wins_ties():
    precision = pairs_of([[0.5, 0.4, 0.3, 0], [0.1, 0.4, 0.3, 0]])
    background = np.array([0.4, 0.2, 0.3, 1.0])
    assert best_truth(precision, background).tolist() == [0, 0, -1, -1]


def test_coverage_is_that_of_the_union_of_the_predictions_of_an_instance():
    # truth: two lines of six; prediction 1 and 2 go to the first, 3 lies mostly elsewhere
    truth = find_instances(np.array([[1] * 6, [0] * 6, [2] * 6]), ndim=2)
    predicted = find_instances(np.array([[1, 1, 0, 2, 2, 3], [0] * 5 + [3], [0] * 5 + [3]]), ndim=2)
    best = np.array([0, 0, -1])
    lines = centre_lines(truth)
    assert lines.sizes.tolist() == [6, 6]
    assert coverage(lines, hits(lines, predicted), best) == pytest.approx([4 / 6, 0])


def count(truth, prediction, lines=None):
    true, predicted = find_instances(truth, ndim=2), find_instances(prediction, ndim=2)
    lines = lines or centre_lines(true)
    inside = hits(lines, predicted)
    overlaps = true.overlapping.any() or predicted.overlapping.any()
    return splits_and_merges(
        lines, inside, share_inside(lines, inside), overlaps="some" if overlaps else "none"
    )


def test_splits_and_merges_without_overlap_are_thresholded():
    truth = np.array([[1] * 10, [0] * 10, [2] * 10])
    split = np.array([[1] * 5 + [2] * 3 + [3] * 2, [0] * 10, [4] * 10])
    merged = np.array([[1] * 10, [1] + [0] * 9, [1] * 10])
    assert count(truth, split) == (2, 0)
    assert count(truth, merged) == (0, 1)
    assert count(truth, truth) == (0, 0)
    # a tenth of the line is a split (above 0.05) but no merge (not above 0.1)
    tenth = np.array([[1] * 10, [1] + [0] * 9, [1] + [2] * 9])
    assert count(truth, tenth) == (1, 0)


def test_explained_voxels_are_consumed_where_instances_overlap():
    # Two true lines that share their middle: a = 0..5, b = 4..9 of a row of ten.
    a, b = np.zeros((1, 10), int), np.zeros((1, 10), int)
    a[0, :6], b[0, 4:] = 1, 1
    truth = np.stack([a, b])
    # The prediction of a covers 0..5 and with it 4, 5 of b: recall 2/6 would be a merge, but
    # these voxels are explained by a. b's own prediction covers 6..9.
    prediction = np.zeros((2, 1, 10), int)
    prediction[0, 0, :6], prediction[1, 0, 6:] = 1, 2
    assert count(truth, prediction) == (0, 0)
    # Without the consumption both errors would be counted.
    flat = np.array([[1] * 6 + [2] * 4])
    lines = centre_lines(find_instances(truth, ndim=2))
    recall = share_inside(lines, hits(lines, find_instances(flat, ndim=2)))
    assert recall.dense() == pytest.approx(np.array([[1, 0], [2 / 6, 4 / 6]]))


def test_one_prediction_over_two_overlapping_lines_is_still_a_merge():
    truth = np.zeros((2, 1, 10), int)
    truth[0, 0, :6], truth[1, 0, 4:] = 1, 1
    prediction = np.ones((1, 10), int)
    assert count(truth, prediction) == (0, 1)


def test_a_voxel_list_can_be_any_part_of_an_instance():
    predicted = find_instances(np.array([[1, 1, 2]]), ndim=2)
    part = Voxels(np.array([1, 2]), np.array([0, 0]), np.array([2]))
    assert share_inside(part, hits(part, predicted)).dense().tolist() == [[0.5, 0.5]]
    first = share_inside(part, hits(part, predicted), np.array([True, False]))
    assert first.dense().tolist() == [[1, 0]]
