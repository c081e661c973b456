import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from instaseg.geometry import flips, plane_rotations_and_flips
from instaseg.methods.deep_watershed.config import DeepWatershedSettings
from instaseg.methods.deep_watershed.method import DirectionHead
from instaseg.methods.deep_watershed.targets import (
    CELL,
    WALL,
    find_directions,
    find_levels,
    find_walls,
    make_targets,
    paint,
)

EDGES = DeepWatershedSettings().edges


def square(shape, begin, side):
    mask = np.zeros(shape, bool)
    mask[begin[0] : begin[0] + side, begin[1] : begin[1] + side] = True
    return mask


def as_layers(masks):
    return np.stack([mask * (n + 1) for n, mask in enumerate(masks)]).astype(np.int32)


def walls_one_by_one(masks, width):
    """Return cells and walls by the four steps for each annotation, larger ones first."""
    cell = np.zeros(masks[0].shape, bool)
    wall = cell.copy()
    structure = np.ones((width,) * cell.ndim, bool)
    for mask in sorted(masks, key=lambda m: -int(m.sum())):
        grown = ndimage.binary_dilation(mask, structure)
        ring = grown & ~mask
        hit = ring & (cell | wall)
        wall = (wall & ~grown) | hit
        cell = (cell & ~ring) | mask
    return cell, wall


# A square of 6 and one of 4 that overlap by a column, touch, and have a gap of one.
@pytest.mark.parametrize(
    ("column", "width", "cells", "walls"),
    [
        (7, 3, 40, 8),
        (7, 5, 34, 14),
        (8, 3, 42 + 4, 6),
        (8, 5, 36 + 4, 12),
        (9, 3, 52, 0),
        (9, 5, 46, 6),
    ],
)
def test_walls_of_two_squares(column, width, cells, walls):
    masks = [square((10, 16), (2, 2), 6), square((10, 16), (3, column), 4)]
    found = make_targets(as_layers(masks), (1, 1), edges=EDGES, wall_width=width)
    assert (found.classes == CELL).sum() == cells
    assert (found.classes == WALL).sum() == walls


@given(
    npst.arrays(bool, (4, 9, 11), elements=st.booleans()).filter(
        lambda masks: len({int(m.sum()) for m in masks}) == 4
    ),
    st.sampled_from([3, 5, 7]),
)
@settings(max_examples=60)
def test_walls_are_those_of_painting_one_by_one(masks, width):
    cell, wall = walls_one_by_one(masks, width)
    found = find_walls(paint(as_layers(masks)).ranks, width)
    assert np.array_equal(found, wall)
    assert np.array_equal((masks.any(axis=0)) & ~found, cell)


def test_walls_need_an_odd_width():
    with pytest.raises(ValueError, match="must be odd and positive; got 4"):
        find_walls(np.ones((3, 3), np.int32), 4)


def test_the_smaller_annotation_is_on_top_whatever_its_number():
    large, small = square((8, 8), (0, 0), 6), square((8, 8), (4, 4), 3)
    for masks, on_top in (([large, small], 2), ([small, large], 1)):
        painted = paint(as_layers(masks))
        assert painted.labels[5, 5] == on_top
        assert (painted.labels == on_top).sum() == 9
        assert painted.areas[5, 5] == 9
        assert painted.areas[0, 0] == 36  # its whole area, not the part that shows


def test_labels_in_one_layer_stay_as_they_are():
    labels = np.array([[0, 7, 7, 300], [0, 0, 300, 300]], np.int32)
    assert np.array_equal(paint(labels[None]).labels, labels)


def test_input_is_not_changed():
    labels = np.array([[[0, 7, 7, 300]]], np.int32)
    before = labels.copy()
    make_targets(labels, (1, 1), edges=EDGES, wall_width=3, background_reach=5.0)
    assert np.array_equal(labels, before)


def blobs(shape, seed):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    labels = np.zeros(shape, np.int32)
    for number, level in enumerate(np.quantile(noise, [0.3, 0.6, 0.8]), start=1):
        labels[noise > level] = number
    return labels


