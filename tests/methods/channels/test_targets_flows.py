"""Targets of flows, against heat that spreads voxel by voxel."""

import itertools

import numpy as np
import pytest

from instaseg.methods.channels import channels_from_labels


def plain_flow(labels, spacing):
    """Spread heat as the definition says, over the whole array for each instance."""
    ndim = labels.ndim
    found = np.zeros((ndim, *labels.shape))
    for label in np.unique(labels[labels > 0]):
        own = np.pad(labels == label, 1)
        places = np.argwhere(own)
        away = ((places - places.mean(axis=0)) * spacing) ** 2
        middle = tuple(places[np.round(away.sum(axis=1), 6).argmin()])
        sides = np.ptp(places, axis=0) + 1
        rounds = 2 * (sides.sum() + 4) if ndim == 2 else 6 * (sides.sum() + 3)
        heat = np.zeros(own.shape)
        for _ in range(rounds):
            heat[middle] += 1
            ways = itertools.product((-1, 0, 1), repeat=ndim)
            total = sum(np.roll(heat, way, range(ndim)) for way in ways)
            heat = np.where(own, total / 3**ndim, 0)
        slopes = np.stack(
            [
                (np.roll(heat, -1, axis) - np.roll(heat, 1, axis)) / (2 * spacing[axis])
                for axis in range(ndim)
            ]
        )
        slopes[:, np.linalg.norm(slopes, axis=0) < 1e-9 * heat] = 0
        length = np.linalg.norm(slopes, axis=0)
        unit = np.divide(slopes, length, out=np.zeros_like(slopes), where=own & (length > 0))
        found += unit[(slice(None), *(slice(1, -1),) * ndim)]
    return found


@pytest.mark.parametrize("spacing", [(1, 1), (2, 1)])
def test_images(many_labels, spacing):
    labels = many_labels[:40, :40]
    found = channels_from_labels(labels, ["flow"], spacing)
    np.testing.assert_allclose(found, plain_flow(labels, spacing), atol=1e-5)


def test_volumes():
    labels = np.zeros((6, 9, 10), np.int32)
    labels[1:5, 1:8, 1:5] = 1
    labels[2:6, 2:9, 5:9] = 2
    found = channels_from_labels(labels, ["flow"], (3, 1, 1))
    np.testing.assert_allclose(found, plain_flow(labels, (3, 1, 1)), atol=1e-5)


def test_flows_have_unit_length_and_point_to_the_middle():
    labels = np.zeros((11, 11), np.int32)
    labels[1:10, 1:10] = 1
    found = channels_from_labels(labels, ["flow"])
    length = np.linalg.norm(found, axis=0)
    assert length[5, 5] == 0
    assert np.allclose(length[labels > 0].sum(), 80, rtol=1e-6)
    assert found[:, 5, 2].tolist() == [0, 1]
    assert found[:, 8, 5].tolist() == [-1, 0]


def test_flows_go_around_corners():
    labels = np.zeros((12, 12), np.int32)
    labels[1:11, 1:3] = 1
    labels[9:11, 1:11] = 1  # an L
    found = channels_from_labels(labels, ["flow"])
    assert found[0, 2, 1] > 0.9
    assert found[1, 10, 9] < -0.9


def test_long_instances_have_a_flow_at_their_ends():
    labels = np.zeros((3, 300), np.int32)
    labels[1, 5:295] = 1
    found = channels_from_labels(labels, ["flow"])
    assert np.isfinite(found).all()
    assert (found[1, 1, 5:149] == 1).all()
    assert (found[1, 1, 151:295] == -1).all()
