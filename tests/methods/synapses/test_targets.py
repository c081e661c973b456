"""Targets of crops: blobs, vectors; a crop's are the crop of the whole's."""

import numpy as np
import pytest

from instaseg.data.points import PointLayers
from instaseg.geometry import Box, whole
from instaseg.io.points import make_points
from instaseg.methods.synapses.targets import (
    blobs,
    find_sites,
    partners_of,
    point_targets,
    reach,
    vectors,
)

SHAPE, SPACING = (9, 30, 30), (4.0, 1.0, 1.0)


@pytest.fixture
def layers():
    """Return a presynaptic site with two postsynaptic ones, and one without partner."""
    places = [[4, 15, 15], [4, 15, 21], [5, 20, 15], [4, 5, 5]]
    return PointLayers(make_points([0, 1, 1, 1], places, partner=[-1, 0, 0, -1]), SHAPE)


def test_sites_are_found_where_they_are(layers):
    found = find_sites(layers.in_box(whole(SHAPE))[1])
    assert found.labels.tolist() == [2, 3, 4]
    assert found.places.tolist() == [[4, 15, 21], [5, 20, 15], [4, 5, 5]]


def test_blobs_are_highest_at_sites_and_physical():
    found = blobs(np.array([[4.0, 15, 15]]), 5.0, shape=SHAPE, spacing=SPACING)
    assert found[4, 15, 15] == 1
    # one section away is four units: as far as four columns, and two are too far
    assert found[5, 15, 15] == found[4, 15, 19] == pytest.approx(np.exp(-2 * 16 / 25))
    assert found[6, 15, 15] == 0
    assert found[4, 15, 20] == pytest.approx(np.exp(-2))
    assert found[4, 15, 21] == 0


def test_close_blobs_keep_their_peaks():
    found = blobs(np.array([[5.0, 5.0], [5.0, 8.0]]), 6.0, shape=(11, 14), spacing=(1, 1))
    assert found[5, 5] == found[5, 8] == 1
    assert found[5, 6] < 1


def test_vectors_added_to_positions_give_the_presynaptic_site(layers):
    post, pre = partners_of(layers.in_box(whole(SHAPE)))
    found = vectors(post, pre, 3.0, shape=SHAPE, spacing=SPACING)
    known = np.argwhere(found.known[0])
    ends = known * SPACING + found.vectors[(slice(None), *known.T)].T
    assert np.allclose(ends, np.array([4, 15, 15]) * SPACING)
    distance = np.linalg.norm((known[:, None] - post[:2]) * SPACING, axis=2).min(axis=1)
    assert distance.max() <= 3
    # none around the site without a partner
    assert not found.known[0, :, :10, :10].any()
    assert not found.vectors[:, ~found.known[0]].any()


def test_a_partner_outside_of_the_crop_is_not_known(layers):
    crop = layers.in_box(Box((0, 0, 18), (9, 30, 30)))
    post, pre = partners_of(crop)
    assert post.tolist() == [[4, 15, 3]]
    assert np.isnan(pre).all()
    assert not vectors(post, pre, 3.0, shape=crop.shape[1:], spacing=SPACING).known.any()


def test_where_cubes_of_two_sites_meet_each_keeps_its_partner():
    table = make_points([0, 1, 1], [[3, 3], [3, 9], [3, 10]], partner=[-1, -1, 0])
    post, pre = partners_of(PointLayers(table, (8, 14)).in_box(whole((8, 14))))
    assert len(post) == 2
    assert np.isnan(pre[0]).all()
    assert pre[1].tolist() == [3, 3]


@pytest.mark.parametrize("begin", [(2, 8, 8), (3, 10, 14), (0, 0, 3)])
def test_targets_of_a_crop_are_the_crop_of_the_targets(layers, begin):
    context = reach(5.0, SPACING)
    inner = Box(begin, tuple(b + n for b, n in zip(begin, (4, 10, 10), strict=True)))
    everything = layers.in_box(whole(SHAPE).grow(context))
    expected = point_targets(everything, ("pre", "post"), 5.0, context=context, spacing=SPACING)[
        (slice(None), *inner.slices)
    ]
    crop = layers.in_box(inner.grow(context))
    found = point_targets(crop, ("pre", "post"), 5.0, context=context, spacing=SPACING)
    assert found.shape == (2, 4, 10, 10)
    assert np.allclose(found, expected, atol=1e-6)


def test_a_volume_of_one_section_is_as_the_section():
    flat = blobs(np.array([[5.0, 6.0]]), 3.0, shape=(11, 12), spacing=(1, 2))
    deep = blobs(np.array([[0.0, 5.0, 6.0]]), 3.0, shape=(1, 11, 12), spacing=(9, 1, 2))
    assert np.array_equal(flat, deep[0])