@given(st.integers(0, 10**6), st.sampled_from([(12, 17), (6, 8, 9)]))
@settings(max_examples=15)
def test_depth_is_that_of_each_instance_alone(seed, shape):
    labels = blobs(shape, seed)
    spacing = (2.0, 1.0, 1.0)[-len(shape) :] if len(shape) == 3 else (1.0, 1.0)
    depth = make_targets(labels[None], spacing, edges=EDGES).depth
    for number in np.unique(labels[labels > 0]):
        mask = labels == number
        alone = ndimage.distance_transform_edt(mask, sampling=spacing)
        assert np.allclose(depth[mask], alone[mask], atol=1e-5)


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_depth_does_not_change_with_a_mirrored_rim(seed):
    labels = blobs((14, 15), seed)
    padded = np.pad(labels, 9, mode="symmetric")
    whole = make_targets(padded[None], (1, 1), edges=EDGES).depth[9:-9, 9:-9]
    assert np.allclose(make_targets(labels[None], (1, 1), edges=EDGES).depth, whole, atol=1e-5)


def test_the_border_of_the_image_is_no_wall():
    labels = np.ones((1, 5, 9), np.int32)
    labels[0, :, 6:] = 0
    found = make_targets(labels, (1, 1), edges=EDGES)
    assert found.depth[2].tolist() == [6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert np.array_equal(found.directions[1, :, :6], -np.ones((5, 6)))
    assert not found.directions[0].any()


def test_an_instance_that_fills_the_image_has_no_direction():
    found = make_targets(np.ones((1, 4, 5), np.int32), (1, 1), edges=EDGES)
    assert np.isfinite(found.depth).all()
    assert not found.directions.any()


@pytest.mark.parametrize("background_reach", [None, 6.0])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10)
def test_directions_have_length_one_or_none(background_reach, seed):
    labels = blobs((24, 25), seed)
    found = make_targets(labels[None], (1, 1), edges=EDGES, background_reach=background_reach)
    length = np.sqrt((found.directions**2).sum(axis=0))
    assert np.all((np.abs(length - 1) < 1e-5) | (length == 0))
    if background_reach is None:
        assert not length[labels == 0].any()
    else:
        assert length[labels == 0].any()


def test_directions_of_a_disc_point_to_its_centre():
    y, x = np.mgrid[-20:21, -20:21]
    labels = (np.hypot(y, x) < 18).astype(np.int32)
    found = make_targets(labels[None], (1, 1), edges=EDGES)
    rim = (labels > 0) & (found.depth < 6)
    expected = -np.stack([y, x]) / np.maximum(np.hypot(y, x), 1)
    cosine = (found.directions * expected).sum(axis=0)[rim]
    assert np.rad2deg(np.arccos(cosine.clip(-1, 1))).mean() < 4


def test_directions_are_those_from_the_nearest_boundary():
    """Half the gradient of the squared distance is the way from the nearest boundary voxel."""
    y, x = np.mgrid[:60, :70]
    labels = ((((y - 28) / 22) ** 2 + ((x - 34) / 30) ** 2) < 1).astype(np.int32)
    found = make_targets(labels[None], (1, 1), edges=EDGES)
    _, (ny, nx) = ndimage.distance_transform_edt(labels, return_indices=True)
    way = np.stack([y - ny, x - nx]) / np.maximum(np.hypot(y - ny, x - nx), 1)
    cosine = (found.directions * way).sum(axis=0)[(labels > 0) & (found.depth < 15)]
    assert np.mean(cosine) > 0.96  # the rest are the steps of the outline


def test_touching_instances_do_not_change_each_others_directions():
    labels = np.zeros((9, 20), np.int32)
    labels[:, 2:10], labels[:, 10:18] = 1, 2
    both = make_targets(labels[None], (1, 1), edges=EDGES)
    alone = make_targets(np.where(labels == 1, 1, 0)[None], (1, 1), edges=EDGES)
    assert np.array_equal(both.directions[:, labels == 1], alone.directions[:, labels == 1])
    # at the border they point away from each other
    assert both.directions[1, 4, 9] == -1
    assert both.directions[1, 4, 10] == 1


