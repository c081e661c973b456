import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes

from instaseg.errors import DataError
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.scene import without_units


def repaired(instances, ndim, relabel="keep", **options):
    """Return instances after one step, with the labels they had."""
    return postprocess(
        instances, PostprocessingSettings(relabel=relabel, **options), without_units(ndim)
    )


def fill_holes(instances, *, ndim):
    return repaired(instances, ndim, fill_holes="per_instance")


def keep_largest_component(instances, *, ndim):
    return repaired(instances, ndim, components="largest")


def remove_small(instances, largest_removed, *, ndim):
    return repaired(instances, ndim, remove_small_comps=largest_removed)


def relabel_sequential(instances, *, ndim):
    return repaired(instances, ndim, "sequential")


def image(*rows):
    return np.array([[int(letter) for letter in row] for row in rows], np.uint16)


RING = image(
    "5555500",
    "5000500",
    "5020507",
    "5000500",
    "5555500",
)
FILLED = image(
    "5555500",
    "5555500",
    "5525507",
    "5555500",
    "5555500",
)


def test_only_background_of_a_hole_is_filled():
    before = RING.copy()
    assert fill_holes(RING, ndim=2).tolist() == FILLED.tolist()
    assert (before == RING).all()


def test_a_hole_in_a_hole_goes_to_the_inner_instance():
    labels = np.zeros((9, 9), np.int64)
    labels[:] = 9  # the outer instance has the larger label, then the smaller one
    labels[1:8, 1:8] = 0
    labels[2:7, 2:7] = 4
    labels[3:6, 3:6] = 0
    for outer, inner in ((9, 4), (1, 4)):
        filled = fill_holes(np.where(labels == 9, outer, labels), ndim=2)
        expected = np.full((9, 9), outer)
        expected[2:7, 2:7] = inner
        assert filled.tolist() == expected.tolist()


def test_a_bay_at_the_border_is_no_hole():
    labels = image("33333", "30003", "30003")
    assert fill_holes(labels, ndim=2).tolist() == labels.tolist()


def test_holes_in_volumes_and_channels():
    volume = np.ones((3, 3, 3), np.uint8)
    volume[1, 1, 1] = 0
    assert (fill_holes(volume, ndim=3) == 1).all()
    # as channels of 2-D instances only the middle one has a hole
    assert fill_holes(volume, ndim=2)[1].tolist() == np.ones((3, 3)).tolist()
    assert fill_holes(volume.astype(bool), ndim=3).dtype == bool
    assert fill_holes(volume.astype(bool), ndim=3).all()


def test_holes_of_volumes_are_those_of_scipy():
    # fill_voids 2.1 alone fills (0, 0, 1) of this one too, which lies on the border
    rows = [["101101", "010111"], ["110110", "011101"], ["010110", "111001"]]
    known = np.array([[[int(n) for n in row] for row in plane] for plane in rows], bool)
    rng = np.random.default_rng(0)
    for mask in [known, *(rng.random((5, 4, 6)) < 0.75 for _ in range(60))]:
        wanted = binary_fill_holes(mask)
        np.testing.assert_array_equal(fill_holes(mask, ndim=3), wanted)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_repaired_as_an_image(axis):
    rng = np.random.default_rng(axis)
    for step in (
        {"fill_holes": "per_instance"},
        {"refine": ("fill_holes",)},
        {"refine": ("clear_border",)},
        {"components": "largest"},
        {"repair_size": 9},
    ):
        for labels in (RING, *(rng.integers(0, 3, (9, 8)) * (rng.random((9, 8)) < 0.8),) * 4):
            wanted = repaired(labels, 2, **step)
            found = repaired(np.expand_dims(labels, axis), 3, **step)
            np.testing.assert_array_equal(found.squeeze(axis), wanted)


def test_one_slice_has_holes_and_a_border_of_its_own():
    labels = np.where(RING == 2, 0, RING)
    filled = np.where(FILLED == 2, 5, FILLED)
    assert fill_holes(labels[np.newaxis], ndim=3)[0].tolist() == filled.tolist()
    left = repaired(RING[np.newaxis], 3, refine=("clear_border",))
    assert left[0].tolist() == np.where(RING == 2, 2, 0).tolist()
    line = np.array([[1, 0, 1, 2, 1, 0, 1]])
    assert fill_holes(line, ndim=2).tolist() == line.tolist()


def test_a_slice_of_a_thick_volume_has_no_holes():
    volume = np.stack([RING * 0, RING, RING * 0])
    assert fill_holes(volume, ndim=3).tolist() == volume.tolist()


def test_a_channel_fills_without_regard_to_others():
    channels = np.stack([RING * (RING == 5), RING * (RING == 2)])
    assert (fill_holes(channels, ndim=2)[0, 1:4, 1:4] == 5).all()


def test_largest_component_per_instance():
    labels = image(
        "1100220",
        "1000022",
        "0010000",
        "3003300",
    )
    # 1: three and one; 2: four touching by a corner; 3: one and two
    expected = image(
        "1100220",
        "1000022",
        "0000000",
        "0003300",
    )
    assert keep_largest_component(labels, ndim=2).tolist() == expected.tolist()


def test_of_equal_components_the_first_stays():
    assert keep_largest_component(image("1011", "1000"), ndim=2).tolist() == [
        [1, 0, 0, 0],
        [1, 0, 0, 0],
    ]


def test_largest_component_of_channels_and_volumes():
    channels = np.zeros((2, 1, 5), bool)
    channels[0, 0] = [1, 1, 0, 1, 0]
    channels[1, 0] = [1, 0, 1, 1, 1]
    assert keep_largest_component(channels, ndim=2).tolist() == [
        [[1, 1, 0, 0, 0]],
        [[0, 0, 1, 1, 1]],
    ]
    volume = np.zeros((2, 2, 4), np.int32)
    volume[0, 0, 0] = volume[1, 1, 1] = volume[0, 0, 3] = 8
    assert keep_largest_component(volume, ndim=3).tolist() == (volume * [1, 1, 1, 0]).tolist()


def test_small_instances_go():
    assert remove_small(RING, 1, ndim=2).tolist() == np.where(RING == 5, 5, 0).tolist()
    assert remove_small(RING, 0, ndim=2).tolist() == RING.tolist()
    assert not remove_small(RING, 16, ndim=2).any()
    same_label = np.array([[[1, 1, 0]], [[0, 0, 1]]], bool)
    assert remove_small(same_label, 1, ndim=2).tolist() == [[[1, 1, 0]], [[0, 0, 0]]]


def test_numbering_follows_channel_then_label():
    assert relabel_sequential(image("9909", "4400"), ndim=2).tolist() == [
        [2, 2, 0, 2],
        [1, 1, 0, 0],
    ]
    channels = np.array([[[1, 1, 0]], [[0, 0, 0]], [[0, 1, 1]]], bool)
    numbered = relabel_sequential(channels, ndim=2)
    assert numbered.tolist() == [[[1, 1, 0]], [[0, 0, 0]], [[0, 2, 2]]]
    assert numbered.dtype == np.uint8


def test_numbers_that_do_not_fit_get_a_larger_type():
    channels = np.ones((300, 1, 1), np.uint8)
    numbered = relabel_sequential(channels, ndim=2)
    assert numbered.dtype == np.uint16
    assert numbered.ravel().tolist() == list(range(1, 301))


def test_the_order_of_all_repairs():
    labels = image(
        "6666060",  # the debris at (0, 5) goes first
        "6006000",  # then the hole is filled: 12 voxels
        "6666022",  # 2 has two voxels and goes
    )
    settings = PostprocessingSettings(
        components="largest", fill_holes="per_instance", remove_small_comps=11
    )
    before = labels.copy()
    assert postprocess(labels, settings, without_units(2)).tolist() == [[1, 1, 1, 1, 0, 0, 0]] * 3
    assert (before == labels).all()


def test_nothing_to_do_returns_a_copy():
    settings = PostprocessingSettings(relabel="keep")
    result = postprocess(RING, settings, without_units(2))
    assert result.tolist() == RING.tolist()
    assert not np.shares_memory(result, RING)


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 4), (2, 4, 4), (0, 4)])
def test_empty_arrays(shape):
    settings = PostprocessingSettings(
        components="largest", fill_holes="per_instance", remove_small_comps=3
    )
    result = postprocess(np.zeros(shape, np.uint8), settings, without_units(2))
    assert result.shape == shape
    assert not result.any()


@pytest.mark.parametrize(
    ("array", "ndim", "message"),
    [
        (np.zeros((2, 2)), 2, "labels must be integers; got float64"),
        (np.array([[-1]]), 2, "labels must not be negative; found -1"),
        (np.zeros((2, 2), int), 3, r"with 3 spatial axes \(2 or 3\); got shape \(2, 2\)"),
    ],
)
def test_bad_instances(array, ndim, message):
    with pytest.raises(DataError, match=message):
        postprocess(array, PostprocessingSettings(), without_units(ndim))


def test_parts_of_masks_of_even_height_and_odd_width_are_told_apart():
    mask = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    kept = keep_largest_component(mask, ndim=2)
    assert kept.tolist() == [[False, False, True, True, False], [False] * 5]
    for seed in range(5):
        noise = np.random.default_rng(seed).random((100, 101)) < 0.3
        as_numbers = keep_largest_component(noise.astype(np.uint8), ndim=2)
        assert keep_largest_component(noise, ndim=2).tolist() == (as_numbers > 0).tolist()