def test_background_as_label_keeps_unit_vectors_at_the_rim():
    labels = np.zeros((21, 30), np.int32)
    labels[4:17, 5:14], labels[4:17, 14:23] = 1, 2
    found = make_targets(labels[None], (1, 1), edges=EDGES, background_reach=20.0)
    assert found.directions[1, 10, 4] == -1
    assert found.directions[1, 10, 5] == 1
    inside_out = np.sqrt((found.directions**2).sum(axis=0))
    rim = ndimage.binary_dilation(labels > 0) & (found.depth <= 1)
    assert (inside_out[rim] > 0.999).all()
    assert not found.depth[labels == 0].any()
    assert not found.levels[labels == 0].any()
    near = make_targets(labels[None], (1, 1), edges=EDGES, background_reach=2.0)
    assert near.directions[1, 10, 3] == -1
    assert not near.directions[:, 10, 1].any()


SYMMETRIES = [*flips(2), *plane_rotations_and_flips(2)]


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_turning_the_image_turns_the_vectors(symmetry):
    labels = blobs((18, 23), 5)
    made = make_targets(labels[None], (1, 1), edges=EDGES, background_reach=9.0)
    turned = make_targets(symmetry.apply(labels)[None], (1, 1), edges=EDGES, background_reach=9.0)
    head = DirectionHead("directions", 2, "none", "k")
    assert np.allclose(head.turn(made.directions, symmetry), turned.directions, atol=1e-5)
    assert np.array_equal(symmetry.apply(made.levels), turned.levels)


def test_a_volume_of_one_section_has_the_targets_of_the_image():
    labels = blobs((15, 16), 3)
    flat = make_targets(labels[None], (1, 1), edges=EDGES, wall_width=3)
    deep = make_targets(labels[None, None], (1, 1, 1), edges=EDGES, wall_width=3)
    assert np.array_equal(flat.classes, deep.classes[0])
    assert np.array_equal(flat.levels, deep.levels[0])
    assert np.allclose(flat.directions, deep.directions[1:, 0])
    assert not deep.directions[0].any()


def test_depth_counts_in_the_smallest_side_of_a_voxel():
    labels = blobs((15, 16), 3)[None]
    one = make_targets(labels, (1, 2), edges=EDGES)
    other = make_targets(labels, (0.3, 0.6), edges=EDGES)
    assert np.allclose(one.depth, other.depth, atol=1e-5)
    assert np.array_equal(one.levels, other.levels)


def test_levels_ascend_with_depth_and_none_is_empty_on_a_ramp():
    y, x = np.mgrid[-25:26, -25:26]
    found = make_targets((np.hypot(y, x) < 24)[None].astype(np.int32), (1, 1), edges=EDGES)
    assert np.array_equal(np.unique(found.levels), np.arange(len(EDGES) + 1))
    order = np.argsort(found.depth.ravel())
    assert (np.diff(found.levels.ravel()[order].astype(int)) >= 0).all()


def test_levels_do_not_depend_on_rounding_of_distances():
    depths = np.sqrt(np.arange(1, 500))
    for nudge in (1 - 3e-7, 1.0, 1 + 3e-7):
        assert np.array_equal(
            find_levels((depths * nudge).astype(np.float32), EDGES),
            find_levels(depths.astype(np.float32), EDGES),
        )


def test_context_of_a_crop_makes_its_targets_those_of_the_image(method):
    labels = blobs((90, 95), 8)
    whole = make_targets(labels[None], (1, 1), edges=method.settings.edges)
    c = method.context[0]
    crop = labels[30 - c : 60 + c, 35 - c : 65 + c]
    made = method.targets(crop[None], (1, 1))
    inner = (slice(30, 60), slice(35, 65))
    assert np.array_equal(made["levels"][0], whole.levels[inner])
    assert np.array_equal(made["classes"][0], whole.classes[inner])
    near = whole.depth[inner] < EDGES[-1]
    expected = whole.directions[:, *inner]
    assert np.allclose(made["directions"][:, near], expected[:, near], atol=1e-4)


def test_a_thin_line_has_directions_at_its_ends_only():
    labels = np.zeros((5, 13), np.int32)
    labels[2, 1:12] = 1
    found = find_directions(labels, labels.astype(np.float32), (1, 1))
    # inwards from either end, over the reach of the mean; elsewhere the sides balance
    assert found[1, 2].tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0, -1, -1, -1, 0]
    assert not found[0].any()
